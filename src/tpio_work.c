/* tpio_work.c: a turn on a pool thread.
 *
 * Operations wait in a list of ours, and for each one the system's work object is submitted once: it brings a thread,
 * the list says for whom. Who takes an operation out of the list under the lock has it: a thread, a cancel, or the
 * close of the pool. A thread that comes for one that was taken back finds another, or nothing.
 */
#include "tpio_internal.h"

static void work__take(tpio_pool *pool, tpio_op *op)
{
    tpio_op *previous = op->args.work.previous;

    if (previous != NULL)
        previous->next = op->next;
    else
        pool->works.head = op->next;
    if (op->next != NULL)
        op->next->args.work.previous = previous;
    else
        pool->works.tail = previous;
    op->next = NULL;
    op->args.work.queued = FALSE;
}

static void CALLBACK work__callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WORK work)
{
    tpio_pool *pool = context;
    tpio_thread *thread;
    tpio_tail_fn tail = NULL;
    tpio_op *op;

    (void)work;
    if (!tpio__pool_enter(pool))
        return;
    thread = tpio__thread_enter(pool, instance);
    DisassociateCurrentThreadFromCallback(instance);
    AcquireSRWLockExclusive(&pool->lock);
    op = pool->works.head;
    if (op != NULL)
        work__take(pool, op);
    ReleaseSRWLockExclusive(&pool->lock);
    if (op != NULL) {
        tpio__op_end(op, ERROR_SUCCESS, 0);
        tpio__pool_leave(pool); /* the operation's entry; ours is still there */
        tpio__op_complete(op, &tail);
    }
    tpio__pool_leave(pool);
    tpio__tail(tail);
    tpio__thread_leave(thread);
}

tpio_status tpio_work(tpio_op *op, tpio_pool *pool)
{
    if (!tpio__pool_enter(pool))
        return TPIO_CLOSED;
    AcquireSRWLockExclusive(&pool->lock);
    if (pool->closing) {
        ReleaseSRWLockExclusive(&pool->lock);
        tpio__pool_leave(pool);
        return TPIO_CLOSED;
    }
    tpio__op_begin(op, pool, TPIO_WORK);
    op->args.work.queued = TRUE;
    op->args.work.previous = pool->works.tail;
    op->next = NULL;
    if (pool->works.tail != NULL)
        pool->works.tail->next = op;
    else
        pool->works.head = op;
    pool->works.tail = op;
    /* Inside the lock: the close of the pool, which destroys the work object, comes through here first. */
    SubmitThreadpoolWork(pool->works.work);
    ReleaseSRWLockExclusive(&pool->lock);
    return TPIO_PENDING;
}

tpio_status tpio__work_cancel(tpio_op *op)
{
    tpio_pool *pool = op->pool;
    BOOL taken;

    AcquireSRWLockExclusive(&pool->lock);
    taken = op->args.work.queued;
    if (taken)
        work__take(pool, op);
    ReleaseSRWLockExclusive(&pool->lock);
    if (!taken)
        return TPIO_CLOSED;
    tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
    tpio__pool_leave(pool);
    return TPIO_DONE;
}

void tpio__works_abort(tpio_pool *pool, tpio_tail_fn *tail)
{
    tpio_op *op;

    for (;;) {
        AcquireSRWLockExclusive(&pool->lock);
        op = pool->works.head;
        if (op != NULL)
            work__take(pool, op);
        ReleaseSRWLockExclusive(&pool->lock);
        if (op == NULL)
            break;
        tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
        tpio__pool_leave(pool);
        tpio__op_complete(op, tail);
    }
}

void tpio_pool_cancel_work(tpio_pool *pool)
{
    tpio_tail_fn tail = NULL;

    tpio__works_abort(pool, &tail);
    tpio__tail(tail);
}

DWORD tpio__works_create(tpio_pool *pool)
{
    pool->works.work = CreateThreadpoolWork(work__callback, pool, &pool->environ_);
    return pool->works.work != NULL ? ERROR_SUCCESS : GetLastError();
}

void tpio__works_destroy(tpio_pool *pool)
{
    if (pool->works.work == NULL)
        return;
    /* TRUE: threads that were asked for and are not needed any more. */
    WaitForThreadpoolWorkCallbacks(pool->works.work, TRUE);
    CloseThreadpoolWork(pool->works.work);
}
