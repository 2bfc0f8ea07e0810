/* tpio_timer.c: any number of timers on one thread pool timer.
 *
 * A heap under the pool's lock, by the latest time that will do (due time and window), and one TP_TIMER armed for the
 * first. Who takes an operation out of the heap under the lock has it: the timer's callback, a cancel, or the close of
 * the pool. That is the whole protocol.
 *
 * Due times count in ticks of QueryPerformanceCounter. The system's timers are coarser and may be early by its own
 * reckoning, so the callback looks at the counter again and re-arms for what is left: never early.
 */
#include "tpio_internal.h"

#include <stdlib.h>

#define TIMER__GONE SIZE_MAX

static int64_t timer__frequency(void)
{
    LARGE_INTEGER value;

    QueryPerformanceFrequency(&value); /* reads a word that is the same for all; not worth a cache of ours */
    return value.QuadPart;
}

static int64_t timer__now(void)
{
    LARGE_INTEGER value;

    QueryPerformanceCounter(&value);
    return value.QuadPart;
}

/* a * b / c without overflow for b, c < 2**31 or so; saturates. */
static int64_t timer__scale(int64_t a, int64_t b, int64_t c)
{
    int64_t whole = a / c, rest = a % c;

    if (whole > (INT64_MAX >> 1) / b)
        return INT64_MAX >> 1;
    return whole * b + (rest * b + c - 1) / c;
}

static void timer__put(tpio_pool *pool, size_t slot, tpio_op *op)
{
    pool->timers.heap[slot] = op;
    op->args.timer.slot = slot;
}

static void timer__up(tpio_pool *pool, size_t slot, tpio_op *op)
{
    while (slot > 0) {
        tpio_op *parent = pool->timers.heap[(slot - 1) / 2];

        if (parent->args.timer.latest <= op->args.timer.latest)
            break;
        timer__put(pool, slot, parent);
        slot = (slot - 1) / 2;
    }
    timer__put(pool, slot, op);
}

static void timer__down(tpio_pool *pool, size_t slot, tpio_op *op)
{
    for (;;) {
        size_t child = 2 * slot + 1;

        if (child >= pool->timers.count)
            break;
        if (child + 1 < pool->timers.count &&
            pool->timers.heap[child + 1]->args.timer.latest < pool->timers.heap[child]->args.timer.latest)
            child++;
        if (op->args.timer.latest <= pool->timers.heap[child]->args.timer.latest)
            break;
        timer__put(pool, slot, pool->timers.heap[child]);
        slot = child;
    }
    timer__put(pool, slot, op);
}

static void timer__take(tpio_pool *pool, tpio_op *op)
{
    size_t slot = op->args.timer.slot;
    tpio_op *last = pool->timers.heap[--pool->timers.count];

    op->args.timer.slot = TIMER__GONE;
    if (last == op)
        return;
    if (slot > 0 && last->args.timer.latest < pool->timers.heap[(slot - 1) / 2]->args.timer.latest)
        timer__up(pool, slot, last);
    else
        timer__down(pool, slot, last);
}

/* Arms the system's timer for the first operation; none of the others has to be served before that is. */
static void timer__arm(tpio_pool *pool)
{
    int64_t now = timer__now(), left, window, units;
    LARGE_INTEGER relative;
    FILETIME due;
    tpio_op *op;

    if (pool->timers.count == 0)
        return;
    op = pool->timers.heap[0];
    left = op->args.timer.due > now ? op->args.timer.due - now : 0;
    window = op->args.timer.latest - now - left;
    units = timer__scale(left, 10000000, timer__frequency()); /* of 100 ns */
    relative.QuadPart = -units;                               /* negative: from now */
    due.dwLowDateTime = relative.LowPart;
    due.dwHighDateTime = (DWORD)relative.HighPart;
    SetThreadpoolTimer(pool->timers.timer, &due, 0, window > 0 ? (DWORD)(window * 1000 / timer__frequency()) : 0);
}

static void CALLBACK timer__callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_TIMER timer)
{
    tpio_pool *pool = context;
    tpio_thread *thread;
    tpio_op *op, *fired = NULL, **last = &fired;
    tpio_tail_fn tail = NULL;
    int64_t now;

    (void)timer;
    if (!tpio__pool_enter(pool))
        return; /* closed: its timers were taken by the closer */
    thread = tpio__thread_enter(pool, instance);
    DisassociateCurrentThreadFromCallback(instance);
    AcquireSRWLockExclusive(&pool->lock);
    now = timer__now();
    /* All that are due, if they are of one owner: others' must not wait for his tail, which may block. */
    while (pool->timers.count != 0 && (op = pool->timers.heap[0])->args.timer.due <= now &&
           (fired == NULL || op->complete == fired->complete)) {
        timer__take(pool, op);
        op->next = NULL;
        *last = op;
        last = &op->next;
    }
    timer__arm(pool);
    ReleaseSRWLockExclusive(&pool->lock);
    while ((op = fired) != NULL) {
        fired = op->next;
        tpio__op_end(op, ERROR_SUCCESS, 0);
        tpio__pool_leave(pool); /* the operation's entry; ours is still there */
        tpio__op_complete(op, &tail);
    }
    tpio__pool_leave(pool);
    tpio__tail(tail);
    tpio__thread_leave(thread);
}

tpio_status tpio_sleep(tpio_op *op, tpio_pool *pool, int64_t nanoseconds, DWORD window)
{
    int64_t ticks;

    if (!tpio__pool_enter(pool))
        return TPIO_CLOSED;
    ticks = nanoseconds > 0 ? timer__scale(nanoseconds, timer__frequency(), 1000000000) : 0;
    AcquireSRWLockExclusive(&pool->lock);
    if (pool->closing) {
        ReleaseSRWLockExclusive(&pool->lock);
        tpio__pool_leave(pool);
        return TPIO_CLOSED;
    }
    tpio__op_begin(op, pool, TPIO_TIMER);
    op->args.timer.slot = TIMER__GONE; /* until it is in the heap: a cancel looks */
    if (pool->timers.count == pool->timers.capacity) {
        size_t capacity = pool->timers.capacity ? 2 * pool->timers.capacity : 16;
        tpio_op **heap = realloc(pool->timers.heap, capacity * sizeof *heap);

        if (heap == NULL) {
            tpio__op_end(op, ERROR_NOT_ENOUGH_MEMORY, 0);
            ReleaseSRWLockExclusive(&pool->lock);
            tpio__pool_leave(pool);
            return TPIO_DONE;
        }
        pool->timers.heap = heap;
        pool->timers.capacity = capacity;
    }
    op->args.timer.due = timer__now() + ticks;
    op->args.timer.latest = op->args.timer.due + timer__scale(window, timer__frequency(), 1000);
    timer__up(pool, pool->timers.count++, op);
    if (op->args.timer.slot == 0)
        timer__arm(pool);
    ReleaseSRWLockExclusive(&pool->lock);
    return TPIO_PENDING;
}

tpio_status tpio__timer_cancel(tpio_op *op)
{
    tpio_pool *pool = op->pool;
    BOOL taken;

    AcquireSRWLockExclusive(&pool->lock);
    taken = op->args.timer.slot != TIMER__GONE;
    if (taken)
        timer__take(pool, op); /* the system's timer may fire for nothing; cheaper than to disarm it each time */
    ReleaseSRWLockExclusive(&pool->lock);
    if (!taken)
        return TPIO_CLOSED;
    tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
    tpio__pool_leave(pool);
    return TPIO_DONE;
}

void tpio__timers_abort(tpio_pool *pool, tpio_tail_fn *tail)
{
    tpio_op *op;

    AcquireSRWLockExclusive(&pool->lock);
    while (pool->timers.count != 0) {
        op = pool->timers.heap[pool->timers.count - 1];
        timer__take(pool, op);
        ReleaseSRWLockExclusive(&pool->lock);
        tpio__op_end(op, ERROR_OPERATION_ABORTED, 0);
        tpio__pool_leave(pool);
        tpio__op_complete(op, tail);
        AcquireSRWLockExclusive(&pool->lock);
    }
    ReleaseSRWLockExclusive(&pool->lock);
}

DWORD tpio__timers_create(tpio_pool *pool)
{
    pool->timers.timer = CreateThreadpoolTimer(timer__callback, pool, &pool->environ_);
    return pool->timers.timer != NULL ? ERROR_SUCCESS : GetLastError();
}

void tpio__timers_destroy(tpio_pool *pool)
{
    if (pool->timers.timer != NULL) {
        SetThreadpoolTimer(pool->timers.timer, NULL, 0, 0);
        /* A callback that has not yet entered the pool is about to see that it is closed; it holds nothing. */
        WaitForThreadpoolTimerCallbacks(pool->timers.timer, TRUE);
        CloseThreadpoolTimer(pool->timers.timer);
    }
    free(pool->timers.heap);
}
