# What the binding uses of tpio_core.h.
from libc.stdint cimport int64_t, uint64_t

cdef extern from "tpio_core.h" nogil:
    ctypedef unsigned long DWORD
    ctypedef int BOOL
    ctypedef long LONG
    ctypedef long long LONG64
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

    ctypedef struct tpio_message_args:
        int name_size
        DWORD flags

    ctypedef struct tpio_poll_info:
        LONG status

    ctypedef struct tpio_poll_args:
        tpio_poll_info info

    ctypedef union tpio_args:
        tpio_message_args message
        tpio_poll_args poll

    ctypedef struct tpio_op:
        tpio_complete_fn complete
        void *user
        tpio_op *next
        tpio_pool *pool
        DWORD error
        DWORD bytes
        tpio_args args

    const uint64_t TPIO_APPEND
    const size_t TPIO_ADDRESS_SIZE

    ctypedef enum tpio_verb:
        TPIO_READ
        TPIO_WRITE
        TPIO_RECV
        TPIO_SEND
        TPIO_RECV_FROM
        TPIO_SEND_TO
        TPIO_CONNECT_PIPE
        TPIO_ACCEPT
        TPIO_CONNECT
        TPIO_DISCONNECT
        TPIO_TRANSMIT
        TPIO_IOCTL
        TPIO_LOCK
        TPIO_WATCH
        TPIO_POLL
    tpio_status tpio_op_classify(tpio_verb verb, DWORD error, int skip)
    tpio_status tpio_op_cancel(tpio_op *op)

    ctypedef struct tpio_pool_stats:
        LONG64 pending, submitted, completed, cancelled, failed
        LONG handles, threads

    ctypedef struct tpio_pool_options:
        DWORD min_threads, max_threads
        int priority
        BOOL runs_long

    DWORD tpio_pool_create(const tpio_pool_options *options, tpio_pool **pool)
    void tpio_pool_close(tpio_pool *pool)
    void tpio_pool_cancel_work(tpio_pool *pool)
    BOOL tpio_pool_drain(tpio_pool *pool, DWORD milliseconds)
    void tpio_pool_unref(tpio_pool *pool)
    BOOL tpio_pool_closing(tpio_pool *pool)
    void tpio_pool_get_stats(tpio_pool *pool, tpio_pool_stats *stats)

    enum:
        TPIO_OWNS
        TPIO_SOCKET
        TPIO_SKIP
    ctypedef enum tpio_bind_error:
        TPIO_BIND_OTHER
        TPIO_BIND_NOT_OVERLAPPED
        TPIO_BIND_ALREADY_BOUND

    DWORD tpio_handle_bind(tpio_pool *pool, HANDLE file, unsigned flags, tpio_handle **handle, tpio_bind_error *why)
    void tpio_handle_close(tpio_handle *handle)
    BOOL tpio_handle_cancel(tpio_handle *handle)
    HANDLE tpio_handle_detach(tpio_handle *handle)
    HANDLE tpio_handle_file(tpio_handle *handle)
    void tpio_handle_unref(tpio_handle *handle)

    tpio_status tpio_read(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, uint64_t offset)
    tpio_status tpio_write(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, uint64_t offset)
    tpio_status tpio_recv(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags)
    tpio_status tpio_send(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags)
    tpio_status tpio_recv_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
    tpio_status tpio_send_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
    tpio_status tpio_recv_from(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags,
                               sockaddr *name, int name_size)
    tpio_status tpio_send_to(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags,
                             const sockaddr *name, int name_size)
    tpio_status tpio_connect_pipe(tpio_op *op, tpio_handle *handle)
    tpio_status tpio_accept(tpio_op *op, tpio_handle *handle, SOCKET socket, void *buffer, DWORD data_size)
    tpio_status tpio_connect(tpio_op *op, tpio_handle *handle, const sockaddr *name, int name_size)
    tpio_status tpio_disconnect(tpio_op *op, tpio_handle *handle)
    tpio_status tpio_transmit(tpio_op *op, tpio_handle *handle, HANDLE file, DWORD size, uint64_t offset)
    tpio_status tpio_ioctl(tpio_op *op, tpio_handle *handle, DWORD code, const void *input, DWORD input_size,
                           void *output, DWORD output_size)
    tpio_status tpio_lock(tpio_op *op, tpio_handle *handle, uint64_t offset, uint64_t length, BOOL exclusive)
    tpio_status tpio_watch(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD filter, BOOL recursive)
    enum:
        TPIO_POLL_ABORT
        TPIO_POLL_CONNECT_FAIL
        TPIO_POLL_LOCAL_CLOSE
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

    ctypedef struct tpio_queue:
        void *top
    BOOL tpio_queue_put(tpio_queue *queue, tpio_op *op)
    tpio_op *tpio_queue_take(tpio_queue *queue)

    DWORD tpio_init()
    ctypedef struct tpio_thread:
        tpio_pool *pool
        LONG depth
        void *instance
        HANDLE event
        void *attached
        tpio_op *carried
        LONG nested
        LONG calling
    tpio_thread *tpio_thread_current()
    void tpio_callback_may_block(void *instance)
    void tpio_thread_on_exit(void (*fn)(tpio_thread *thread) noexcept nogil)

# What the binding uses of Windows itself.
cdef extern from "tpio_win32.h" nogil:
    ctypedef unsigned short WCHAR "wchar_t"
    enum:
        ERROR_SUCCESS
        ERROR_INVALID_HANDLE
        ERROR_NOT_ENOUGH_MEMORY
        ERROR_HANDLE_EOF
        ERROR_BROKEN_PIPE
        ERROR_SEM_TIMEOUT
        ERROR_NETNAME_DELETED
        ERROR_NO_DATA
        ERROR_PIPE_NOT_CONNECTED
        ERROR_MORE_DATA
        WSAEMSGSIZE
        WSAENOTSOCK
        WSAECONNRESET
        ERROR_OPERATION_ABORTED
        ERROR_CONNECTION_REFUSED
        ERROR_CONNECTION_ABORTED
        ERROR_TIMEOUT
        WAIT_TIMEOUT
        WAIT_OBJECT_0
        WAIT_FAILED
        INFINITE
        FILE_TYPE_UNKNOWN
        FILE_TYPE_DISK
        FILE_TYPE_CHAR
        FILE_TYPE_PIPE
        PIPE_READMODE_MESSAGE
        SOL_SOCKET
        SO_TYPE
        SO_MAX_MSG_SIZE
        SOCK_STREAM

    HANDLE INVALID_HANDLE_VALUE
    DWORD GetLastError()
    void SetLastError(DWORD error)
    DWORD GetFileType(HANDLE file)
    BOOL GetNamedPipeInfo(HANDLE pipe, DWORD *flags, DWORD *a, DWORD *b, DWORD *c)
    BOOL PeekNamedPipe(HANDLE pipe, void *to, DWORD size, DWORD *taken, DWORD *available, DWORD *left)
    BOOL GetNamedPipeHandleStateW(HANDLE pipe, DWORD *state, DWORD *instances, DWORD *a, DWORD *b, void *c, DWORD d)
    int getsockopt(SOCKET socket, int level, int option, char *value, int *size)

    HANDLE CreateEventW(void *security, BOOL manual, BOOL signalled, void *name)
    BOOL SetEvent(HANDLE event)
    BOOL ResetEvent(HANDLE event)
    BOOL CloseHandle(HANDLE handle)
    DWORD WaitForSingleObject(HANDLE handle, DWORD milliseconds)
    DWORD WaitForMultipleObjects(DWORD count, const HANDLE *handles, BOOL all, DWORD milliseconds)
    unsigned long long GetTickCount64()
    HANDLE CreateThread(void *security, size_t stack, void *start, void *argument, DWORD flags, DWORD *id)

    LONG InterlockedIncrement(LONG *value)
    LONG InterlockedDecrement(LONG *value)
    LONG InterlockedExchange(LONG *value, LONG new)
    LONG InterlockedCompareExchange(LONG *value, LONG new, LONG old)
    void *InterlockedExchangePointer(void **value, void *new)
    void *InterlockedCompareExchangePointer(void **value, void *new, void *old)
    LONG64 InterlockedIncrement64(LONG64 *value)
    LONG64 InterlockedExchange64(LONG64 *value, LONG64 new)
    LONG64 InterlockedExchangeAdd64(LONG64 *value, LONG64 by)
    LONG64 InterlockedCompareExchange64(LONG64 *value, LONG64 new, LONG64 old)
    BOOL WaitOnAddress(void *address, void *compare, size_t size, DWORD milliseconds)
    void WakeByAddressAll(void *address)
    void Sleep(DWORD milliseconds)
