/* tpio_op.c: the life of an operation.
 *
 *     verb        fills in the arguments                          tpio_read, ...
 *     submit      expects a completion, makes the Win32 call      tpio__op_submit, op__call
 *     classify    decides whether the completion will come        tpio_op_classify
 *     complete    on a pool thread                                tpio__op_io_callback
 *
 * The verbs differ in op__call only. Timers, work and waits are begun and ended here too (tpio__op_begin, tpio__op_end)
 * but are kept in queues of their own.
 */
#include "tpio_internal.h"

#ifndef ERROR_INVALID_LOCK_RANGE /* mingw's older headers */
#define ERROR_INVALID_LOCK_RANGE 307
#endif

tpio_status tpio_op_classify(tpio_verb verb, DWORD error, int skip)
{
    switch (error) {
    case ERROR_SUCCESS:
        /* A completion is queued also for a call that succeeded at once, unless the handle was told otherwise. The
         * success of ReadDirectoryChangesW only says that it is pending. */
        return skip && verb != TPIO_WATCH ? TPIO_DONE : TPIO_PENDING;
    case ERROR_IO_PENDING: /* == WSA_IO_PENDING */
        return TPIO_PENDING;
    case ERROR_MORE_DATA:
        /* A warning, not an error: the first part of what there is was put out. To the system that is a success: its
         * completion is queued, or skipped. */
        return skip ? TPIO_DONE : TPIO_PENDING;
    case WSAEMSGSIZE:
        /* The same in winsock's words when a datagram was longer than the buffer; but a failure when one that is sent is
         * too long. */
        return (verb == TPIO_RECV || verb == TPIO_RECV_FROM) && !skip ? TPIO_PENDING : TPIO_DONE;
    default:
        /* Among them ERROR_PIPE_CONNECTED, a success: the client was faster than ConnectNamedPipe. */
        return TPIO_DONE;
    }
}

void tpio__op_begin(tpio_op *op, tpio_pool *pool, tpio_verb verb)
{
    ZeroMemory(&op->overlapped, sizeof op->overlapped);
    op->pool = pool;
    op->error = ERROR_SUCCESS;
    op->bytes = 0;
    op->verb = verb;
    InterlockedIncrement64(&pool->submitted);
}

/* Records the result. The pool is alive: the caller has not yet left it. */
void tpio__op_end(tpio_op *op, DWORD error, DWORD bytes)
{
    tpio_pool *pool = op->pool;

    op->error = error;
    op->bytes = op->verb == TPIO_POLL ? tpio__poll_end(op, error) : bytes;
    if (error == ERROR_SUCCESS || error == ERROR_MORE_DATA)
        InterlockedIncrement64(&pool->completed);
    else if (error == ERROR_OPERATION_ABORTED)
        InterlockedIncrement64(&pool->cancelled);
    else
        InterlockedIncrement64(&pool->failed);
}

void tpio__tail(tpio_tail_fn tail)
{
    if (tail != NULL)
        tail();
}

void tpio__op_complete(tpio_op *op, tpio_tail_fn *tail)
{
    tpio_tail_fn next = op->complete(op);

    if (next == NULL || next == *tail)
        return;
    tpio__tail(*tail); /* operations of different owners ended together */
    *tail = next;
}

/* Results that only look like failures, or that are the consequence of a close. */
static DWORD op__result(const tpio_op *op, DWORD error)
{
    if (error == ERROR_SUCCESS)
        return error;
    if (op->verb == TPIO_CONNECT_PIPE && error == ERROR_PIPE_CONNECTED)
        return ERROR_SUCCESS;
    /* What a closed socket or pipe reports depends on who was faster (64, 109, 10053, ...): for us it is our close. So
     * it is when the pool closes its handles one after the other, and the peer's was before ours. */
    return op->handle->gate < 0 || op->pool->closing ? ERROR_OPERATION_ABORTED : error;
}

/* The one Win32 call of an operation. Returns 0 or its error, read at once. */
static DWORD op__call(tpio_op *op)
{
    HANDLE file = op->handle->file;
    SOCKET socket = (SOCKET)file;
    OVERLAPPED *overlapped = &op->overlapped;
    tpio_args *a = &op->args;
    /* What winsock stores on this thread when a call succeeds at once. That may be after the completion was delivered, so
     * it must not be the operation's memory. */
    DWORD written = op->verb == TPIO_RECV || op->verb == TPIO_RECV_FROM ? a->message.flags : 0;

    switch (op->verb) {
    case TPIO_READ:
        return ReadFile(file, a->file.buffer, a->file.size, NULL, overlapped) ? 0 : GetLastError();
    case TPIO_WRITE:
        return WriteFile(file, a->file.buffer, a->file.size, NULL, overlapped) ? 0 : GetLastError();
    case TPIO_RECV:
        return WSARecv(socket, a->message.list, a->message.count, NULL, &written, overlapped, NULL) == 0
                   ? 0
                   : (DWORD)WSAGetLastError();
    case TPIO_SEND:
        return WSASend(socket, a->message.list, a->message.count, NULL, a->message.flags, overlapped, NULL) == 0
                   ? 0
                   : (DWORD)WSAGetLastError();
    case TPIO_RECV_FROM:
        return WSARecvFrom(socket, a->message.list, a->message.count, NULL, &written, a->message.name,
                           &a->message.name_size, overlapped, NULL) == 0
                   ? 0
                   : (DWORD)WSAGetLastError();
    case TPIO_SEND_TO:
        return WSASendTo(socket, a->message.list, a->message.count, NULL, a->message.flags, a->message.name,
                         a->message.name_size, overlapped, NULL) == 0
                   ? 0
                   : (DWORD)WSAGetLastError();
    case TPIO_CONNECT_PIPE:
        return ConnectNamedPipe(file, overlapped) ? 0 : GetLastError();
    case TPIO_ACCEPT: {
        LPFN_ACCEPTEX accept;

        tpio__extension_get(op->verb, &accept, sizeof accept);
        return accept(socket, a->accept.socket, a->accept.buffer, a->accept.data_size, TPIO_ADDRESS_SIZE,
                      TPIO_ADDRESS_SIZE, &written, overlapped)
                   ? 0
                   : (DWORD)WSAGetLastError();
    }
    case TPIO_CONNECT: {
        LPFN_CONNECTEX connect;

        tpio__extension_get(op->verb, &connect, sizeof connect);
        return connect(socket, a->message.name, a->message.name_size, NULL, 0, NULL, overlapped)
                   ? 0
                   : (DWORD)WSAGetLastError();
    }
    case TPIO_DISCONNECT: {
        /* Wine has shut the socket down when it says that this is pending, and the completion it skips when told to, as
         * that of a call that succeeded at once. Asked before the call: after it the operation may be gone. */
        BOOL done = op->handle->flags & TPIO_SKIP && tpio__on_wine();
        LPFN_DISCONNECTEX disconnect;
        DWORD error;

        tpio__extension_get(op->verb, &disconnect, sizeof disconnect);
        if (disconnect(socket, overlapped, 0, 0))
            return 0;
        error = (DWORD)WSAGetLastError();
        return done && error == ERROR_IO_PENDING ? 0 : error;
    }
    case TPIO_TRANSMIT: {
        LPFN_TRANSMITFILE transmit;

        tpio__extension_get(op->verb, &transmit, sizeof transmit);
        return transmit(socket, a->transmit.file, a->transmit.size, 0, overlapped, NULL, 0) ? 0
                                                                                           : (DWORD)WSAGetLastError();
    }
    case TPIO_IOCTL:
        return DeviceIoControl(file, a->ioctl.code, a->ioctl.input, a->ioctl.input_size, a->ioctl.output,
                               a->ioctl.output_size, NULL, overlapped)
                   ? 0
                   : GetLastError();
    case TPIO_POLL:
        return DeviceIoControl(file, TPIO__AFD_POLL, &a->poll.info, sizeof a->poll.info, &a->poll.info,
                               sizeof a->poll.info, NULL, overlapped)
                   ? 0
                   : GetLastError();
    case TPIO_LOCK:
        return LockFileEx(file, a->lock.flags, 0, a->lock.low, a->lock.high, overlapped) ? 0 : GetLastError();
    case TPIO_WATCH:
        return ReadDirectoryChangesW(file, a->watch.buffer, a->watch.size, a->watch.recursive, a->watch.filter, NULL,
                                     overlapped, NULL)
                   ? 0
                   : GetLastError();
    case TPIO_TIMER:
    case TPIO_WORK:
    case TPIO_WAIT:
        break;
    }
    return ERROR_INVALID_FUNCTION;
}

/* What the system needs not be asked, or may not be. */
static DWORD op__prepare(const tpio_op *op, uint64_t offset)
{
    if (op->verb == TPIO_LOCK) {
        uint64_t length = op->args.lock.low | (uint64_t)op->args.lock.high << 32;

        /* Past the end of all that can be locked: it would fail, and its completion might come all the same. */
        return length != 0 && offset + (length - 1) < offset ? ERROR_INVALID_LOCK_RANGE : 0;
    }
    return tpio__extension_find(op->verb, (SOCKET)op->handle->file);
}

tpio_status tpio__op_submit(tpio_op *op, tpio_handle *handle, tpio_verb verb, uint64_t offset)
{
    int skip = (handle->flags & TPIO_SKIP) != 0;
    DWORD error;

    if (!tpio__handle_enter(handle, TPIO_USER | TPIO_INFLIGHT))
        return TPIO_CLOSED;
    tpio__op_begin(op, handle->pool, verb);
    op->handle = handle;
    op->overlapped.Offset = (DWORD)offset;
    op->overlapped.OffsetHigh = (DWORD)(offset >> 32);

    /* Before the system is told to expect a completion: nothing may stand between that and the call. */
    error = op__prepare(op, offset);
    if (error != 0)
        goto done;
    StartThreadpoolIo(handle->io);
    error = op__call(op);
    if (tpio_op_classify(verb, error, skip) == TPIO_PENDING) {
        /* The operation is no longer ours; it may have completed already, and so may its handle have been closed. Our
         * place inside the gate is what keeps the handle here. */
        tpio__handle_leave(handle, TPIO_USER);
        return TPIO_PENDING;
    }
    CancelThreadpoolIo(handle->io); /* takes the expectation back; it cancels no I/O */
done:
    /* A call that was done at once has left its count where an asynchronous one would. */
    tpio__op_end(op, op__result(op, error),
                 error == 0 || error == ERROR_MORE_DATA || error == WSAEMSGSIZE ? (DWORD)op->overlapped.InternalHigh : 0);
    tpio__handle_leave(handle, TPIO_USER | TPIO_INFLIGHT);
    return TPIO_DONE;
}

void CALLBACK tpio__op_io_callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG result,
                                   ULONG_PTR bytes, PTP_IO io)
{
    tpio_handle *handle = context;
    tpio_op *op = overlapped; /* its first member */
    tpio_thread *thread = tpio__thread_enter(handle->pool, instance);
    tpio_tail_fn tail = NULL;

    (void)io;
    /* From here on the system does not count this thread as being inside a callback of the handle, so that the last
     * one out, perhaps we, can wait for all callbacks and close the TP_IO. */
    DisassociateCurrentThreadFromCallback(instance);
    tpio__op_end(op, op__result(op, result), (DWORD)bytes);
    tpio__handle_leave(handle, TPIO_INFLIGHT);
    tpio__op_complete(op, &tail);
    tpio__tail(tail);
    tpio__thread_leave(thread);
}

tpio_status tpio_op_cancel(tpio_op *op)
{
    switch (op->verb) {
    case TPIO_TIMER:
        return tpio__timer_cancel(op);
    case TPIO_WORK:
        return tpio__work_cancel(op);
    case TPIO_WAIT:
        return tpio__wait_cancel(op);
    default:
        break;
    }
    /* No handle: a poll that ended because there was no device for it. */
    if (op->handle == NULL || !tpio__handle_enter(op->handle, TPIO_USER))
        return TPIO_CLOSED;
    /* It may fail with ERROR_NOT_FOUND: the completion is on its way. Either way the completion tells. */
    CancelIoEx(op->handle->file, &op->overlapped);
    tpio__handle_leave(op->handle, TPIO_USER);
    return TPIO_PENDING;
}

/* ---- verbs ------------------------------------------------------------------------------------------------------ */

static tpio_status op__file(tpio_op *op, tpio_handle *handle, tpio_verb verb, void *buffer, DWORD size,
                            uint64_t offset)
{
    op->args.file.buffer = buffer;
    op->args.file.size = size;
    return tpio__op_submit(op, handle, verb, offset);
}

tpio_status tpio_read(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, uint64_t offset)
{
    return op__file(op, handle, TPIO_READ, buffer, size, offset);
}

tpio_status tpio_write(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, uint64_t offset)
{
    return op__file(op, handle, TPIO_WRITE, (void *)buffer, size, offset);
}

static tpio_status op__message(tpio_op *op, tpio_handle *handle, tpio_verb verb, void *buffer, DWORD size, DWORD flags,
                               struct sockaddr *name, int name_size)
{
    op->args.message.one.buf = buffer;
    op->args.message.one.len = size;
    op->args.message.list = &op->args.message.one;
    op->args.message.count = 1;
    op->args.message.flags = flags;
    op->args.message.name = name;
    op->args.message.name_size = name_size;
    return tpio__op_submit(op, handle, verb, 0);
}

tpio_status tpio_recv(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags)
{
    return op__message(op, handle, TPIO_RECV, buffer, size, flags, NULL, 0);
}

tpio_status tpio_send(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags)
{
    return op__message(op, handle, TPIO_SEND, (void *)buffer, size, flags, NULL, 0);
}

tpio_status tpio_recv_from(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD flags,
                           struct sockaddr *name, int name_size)
{
    return op__message(op, handle, TPIO_RECV_FROM, buffer, size, flags, name, name_size);
}

tpio_status tpio_send_to(tpio_op *op, tpio_handle *handle, const void *buffer, DWORD size, DWORD flags,
                         const struct sockaddr *name, int name_size)
{
    return op__message(op, handle, TPIO_SEND_TO, (void *)buffer, size, flags, (struct sockaddr *)name, name_size);
}

tpio_status tpio_connect(tpio_op *op, tpio_handle *handle, const struct sockaddr *name, int name_size)
{
    return op__message(op, handle, TPIO_CONNECT, NULL, 0, 0, (struct sockaddr *)name, name_size);
}

static tpio_status op__list(tpio_op *op, tpio_handle *handle, tpio_verb verb, WSABUF *list, DWORD count, DWORD flags)
{
    op->args.message.list = list;
    op->args.message.count = count;
    op->args.message.flags = flags;
    return tpio__op_submit(op, handle, verb, 0);
}

tpio_status tpio_recv_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
{
    return op__list(op, handle, TPIO_RECV, list, count, flags);
}

tpio_status tpio_send_list(tpio_op *op, tpio_handle *handle, WSABUF *list, DWORD count, DWORD flags)
{
    return op__list(op, handle, TPIO_SEND, list, count, flags);
}

tpio_status tpio_connect_pipe(tpio_op *op, tpio_handle *handle)
{
    return tpio__op_submit(op, handle, TPIO_CONNECT_PIPE, 0);
}

tpio_status tpio_accept(tpio_op *op, tpio_handle *handle, SOCKET socket, void *buffer, DWORD data_size)
{
    op->args.accept.socket = socket;
    op->args.accept.buffer = buffer;
    op->args.accept.data_size = data_size;
    return tpio__op_submit(op, handle, TPIO_ACCEPT, 0);
}

tpio_status tpio_disconnect(tpio_op *op, tpio_handle *handle)
{
    return tpio__op_submit(op, handle, TPIO_DISCONNECT, 0);
}

tpio_status tpio_transmit(tpio_op *op, tpio_handle *handle, HANDLE file, DWORD size, uint64_t offset)
{
    op->args.transmit.file = file;
    op->args.transmit.size = size;
    return tpio__op_submit(op, handle, TPIO_TRANSMIT, offset);
}

tpio_status tpio_ioctl(tpio_op *op, tpio_handle *handle, DWORD code, const void *input, DWORD input_size, void *output,
                       DWORD output_size)
{
    op->args.ioctl.code = code;
    op->args.ioctl.input = (void *)input;
    op->args.ioctl.input_size = input_size;
    op->args.ioctl.output = output;
    op->args.ioctl.output_size = output_size;
    return tpio__op_submit(op, handle, TPIO_IOCTL, 0);
}

tpio_status tpio_lock(tpio_op *op, tpio_handle *handle, uint64_t offset, uint64_t length, BOOL exclusive)
{
    op->args.lock.flags = exclusive ? LOCKFILE_EXCLUSIVE_LOCK : 0;
    op->args.lock.low = (DWORD)length;
    op->args.lock.high = (DWORD)(length >> 32);
    return tpio__op_submit(op, handle, TPIO_LOCK, offset);
}

tpio_status tpio_watch(tpio_op *op, tpio_handle *handle, void *buffer, DWORD size, DWORD filter, BOOL recursive)
{
    op->args.watch.buffer = buffer;
    op->args.watch.size = size;
    op->args.watch.filter = filter;
    op->args.watch.recursive = recursive;
    return tpio__op_submit(op, handle, TPIO_WATCH, 0);
}
