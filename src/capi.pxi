# The C API: the core's functions in a table, behind a capsule. See tpio/include/tpio.h.

cdef tpio_handle *api_handle_of(object obj) except NULL:
    if not isinstance(obj, Handle):
        raise TypeError(f"a tpio.Handle is needed, not {type(obj).__name__!r}")
    (<Handle>obj).require_bound()
    return (<Handle>obj).native


cdef tpio_pool *api_pool_of(object obj) except NULL:
    if not isinstance(obj, PoolBase):
        raise TypeError(f"a tpio.Pool is needed, not {type(obj).__name__!r}")
    (<PoolBase>obj).require_open()
    return (<PoolBase>obj).native


cdef tpio_pool *api_default_pool() except NULL:
    return api_pool_of(default_pool())


cdef extern from *:
    """
    #define TPIO_IMPLEMENTATION
    #include "tpio.h"

    static tpio_api tpio_the_api = {
        .version = TPIO_API_VERSION,
        .size = sizeof(tpio_api),
        .op_size = sizeof(tpio_op),
        .op_cancel = tpio_op_cancel,
        .pool_create = tpio_pool_create,
        .pool_close = tpio_pool_close,
        .pool_drain = tpio_pool_drain,
        .pool_ref = tpio_pool_ref,
        .pool_unref = tpio_pool_unref,
        .pool_get_stats = tpio_pool_get_stats,
        .handle_bind = tpio_handle_bind,
        .handle_close = tpio_handle_close,
        .handle_cancel = tpio_handle_cancel,
        .handle_detach = tpio_handle_detach,
        .handle_file = tpio_handle_file,
        .handle_ref = tpio_handle_ref,
        .handle_unref = tpio_handle_unref,
        .read = tpio_read,
        .write = tpio_write,
        .recv = tpio_recv,
        .send = tpio_send,
        .recv_list = tpio_recv_list,
        .send_list = tpio_send_list,
        .recv_from = tpio_recv_from,
        .send_to = tpio_send_to,
        .connect_pipe = tpio_connect_pipe,
        .accept = tpio_accept,
        .connect = tpio_connect,
        .disconnect = tpio_disconnect,
        .transmit = tpio_transmit,
        .ioctl = tpio_ioctl,
        .lock = tpio_lock,
        .watch = tpio_watch,
        .poll_handle = tpio_poll_handle,
        .poll = tpio_poll,
        .socket_base = tpio_socket_base,
        .socket_accepted = tpio_socket_accepted,
        .socket_connected = tpio_socket_connected,
        .sleep = tpio_sleep,
        .work = tpio_work,
        .wait = tpio_wait,
    };
    """
    ctypedef struct tpio_api:
        tpio_handle *(*handle_of)(object obj) except NULL
        tpio_pool *(*pool_of)(object obj) except NULL
        tpio_pool *(*default_pool)() except NULL
    tpio_api tpio_the_api

tpio_the_api.handle_of = api_handle_of
tpio_the_api.pool_of = api_pool_of
tpio_the_api.default_pool = api_default_pool
_C_API = PyCapsule_New(&tpio_the_api, "tpio._tpio._C_API", NULL)
