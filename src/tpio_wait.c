/* tpio_wait.c: waiting for an object to be signalled, many at a time on few threads.
 *
 * Each operation has a TP_WAIT on a duplicate of the object, since to close an object that is being waited for is
 * undefined. As with timers and work, who takes the operation out of the pool's list under the lock has it. What differs
 * is that the system's callback knows the operation: so whoever takes it back waits until no callback can come any more
 * (a callback does nothing but look at the list before that wait is over).
 */
#include "tpio_internal.h"

static void wait__take(tpio_pool *pool, tpio_op *op)
{
    tpio_op *previous = op->args.wait.previous;

    if (previous != NULL)
        previous->next = op->next;
    else
        pool->waits = op->next;
    if (op->next != NULL)
        op->next->args.wait.previous = previous;
    op->next = NULL;
    op->args.wait.previous = op; /* taken */
}

static BOOL wait__try_take(tpio_pool *pool, tpio_op *op)
{
    BOOL taken;

    AcquireSRWLockExclusive(&pool->lock);
    taken = op->args.wait.previous != op;
    if (taken)
        wait__take(pool, op);
    ReleaseSRWLockExclusive(&pool->lock);
    return taken;
}

/* For whoever has taken the operation; not inside the callback of this wait, unless disassociated from it. */
static void wait__close(tpio_op *op)
{
    SetThreadpoolWait(op->args.wait.wait, NULL, NULL);
    WaitForThreadpoolWaitCallbacks(op->args.wait.wait, TRUE);
    CloseThreadpoolWait(op->args.wait.wait);
    CloseHandle(op->args.wait.object);
}

static void CALLBACK wait__callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WAIT wait,
                                    TP_WAIT_RESULT result)
{
    tpio_op *op = context;
    tpio_pool *pool = op->pool;
    tpio_tail_fn tail = NULL;
    tpio_thread *thread;

    (void)wait;
    if (!wait__try_take(pool, op))
        return; /* whoever took it waits for us */
    /* The operation's entry keeps the pool until it has ended. */
    thread = tpio__thread_enter(pool, instance);
    DisassociateCurrentThreadFromCallback(instance);
    wait__close(op);
    tpio__op_end(op, result == WAIT_OBJECT_0 ? ERROR_SUCCESS : WAIT_TIMEOUT, 0);
    tpio__pool_leave(pool);
    tpio__op_complete(op, &tail);
    tpio__tail(tail);
    tpio__thread_leave(thread);
}

tpio_status tpio_wait(tpio_op *op, tpio_pool *pool, HANDLE object, DWORD milliseconds)
{
    HANDLE process = GetCurrentProcess();
    LARGE_INTEGER relative;
    FILETIME timeout;
    DWORD error;

    if (!tpio__pool_enter(pool))
        return TPIO_CLOSED;
    tpio__op_begin(op, pool, TPIO_WAIT);
    op->args.wait.previous = op; /* not in the list: a cancel looks */
    /* Just the right to wait: the system's function raises an exception for a handle without. */
    if (!DuplicateHandle(process, object, process, &op->args.wait.object, SYNCHRONIZE, FALSE, 0)) {
        error = GetLastError();
        goto failed_duplicate;
    }
    op->args.wait.wait = CreateThreadpoolWait(wait__callback, op, &pool->environ_);
    if (op->args.wait.wait == NULL) {
        error = GetLastError();
        goto failed_create;
    }
    relative.QuadPart = -10000 * (LONGLONG)milliseconds; /* negative: from now, in 100 ns */
    timeout.dwLowDateTime = relative.LowPart;
    timeout.dwHighDateTime = (DWORD)relative.HighPart;

    AcquireSRWLockExclusive(&pool->lock);
    if (pool->closing) {
        ReleaseSRWLockExclusive(&pool->lock);
        error = ERROR_OPERATION_ABORTED;
        goto failed_closing;
    }
    op->args.wait.previous = NULL;
    op->next = pool->waits;
    if (op->next != NULL)
        op->next->args.wait.previous = op;
    pool->waits = op;
    /* Inside the lock: a callback, or whoever takes the operation back, finds the wait set. */
    SetThreadpoolWait(op->args.wait.wait, op->args.wait.object, milliseconds == INFINITE ? NULL : &timeout);
    ReleaseSRWLockExclusive(&pool->lock);
    return TPIO_PENDING;

failed_closing:
    CloseThreadpoolWait(op->args.wait.wait);
failed_create:
    CloseHandle(op->args.wait.object);
failed_duplicate:
    tpio__op_end(op, error, 0);
    tpio__pool_leave(pool);
    return TPIO_DONE;
}

tpio_status tpio__wait_cancel(tpio_op *op)
{
    tpio_pool *pool = op->pool;

    if (!wait__try_take(pool, op))
        return TPIO_CLOSED;
    wait__close(op);
    tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
    tpio__pool_leave(pool);
    return TPIO_DONE;
}

void tpio__waits_abort(tpio_pool *pool)
{
    tpio_tail_fn tail = NULL;
    tpio_op *op;

    for (;;) {
        AcquireSRWLockExclusive(&pool->lock);
        op = pool->waits;
        if (op != NULL)
            wait__take(pool, op);
        ReleaseSRWLockExclusive(&pool->lock);
        if (op == NULL)
            break;
        wait__close(op);
        tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
        tpio__pool_leave(pool);
        tpio__op_complete(op, &tail);
    }
    tpio__tail(tail);
}
