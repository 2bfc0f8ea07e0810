# cimport tpio: the C API for Cython. What each function does, who owns what, and on which thread: tpio.h, tpio_core.h.
#
#     cimport tpio
#     tpio.tpio_import()          # once, at module level
#
from libc.stdint cimport int64_t, uint64_t


cdef extern from "tpio.h" nogil:
    ctypedef unsigned long DWORD
    ctypedef int BOOL
    ctypedef void *HANDLE
    ctypedef size_t SOCKET
    cdef struct sockaddr:
        pass
    ctypedef struct WSABUF:
        unsigned long len
        char *buf

    ctypedef struct tpio_pool:
        pass
    ctypedef struct tpio_handle:
        pass
    ctypedef void (*tpio_tail_fn)() noexcept nogil
    ctypedef tpio_tail_fn (*tpio_complete_fn)(tpio_op *op) noexcept nogil

    ctypedef enum tpio_status:
        TPIO_PENDING
        TPIO_DONE
        TPIO_CLOSED

    ctypedef struct tpio_op:
        tpio_complete_fn complete
        void *user
        tpio_op *next
        DWORD error
        DWORD bytes

    ctypedef struct tpio_pool_options:
        DWORD min_threads
        DWORD max_threads
        int priority
        BOOL runs_long
    ctypedef struct tpio_pool_stats:
        long long pending, submitted, completed, cancelled, failed
        long handles, threads
    ctypedef enum tpio_bind_error:
        TPIO_BIND_OTHER
        TPIO_BIND_NOT_OVERLAPPED
        TPIO_BIND_ALREADY_BOUND
    enum:
        TPIO_OWNS
        TPIO_SOCKET
        TPIO_SKIP
    const size_t TPIO_ADDRESS_SIZE
    const uint64_t TPIO_APPEND

    tpio_status tpio_op_cancel(tpio_op *op)
    DWORD tpio_pool_create(const tpio_pool_options *options, tpio_pool **pool)
    void tpio_pool_close(tpio_pool *pool)
    BOOL tpio_pool_drain(tpio_pool *pool, DWORD milliseconds)
    void tpio_pool_ref(tpio_pool *pool)
    void tpio_pool_unref(tpio_pool *pool)
    void tpio_pool_get_stats(tpio_pool *pool, tpio_pool_stats *stats)
    DWORD tpio_handle_bind(tpio_pool *pool, HANDLE file, unsigned flags, tpio_handle **handle, tpio_bind_error *why)
    void tpio_handle_close(tpio_handle *handle)
    BOOL tpio_handle_cancel(tpio_handle *handle)
    HANDLE tpio_handle_detach(tpio_handle *handle)
    HANDLE tpio_handle_file(tpio_handle *handle)
    void tpio_handle_ref(tpio_handle *handle)
    void tpio_handle_unref(tpio_handle *handle)
    tpio_status tpio_read(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, uint64_t offset)
    tpio_status tpio_write(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, uint64_t offset)
    tpio_status tpio_recv(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags)
    tpio_status tpio_send(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags)
    tpio_status tpio_recv_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
    tpio_status tpio_send_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
    tpio_status tpio_recv_from(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags, sockaddr *name,
                               int name_size)
    tpio_status tpio_send_to(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags,
                             const sockaddr *name, int name_size)
    tpio_status tpio_connect_pipe(tpio_op *op, tpio_handle *handle)
    tpio_status tpio_accept(tpio_op *op, tpio_handle *handle, SOCKET socket, void *buffer, DWORD data_size)
    tpio_status tpio_connect(tpio_op *op, tpio_handle *handle, const sockaddr *name, int name_size)
    tpio_status tpio_disconnect(tpio_op *op, tpio_handle *handle)
    tpio_status tpio_transmit(tpio_op *op, tpio_handle *handle, HANDLE file, DWORD size, uint64_t offset)
    tpio_status tpio_ioctl(tpio_op *op, tpio_handle *handle, DWORD code, const void *input, DWORD input_size, void *output,
                           DWORD output_size)
    tpio_status tpio_lock(tpio_op *op, tpio_handle *handle, uint64_t offset, uint64_t length, BOOL exclusive)
    tpio_status tpio_watch(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD filter, BOOL recursive)
    enum:
        TPIO_POLL_RECEIVE
        TPIO_POLL_EXPEDITED
        TPIO_POLL_SEND
        TPIO_POLL_DISCONNECT
        TPIO_POLL_ABORT
        TPIO_POLL_LOCAL_CLOSE
        TPIO_POLL_ACCEPT
        TPIO_POLL_CONNECT_FAIL
        TPIO_POLL_READABLE
        TPIO_POLL_WRITABLE
    tpio_status tpio_poll_handle(tpio_op *op, tpio_handle *handle, unsigned long events)
    tpio_status tpio_poll(tpio_op *op, tpio_pool *pool, HANDLE base, unsigned long events)
    DWORD tpio_socket_base(SOCKET socket, HANDLE *base)
    int tpio_socket_accepted(SOCKET socket, SOCKET listener)
    int tpio_socket_connected(SOCKET socket)
    tpio_status tpio_sleep(tpio_op *op, tpio_pool *pool, int64_t nanoseconds, DWORD window)
    tpio_status tpio_work(tpio_op *op, tpio_pool *pool)
    tpio_status tpio_wait(tpio_op *op, tpio_pool *pool, HANDLE object, DWORD milliseconds)


cdef extern from "tpio.h":
    int tpio_import() except -1
    tpio_handle *tpio_handle_of(object handle) except NULL
    tpio_pool *tpio_pool_of(object pool) except NULL
    tpio_pool *tpio_default_pool() except NULL
