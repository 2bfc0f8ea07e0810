/* tpio_core.h: asynchronous I/O on the Windows thread pool, in C and without Python.
 *
 * The model. A *pool* is a private thread pool of the operating system. A *handle* binds an overlapped file, pipe or
 * socket to a pool. An *operation* (tpio_op) is one overlapped call: the caller allocates it, a verb such as tpio_read
 * submits it, and it belongs to the operating system until it completes. Completion calls op->complete once, on a
 * thread of the pool, and gives the operation back. Timers, work items and waits are operations too: one life cycle.
 *
 *      caller                      operating system               pool thread
 *      tpio_read(op, handle, ...)
 *        returns TPIO_PENDING  --> owns op and its buffer    -->  op->complete(op)
 *        returns TPIO_DONE         never had it, or is finished: complete is not called, op->error tells
 *        returns TPIO_CLOSED       nothing was begun: the handle or the pool is closed
 *
 * Rules for callers.
 *  - After TPIO_PENDING nothing of the operation may be read or written until complete is called; that may be before
 *    the verb has returned. The operation and its buffers must not move.
 *  - tpio_op_cancel only asks. The operation still completes, with ERROR_OPERATION_ABORTED or, when it won the race,
 *    with its result. When one receive of a TCP connection is cancelled, Windows aborts all that are pending there: what
 *    comes back so and was not cancelled is to be submitted anew.
 *  - tpio_handle_close and tpio_pool_close may be called anywhere, also inside a callback, and wait for no operation.
 *    Whoever is last (a submitter still inside a Win32 call, the last completion) does what is left to do. Only when the
 *    system's handle stays open (not owned, or detached) do they wait for threads that are inside a Win32 call with it:
 *    once they have returned, nobody here uses its value.
 *  - complete runs without any lock of this library. By then the operation no longer counts against its handle: nobody
 *    who closes waits for it. It should be brief; what may block belongs in the function that it returns.
 *
 * All functions may be called from any thread unless said otherwise.
 */
#ifndef TPIO_CORE_H
#define TPIO_CORE_H

#include "tpio_win32.h"

typedef struct tpio_pool tpio_pool;
typedef struct tpio_handle tpio_handle;
typedef struct tpio_op tpio_op;
typedef struct tpio_device tpio_device;

/* What is left to do after a completion, once the core has let go of everything: the place for code that blocks. Called
 * once for all operations that completed together, on the same thread. NULL: nothing. Operations whose complete is another
 * function do not complete together with these, but for those that the close of a pool ends: such tails must not block. */
typedef void (*tpio_tail_fn)(void);

/* Receives a completed operation, on a pool thread (timers and work that are pending when their pool is closed: on the
 * thread that closes it). The operation is the callee's again, to free or to submit anew. */
typedef tpio_tail_fn (*tpio_complete_fn)(tpio_op *op);

/* ---- operations ------------------------------------------------------------------------------------------------- */

typedef enum tpio_verb {
    TPIO_READ,         /* ReadFile */
    TPIO_WRITE,        /* WriteFile */
    TPIO_RECV,         /* WSARecv */
    TPIO_SEND,         /* WSASend */
    TPIO_RECV_FROM,    /* WSARecvFrom */
    TPIO_SEND_TO,      /* WSASendTo */
    TPIO_CONNECT_PIPE, /* ConnectNamedPipe */
    TPIO_ACCEPT,       /* AcceptEx */
    TPIO_CONNECT,      /* ConnectEx */
    TPIO_DISCONNECT,   /* DisconnectEx */
    TPIO_TRANSMIT,     /* TransmitFile */
    TPIO_IOCTL,        /* DeviceIoControl */
    TPIO_LOCK,         /* LockFileEx */
    TPIO_WATCH,        /* ReadDirectoryChangesW */
    TPIO_POLL,         /* tpio_poll.c: DeviceIoControl, IOCTL_AFD_POLL */
    TPIO_TIMER,        /* tpio_timer.c */
    TPIO_WORK,         /* tpio_work.c */
    TPIO_WAIT          /* tpio_wait.c */
} tpio_verb;

typedef enum tpio_status {
    TPIO_PENDING, /* the operation is the operating system's; complete will be called */
    TPIO_DONE,    /* the operation is over: error and bytes are set, complete is not called */
    TPIO_CLOSED   /* refused, nothing was begun */
} tpio_status;

typedef struct tpio_message_args {
    WSABUF one;    /* the buffer when there is only one */
    WSABUF *list;  /* == &one, or the caller's array */
    DWORD count;
    DWORD flags;   /* MSG_* */
    struct sockaddr *name;
    int name_size; /* in and out */
} tpio_message_args;

/* A question of readiness about one socket, as the system takes and answers it. */
typedef struct tpio_poll_info {
    int64_t timeout;
    ULONG count, exclusive;
    HANDLE socket;
    ULONG events;
    LONG status; /* an NTSTATUS: why a connect failed */
} tpio_poll_info;

typedef struct tpio_poll_args {
    tpio_device *device; /* NULL: the socket's own handle */
    tpio_poll_info info;
} tpio_poll_args;

/* What kind of call and where its buffers are. Filled in by the verbs below; the caller owns what is pointed to. */
typedef union tpio_args {
    struct {
        void *buffer;
        DWORD size;
    } file; /* READ, WRITE, WATCH */
    tpio_message_args message; /* RECV, SEND, RECV_FROM, SEND_TO, CONNECT */
    struct {
        SOCKET socket; /* unconnected; becomes the connection */
        void *buffer;  /* data_size bytes, then two addresses of TPIO_ADDRESS_SIZE */
        DWORD data_size;
    } accept;
    struct {
        HANDLE file;
        DWORD size;
    } transmit;
    struct {
        DWORD code;
        void *input, *output;
        DWORD input_size, output_size;
    } ioctl;
    struct {
        DWORD flags, low, high;
    } lock;
    struct {
        DWORD filter;
        BOOL recursive;
        void *buffer;
        DWORD size;
    } watch;
    tpio_poll_args poll;
    struct {
        int64_t due, latest; /* in ticks of QueryPerformanceCounter; the heap is ordered by latest */
        size_t slot;         /* place in the heap */
    } timer;
    struct {
        tpio_op *previous;
        BOOL queued;
    } work;
    struct {
        PTP_WAIT wait;
        HANDLE object; /* our duplicate */
        tpio_op *previous;
        DWORD error; /* what it will end with */
    } wait;
} tpio_args;

struct tpio_op {
    OVERLAPPED overlapped;     /* first: the system hands this address back, and it is the operation's */
    tpio_complete_fn complete; /* set by the caller before the verb */
    void *user;                /* the caller's */
    tpio_op *next;             /* the caller's between completion and the next submit (a queue of completions) */
    tpio_pool *pool;
    tpio_handle *handle;       /* NULL for timers, work and waits; of a poll perhaps a device of the pool's */
    DWORD error;               /* result: 0 or a Win32 error code */
    DWORD bytes;               /* result: bytes moved; of a poll the events */
    tpio_verb verb;
    tpio_args args;
};

#define TPIO_ADDRESS_SIZE (sizeof(struct sockaddr_storage) + 16) /* AcceptEx wants 16 more than the largest address */
#define TPIO_APPEND UINT64_MAX                                   /* an offset: the end of the file */

/* The one decision of the submit path, pure: what does the return of a Win32 call mean for the operation?
 * error: 0 when the call succeeded. skip: the handle has FILE_SKIP_COMPLETION_PORT_ON_SUCCESS.
 * TPIO_PENDING: a completion comes. TPIO_DONE: none comes (success or failure). */
tpio_status tpio_op_classify(tpio_verb verb, DWORD error, int skip);

/* Asks the system to end an operation that was submitted. The caller keeps the operation and its handle alive over the
 * call; it may have completed by then.
 * TPIO_PENDING: asked, the completion is on its way. TPIO_DONE: cancelled here and now (timers and work that had not
 * begun): the operation is the caller's again, with ERROR_OPERATION_ABORTED, and complete is not called.
 * TPIO_CLOSED: nothing to ask: it has ended, is running (work), or its handle is closing and ends it anyway. */
tpio_status tpio_op_cancel(tpio_op *op);

/* ---- pools ------------------------------------------------------------------------------------------------------ */

typedef struct tpio_pool_stats {
    LONG64 pending, submitted, completed, cancelled, failed;
    LONG handles, threads;
} tpio_pool_stats;

typedef struct tpio_pool_options {
    DWORD min_threads, max_threads; /* 0: the system's default */
    int priority;                   /* against other pools of the process: -1 low, 0 normal, 1 high */
    BOOL runs_long;                 /* callbacks take their time: the system brings threads sooner */
} tpio_pool_options;

/* Makes a private thread pool with one reference. Returns a Win32 error code. */
DWORD tpio_pool_create(const tpio_pool_options *options, tpio_pool **pool);

/* Refuses new work, closes every handle bound to the pool and cancels everything else. Waits for no operation;
 * idempotent. */
void tpio_pool_close(tpio_pool *pool);

/* Cancels the work that has not begun; it completes on the calling thread. */
void tpio_pool_cancel_work(tpio_pool *pool);

/* Waits until a closed pool has nothing left. Not inside a callback of the pool. FALSE: time is up. Callbacks of the last
 * operations may still be running, or be just about to: memory of an operation is free when its callback has said so. */
BOOL tpio_pool_drain(tpio_pool *pool, DWORD milliseconds);

void tpio_pool_ref(tpio_pool *pool);
void tpio_pool_unref(tpio_pool *pool);
BOOL tpio_pool_closing(tpio_pool *pool);
void tpio_pool_get_stats(tpio_pool *pool, tpio_pool_stats *stats);

/* ---- handles ---------------------------------------------------------------------------------------------------- */

enum {
    TPIO_OWNS = 1,   /* closing the binding closes the handle */
    TPIO_SOCKET = 2, /* a SOCKET: closesocket, and the winsock verbs */
    TPIO_SKIP = 4    /* a call that succeeds at once completes at once, without a trip through the pool; not for
                      * directories, message-mode pipes and datagram sockets */
};

typedef enum tpio_bind_error { TPIO_BIND_OTHER, TPIO_BIND_NOT_OVERLAPPED, TPIO_BIND_ALREADY_BOUND } tpio_bind_error;

/* Binds an overlapped handle to the pool, once in its life. On failure the handle stays the caller's, the result is a
 * Win32 error code, and *why says what was wrong with the handle. */
DWORD tpio_handle_bind(tpio_pool *pool, HANDLE file, unsigned flags, tpio_handle **handle, tpio_bind_error *why);

/* Refuses new operations, cancels the pending ones, closes the system's handle if owned, frees the binding when the
 * last operation has completed. Waits for no operation; idempotent. The memory stays until tpio_handle_unref.
 *
 * A handle that is not owned stays bound to a completion port where nobody is any more: from then on an overlapped call of
 * its owner's must set the lowest bit of hEvent, so that no completion is sent there. (The same is true while it is bound
 * here.) tpio_handle_detach gives it up without that. A socket that blocks and lingers (SO_LINGER) is waited for. */
void tpio_handle_close(tpio_handle *handle);

/* Cancels every pending operation of the handle. FALSE: it is closed. */
BOOL tpio_handle_cancel(tpio_handle *handle);

/* Gives the system's handle up: as tpio_handle_close, but it stays open and is the caller's. Since Windows 8.1 it is free
 * of the completion port, and may be bound again, when nothing was pending. */
HANDLE tpio_handle_detach(tpio_handle *handle);

/* The system's handle, INVALID_HANDLE_VALUE once closed. */
HANDLE tpio_handle_file(tpio_handle *handle);

/* The memory stays for as long as somebody has a reference; the handle may be closed all the same. */
void tpio_handle_ref(tpio_handle *handle);
void tpio_handle_unref(tpio_handle *handle);

/* ---- verbs ------------------------------------------------------------------------------------------------------
 * Each fills in the operation and submits it. offset counts for files only; elsewhere pass 0.
 */
tpio_status tpio_read(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, uint64_t offset);
tpio_status tpio_write(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, uint64_t offset);
tpio_status tpio_recv(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags);
tpio_status tpio_send(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags);
/* Scatter and gather: list is the caller's until the call returns (winsock copies it). */
tpio_status tpio_recv_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags);
tpio_status tpio_send_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags);
/* Datagrams. For recv_from the sender's address is written to name, its size to args.message.name_size. */
tpio_status tpio_recv_from(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags,
                           struct sockaddr *name, int name_size);
tpio_status tpio_send_to(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags,
                         const struct sockaddr *name, int name_size);
tpio_status tpio_connect_pipe(tpio_op *op, tpio_handle *handle);
/* socket is new, unbound and of the listener's family; buffer holds data_size + 2 * TPIO_ADDRESS_SIZE bytes. */
tpio_status tpio_accept(tpio_op *op, tpio_handle *handle, SOCKET socket, void *buffer, DWORD data_size);
/* The socket must be bound. */
tpio_status tpio_connect(tpio_op *op, tpio_handle *handle, const struct sockaddr *name, int name_size);
tpio_status tpio_disconnect(tpio_op *op, tpio_handle *handle);
tpio_status tpio_transmit(tpio_op *op, tpio_handle *handle, HANDLE file, DWORD size, uint64_t offset);
tpio_status tpio_ioctl(tpio_op *op, tpio_handle *handle, DWORD code, const void *input, DWORD input_size, void *output,
                       DWORD output_size);
tpio_status tpio_lock(tpio_op *op, tpio_handle *handle, uint64_t offset, uint64_t length, BOOL exclusive);
tpio_status tpio_watch(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD filter, BOOL recursive);

/* After an accept or a connect has completed: makes getpeername, shutdown and the rest work. A winsock error code. */
int tpio_socket_accepted(SOCKET socket, SOCKET listener);
int tpio_socket_connected(SOCKET socket);

/* ---- readiness of sockets ---------------------------------------------------------------------------------------
 * A poll completes when one of the events has happened or is the case already (level-triggered, once), and takes nothing
 * away. op->error is 0 then and op->bytes the events, any of those asked for or TPIO_POLL_LOCAL_CLOSE, which is always asked
 * for: the socket was closed, and its value may be another's by now. 0 events: nothing is known, poll again. Any other
 * error is the poll's own: ERROR_OPERATION_ABORTED when it was cancelled, as ever. A refused or reset connection is an
 * event; getsockopt(SO_ERROR) has its error. Any number of polls of one socket may be pending.
 *
 * Datagram sockets can be polled. Sockets of AF_UNIX and pipes: not by this.
 */
enum {
    TPIO_POLL_RECEIVE = 0x001, /* data (or, of a datagram socket, a datagram) */
    TPIO_POLL_EXPEDITED = 0x002,
    TPIO_POLL_SEND = 0x004,
    TPIO_POLL_DISCONNECT = 0x008, /* the peer sends no more; not implied by RECEIVE */
    TPIO_POLL_ABORT = 0x010,      /* the connection was reset */
    TPIO_POLL_LOCAL_CLOSE = 0x020,
    TPIO_POLL_ACCEPT = 0x080,
    TPIO_POLL_CONNECT_FAIL = 0x100,
    /* What a reader and a writer wait for: the call would not block, if only because it fails. */
    TPIO_POLL_READABLE = TPIO_POLL_RECEIVE | TPIO_POLL_DISCONNECT | TPIO_POLL_ABORT | TPIO_POLL_ACCEPT | TPIO_POLL_CONNECT_FAIL,
    TPIO_POLL_WRITABLE = TPIO_POLL_SEND | TPIO_POLL_ABORT | TPIO_POLL_CONNECT_FAIL
};

/* A socket that is bound to a pool, through its own handle. Ends with the handle's close, as any operation does. */
tpio_status tpio_poll_handle(tpio_op *op, tpio_handle *handle, ULONG events);

/* Any socket of this process, also one that is bound to another completion port or to none. base: of tpio_socket_base.
 * The caller keeps the pool alive over a tpio_op_cancel: there is no handle of its own. The first poll of a pool, and each
 * that finds 32 pending on every device, opens a device, and may fail for that (TPIO_DONE). */
tpio_status tpio_poll(tpio_op *op, tpio_pool *pool, HANDLE base, ULONG events);

/* The handle that the system knows a socket by, which is the socket itself but for layered providers. Costs a call: ask
 * once for each socket. A winsock error code, WSAENOTSOCK for what is no socket. */
DWORD tpio_socket_base(SOCKET socket, HANDLE *base);

/* ---- timers, work, waits ---------------------------------------------------------------------------------------- */

/* Completes after at least that many nanoseconds, as QueryPerformanceCounter counts them; window: by how many ms more it
 * may be late, so that the system can serve several timers at once. */
tpio_status tpio_sleep(tpio_op *op, tpio_pool *pool, int64_t nanoseconds, DWORD window);

/* Completes on a pool thread as soon as one is free: the thread is the caller's to use in the tail. */
tpio_status tpio_work(tpio_op *op, tpio_pool *pool);

/* Completes when object is signalled, or with WAIT_TIMEOUT as its error. milliseconds: INFINITE for none. An event that
 * resets itself, or a semaphore, is taken from exactly once for each wait that ends with success, and not for any other.
 * The object is duplicated: the caller may close his handle. Not for a mutex, which would belong to a thread of the pool. */
tpio_status tpio_wait(tpio_op *op, tpio_pool *pool, HANDLE object, DWORD milliseconds);

/* ---- a queue of completions -------------------------------------------------------------------------------------
 * Any number of threads put operations in, linked by next; whoever finds it empty is told so, and is the one to take.
 */
typedef struct tpio_queue {
    PVOID volatile top;
} tpio_queue;

BOOL tpio_queue_put(tpio_queue *queue, tpio_op *op); /* TRUE: it was empty */
tpio_op *tpio_queue_take(tpio_queue *queue);         /* all there is, oldest first */

/* ---- the process ------------------------------------------------------------------------------------------------ */

/* Once, before anything else. Pins this module: a callback may outlive everything that knows of it. */
DWORD tpio_init(void);

/* The calling thread's record, made on first use; NULL when out of memory. */
typedef struct tpio_thread {
    tpio_pool *pool; /* whose thread this is; NULL for the program's own threads */
    LONG depth;      /* > 0: inside a callback */
    PTP_CALLBACK_INSTANCE instance; /* which; NULL outside */
    HANDLE event;    /* the binding's: what a blocked thread waits on; closed with the record */
    void *attached;  /* the binding's: a thread state of Python */
    tpio_op *carried; /* the binding's: from complete to the tail */
    LONG nested;      /* the binding's: callbacks inside callbacks */
    LONG calling;     /* the binding's: Python is in a call that completes operations on this thread */
} tpio_thread;

tpio_thread *tpio_thread_current(void);

/* In a callback, before what may block: sees to it that completions which are queued behind it find another thread.
 * Windows does that by itself, and there this does nothing. */
void tpio_callback_may_block(PTP_CALLBACK_INSTANCE instance);

/* Called on a thread that ends, with its record, before the record is freed. Must not block. */
void tpio_thread_on_exit(void (*fn)(tpio_thread *thread));

#endif
