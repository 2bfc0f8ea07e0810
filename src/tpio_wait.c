/* tpio_wait.c: waiting for an object to be signalled, many at a time on few threads.
 *
 * Each operation has a TP_WAIT on a duplicate of the object, since to close an object that is being waited for is
 * undefined.
 *
 *     waiting    in a list of the pool's, until its callback comes: satisfied, out of time, or hurried
 *     ended      in another list, until a turn on a thread of the pool closes the TP_WAIT and completes
 *
 * When a wait is satisfied the system takes what it is for: the state of an event that resets itself, one count of a
 * semaphore. Nobody may lose that. To take a wait back (SetThreadpoolWait with NULL) and to look whether a callback is
 * still queued does lose it where the system has taken the signal and not yet queued anything. So a cancel takes nothing
 * back: it sets the wait anew, on an event that is never signalled and with no time to wait. One callback comes for sure,
 * and whether the object was taken from is known when all have come.
 *
 * There may be two, then: the object's, which was queued before, and the hurried one, in any order. The turn waits for
 * the second, which must not depend on a thread of the pool, since callers may block these for as long as they like. So
 * callbacks come in a second pool, of one thread, where nothing blocks.
 */
#include "tpio_internal.h"

static void wait__take(tpio_pool *pool, tpio_op *op)
{
    tpio_op *previous = op->args.wait.previous;

    if (previous != NULL)
        previous->next = op->next;
    else
        pool->waits.waiting = op->next;
    if (op->next != NULL)
        op->next->args.wait.previous = previous;
    op->next = NULL;
    op->args.wait.previous = op; /* not in the list */
}

static void CALLBACK wait__callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WAIT wait,
                                    TP_WAIT_RESULT result)
{
    tpio_op *op = context;
    tpio_pool *pool = op->pool; /* the turn waits for us before it lets the operation go, which keeps the pool */

    (void)instance, (void)wait;
    AcquireSRWLockExclusive(&pool->lock);
    if (result == WAIT_OBJECT_0)
        op->args.wait.error = ERROR_SUCCESS;
    if (op->args.wait.previous != op) {
        wait__take(pool, op);
        if (pool->waits.ended != NULL)
            pool->waits.last->next = op;
        else
            pool->waits.ended = op;
        pool->waits.last = op;
        SubmitThreadpoolWork(pool->waits.work);
    }
    ReleaseSRWLockExclusive(&pool->lock);
}

/* A thread of the pool comes for each operation that has ended, which keeps the pool until then. */
static void CALLBACK wait__turn(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WORK work)
{
    tpio_pool *pool = context;
    tpio_thread *thread = tpio__thread_enter(pool, instance);
    tpio_tail_fn tail = NULL;
    tpio_op *op;

    (void)work;
    DisassociateCurrentThreadFromCallback(instance);
    AcquireSRWLockExclusive(&pool->lock);
    op = pool->waits.ended;
    pool->waits.ended = op->next;
    ReleaseSRWLockExclusive(&pool->lock);
    op->next = NULL;
    SetThreadpoolWait(op->args.wait.wait, NULL, NULL); /* perhaps it was hurried after its callback was queued */
    /* FALSE: one that is queued must run, for it may have the signal. */
    WaitForThreadpoolWaitCallbacks(op->args.wait.wait, FALSE);
    CloseThreadpoolWait(op->args.wait.wait);
    CloseHandle(op->args.wait.object);
    tpio__op_end(op, op->args.wait.error, 0);
    tpio__pool_leave(pool);
    tpio__op_complete(op, &tail);
    tpio__tail(tail);
    tpio__thread_leave(thread);
}

/* Under the lock, of one that is in the list. */
static void wait__hurry(tpio_pool *pool, tpio_op *op)
{
    FILETIME now = {0, 0};

    op->args.wait.error = ERROR_OPERATION_ABORTED;
    SetThreadpoolWait(op->args.wait.wait, pool->waits.never, &now);
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
    op->args.wait.error = WAIT_TIMEOUT; /* unless something else comes first */
    /* Just the right to wait: the system's function raises an exception for a handle without. */
    if (!DuplicateHandle(process, object, process, &op->args.wait.object, SYNCHRONIZE, FALSE, 0)) {
        error = GetLastError();
        goto failed_duplicate;
    }
    op->args.wait.wait = CreateThreadpoolWait(wait__callback, op, &pool->waits.environ_);
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
    op->next = pool->waits.waiting;
    if (op->next != NULL)
        op->next->args.wait.previous = op;
    pool->waits.waiting = op;
    /* Inside the lock: a cancel that sets it anew comes after us. */
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
    BOOL waiting;

    AcquireSRWLockExclusive(&pool->lock);
    waiting = op->args.wait.previous != op;
    if (waiting)
        wait__hurry(pool, op);
    ReleaseSRWLockExclusive(&pool->lock);
    return waiting ? TPIO_PENDING : TPIO_CLOSED;
}

void tpio__waits_abort(tpio_pool *pool)
{
    tpio_op *op;

    AcquireSRWLockExclusive(&pool->lock);
    for (op = pool->waits.waiting; op != NULL; op = op->next)
        wait__hurry(pool, op);
    ReleaseSRWLockExclusive(&pool->lock);
}

DWORD tpio__waits_create(tpio_pool *pool)
{
    InitializeThreadpoolEnvironment(&pool->waits.environ_);
    pool->waits.pool = CreateThreadpool(NULL);
    if (pool->waits.pool == NULL)
        return GetLastError();
    SetThreadpoolThreadMaximum(pool->waits.pool, 1);
    SetThreadpoolCallbackPool(&pool->waits.environ_, pool->waits.pool);
    pool->waits.never = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (pool->waits.never == NULL)
        return GetLastError();
    pool->waits.work = CreateThreadpoolWork(wait__turn, pool, &pool->environ_);
    return pool->waits.work != NULL ? ERROR_SUCCESS : GetLastError();
}

void tpio__waits_destroy(tpio_pool *pool)
{
    if (pool->waits.work != NULL) {
        WaitForThreadpoolWorkCallbacks(pool->waits.work, FALSE); /* there are none that have not had their operation */
        CloseThreadpoolWork(pool->waits.work);
    }
    if (pool->waits.never != NULL)
        CloseHandle(pool->waits.never);
    if (pool->waits.pool != NULL) {
        DestroyThreadpoolEnvironment(&pool->waits.environ_);
        CloseThreadpool(pool->waits.pool);
    }
}
