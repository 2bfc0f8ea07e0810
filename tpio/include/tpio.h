/* tpio.h: the C API of tpio, for other extension modules.
 *
 * The functions are those of tpio_core.h that tpio_api below lists, reached through a capsule: there is nothing to link with.
 * They know nothing of Python; callbacks run on the pool's threads without the GIL.
 *
 *     #include <Python.h>
 *     #include "tpio.h"
 *
 *     static tpio_tail_fn on_read(tpio_op *op)
 *     {
 *         struct connection *c = op->user;
 *         ...                                   // op->error, op->bytes; submit the next operation
 *         return NULL;                          // or a function that may block
 *     }
 *
 *     if (tpio_import() < 0)                    // once, in the module's init, with the GIL
 *         return NULL;
 *     tpio_handle *h = tpio_handle_of(object);  // of a tpio.Handle, with the GIL
 *     c->op.complete = on_read;
 *     c->op.user = c;
 *     switch (tpio_recv(&c->op, h, c->buffer, sizeof c->buffer, 0)) { ... }
 *
 * examples/echo_c and examples/echo_cython are whole extension modules.
 *
 * Ownership. An operation is yours, never moves, and stays until it has completed. A tpio_handle that you have bound
 * yourself is closed with tpio_handle_close and let go of with tpio_handle_unref. One that you got from tpio_handle_of is
 * the Python object's: keep that alive, or take a reference with tpio_handle_ref; submits say TPIO_CLOSED once it has
 * been closed. Pools likewise.
 *
 * One verb is one system call. Python makes a write of more than 0x7FFFF000 bytes of several calls: do not write from C to
 * the same stream meanwhile. A read that ends with no error and no bytes is the end of a file or a connection; of a pipe it is
 * an empty write of the peer, and the end of a pipe is ERROR_BROKEN_PIPE.
 *
 * At interpreter exit every pool is closed, which completes what is pending with ERROR_OPERATION_ABORTED; submits then
 * return TPIO_CLOSED. A callback that takes the GIL must not do so after that: keep what it does in C.
 *
 * The version goes up when something is removed or changes its meaning; additions come at the end and leave it alone.
 */
#ifndef TPIO_H
#define TPIO_H

#include <Python.h>

#include "tpio_core.h"

#define TPIO_API_VERSION 1
#define TPIO_API_CAPSULE "tpio._tpio._C_API"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tpio_api {
    unsigned version;
    unsigned size;    /* of this structure */
    unsigned op_size; /* sizeof(tpio_op) */

    tpio_status (*op_cancel)(tpio_op *op);
    DWORD (*pool_create)(const tpio_pool_options *options, tpio_pool **pool);
    void (*pool_close)(tpio_pool *pool);
    BOOL (*pool_drain)(tpio_pool *pool, DWORD milliseconds);
    void (*pool_ref)(tpio_pool *pool);
    void (*pool_unref)(tpio_pool *pool);
    void (*pool_get_stats)(tpio_pool *pool, tpio_pool_stats *stats);
    DWORD (*handle_bind)(tpio_pool *pool, HANDLE file, unsigned flags, tpio_handle **handle, tpio_bind_error *why);
    void (*handle_close)(tpio_handle *handle);
    BOOL (*handle_cancel)(tpio_handle *handle);
    HANDLE (*handle_detach)(tpio_handle *handle);
    HANDLE (*handle_file)(tpio_handle *handle);
    void (*handle_ref)(tpio_handle *handle);
    void (*handle_unref)(tpio_handle *handle);
    tpio_status (*read)(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, uint64_t offset);
    tpio_status (*write)(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, uint64_t offset);
    tpio_status (*recv)(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags);
    tpio_status (*send)(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags);
    tpio_status (*recv_list)(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags);
    tpio_status (*send_list)(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags);
    tpio_status (*recv_from)(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags,
                             struct sockaddr *name, int name_size);
    tpio_status (*send_to)(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags,
                           const struct sockaddr *name, int name_size);
    tpio_status (*connect_pipe)(tpio_op *op, tpio_handle *handle);
    tpio_status (*accept)(tpio_op *op, tpio_handle *handle, SOCKET socket, void *buffer, DWORD data_size);
    tpio_status (*connect)(tpio_op *op, tpio_handle *handle, const struct sockaddr *name, int name_size);
    tpio_status (*disconnect)(tpio_op *op, tpio_handle *handle);
    tpio_status (*transmit)(tpio_op *op, tpio_handle *handle, HANDLE file, DWORD size, uint64_t offset);
    tpio_status (*ioctl)(tpio_op *op, tpio_handle *handle, DWORD code, const void *input, DWORD input_size, void *output,
                         DWORD output_size);
    tpio_status (*lock)(tpio_op *op, tpio_handle *handle, uint64_t offset, uint64_t length, BOOL exclusive);
    tpio_status (*watch)(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD filter, BOOL recursive);
    tpio_status (*poll_handle)(tpio_op *op, tpio_handle *handle, ULONG events);
    tpio_status (*poll)(tpio_op *op, tpio_pool *pool, HANDLE base, ULONG events);
    DWORD (*socket_base)(SOCKET socket, HANDLE *base);
    int (*socket_accepted)(SOCKET socket, SOCKET listener);
    int (*socket_connected)(SOCKET socket);
    tpio_status (*sleep)(tpio_op *op, tpio_pool *pool, int64_t nanoseconds, DWORD window);
    tpio_status (*work)(tpio_op *op, tpio_pool *pool);
    tpio_status (*wait)(tpio_op *op, tpio_pool *pool, HANDLE object, DWORD milliseconds);

    /* With the GIL. Borrowed from the Python object; NULL with an exception set if it is something else, or closed. */
    tpio_handle *(*handle_of)(PyObject *object);
    tpio_pool *(*pool_of)(PyObject *object);
    tpio_pool *(*default_pool)(void); /* the process's own */
} tpio_api;

#ifndef TPIO_IMPLEMENTATION

/* Each source file that uses the API has its own pointer to it. */
static const tpio_api *tpio_api_;

/* Finds the API. With the GIL; 0, or -1 with ImportError set. */
static inline int tpio_import(void)
{
    const tpio_api *api = (const tpio_api *)PyCapsule_Import(TPIO_API_CAPSULE, 0);

    if (api == NULL)
        return -1;
    if (api->version != TPIO_API_VERSION || api->size < sizeof *api || api->op_size != sizeof(tpio_op)) {
        PyErr_Format(PyExc_ImportError, "tpio's C API is of version %u, and this module was built for %u", api->version,
                     TPIO_API_VERSION);
        return -1;
    }
    tpio_api_ = api;
    return 0;
}

#define tpio_op_cancel tpio_api_->op_cancel
#define tpio_pool_create tpio_api_->pool_create
#define tpio_pool_close tpio_api_->pool_close
#define tpio_pool_drain tpio_api_->pool_drain
#define tpio_pool_ref tpio_api_->pool_ref
#define tpio_pool_unref tpio_api_->pool_unref
#define tpio_pool_get_stats tpio_api_->pool_get_stats
#define tpio_handle_bind tpio_api_->handle_bind
#define tpio_handle_close tpio_api_->handle_close
#define tpio_handle_cancel tpio_api_->handle_cancel
#define tpio_handle_detach tpio_api_->handle_detach
#define tpio_handle_file tpio_api_->handle_file
#define tpio_handle_ref tpio_api_->handle_ref
#define tpio_handle_unref tpio_api_->handle_unref
#define tpio_read tpio_api_->read
#define tpio_write tpio_api_->write
#define tpio_recv tpio_api_->recv
#define tpio_send tpio_api_->send
#define tpio_recv_list tpio_api_->recv_list
#define tpio_send_list tpio_api_->send_list
#define tpio_recv_from tpio_api_->recv_from
#define tpio_send_to tpio_api_->send_to
#define tpio_connect_pipe tpio_api_->connect_pipe
#define tpio_accept tpio_api_->accept
#define tpio_connect tpio_api_->connect
#define tpio_disconnect tpio_api_->disconnect
#define tpio_transmit tpio_api_->transmit
#define tpio_ioctl tpio_api_->ioctl
#define tpio_lock tpio_api_->lock
#define tpio_watch tpio_api_->watch
#define tpio_poll_handle tpio_api_->poll_handle
#define tpio_poll tpio_api_->poll
#define tpio_socket_base tpio_api_->socket_base
#define tpio_socket_accepted tpio_api_->socket_accepted
#define tpio_socket_connected tpio_api_->socket_connected
#define tpio_sleep tpio_api_->sleep
#define tpio_work tpio_api_->work
#define tpio_wait tpio_api_->wait
#define tpio_handle_of tpio_api_->handle_of
#define tpio_pool_of tpio_api_->pool_of
#define tpio_default_pool tpio_api_->default_pool

#endif

#ifdef __cplusplus
}
#endif

#endif
