/* tpio_pool.c: a private pool of the operating system, and the count of what lives in it.
 *
 * A pool is closed by closing what lives in it. Nothing waits for that but tpio_pool_drain; whoever leaves last closes
 * the system's pool. (A cleanup group would do it in one call, but by dropping completions that own memory.)
 */
#include "tpio_internal.h"

#include <stdlib.h>

static void pool__destroy(tpio_pool *pool)
{
    tpio__waits_destroy(pool);
    tpio__works_destroy(pool);
    tpio__timers_destroy(pool);
    DestroyThreadpoolEnvironment(&pool->environ_);
    if (pool->pool != NULL)
        CloseThreadpool(pool->pool); /* its threads end by themselves; we may be one of them */
    pool->pool = NULL;
}

DWORD tpio_pool_create(const tpio_pool_options *options, tpio_pool **result)
{
    tpio_pool *pool = calloc(1, sizeof *pool);
    DWORD error;

    *result = NULL;
    if (pool == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    pool->refs = 1;
    pool->live = 1; /* until tpio_pool_close */
    InitializeSRWLock(&pool->lock);
    InitializeThreadpoolEnvironment(&pool->environ_);
    pool->pool = CreateThreadpool(NULL);
    if (pool->pool == NULL) {
        error = GetLastError();
        goto failed;
    }
    SetThreadpoolCallbackPool(&pool->environ_, pool->pool);
    SetThreadpoolCallbackPriority(&pool->environ_, options->priority > 0   ? TP_CALLBACK_PRIORITY_HIGH
                                                   : options->priority < 0 ? TP_CALLBACK_PRIORITY_LOW
                                                                           : TP_CALLBACK_PRIORITY_NORMAL);
    if (options->runs_long)
        tpio__environ_runs_long(&pool->environ_);
    if (options->max_threads != 0)
        SetThreadpoolThreadMaximum(pool->pool, options->max_threads);
    if (options->min_threads != 0 && !SetThreadpoolThreadMinimum(pool->pool, options->min_threads)) {
        error = GetLastError();
        goto failed;
    }
    error = tpio__timers_create(pool);
    if (error == 0)
        error = tpio__works_create(pool);
    if (error == 0)
        error = tpio__waits_create(pool);
    if (error != 0)
        goto failed;
    *result = pool;
    return ERROR_SUCCESS;

failed:
    pool__destroy(pool);
    free(pool);
    return error;
}

void tpio_pool_ref(tpio_pool *pool)
{
    InterlockedIncrement(&pool->refs);
}

void tpio_pool_unref(tpio_pool *pool)
{
    if (InterlockedDecrement(&pool->refs) != 0)
        return;
    tpio__polls_free(pool);
    free(pool);
}

BOOL tpio__pool_enter(tpio_pool *pool)
{
    LONG live = pool->live, seen;

    tpio_pool_ref(pool);
    while (!pool->closing && live != 0) {
        seen = InterlockedCompareExchange(&pool->live, live + 1, live);
        if (seen == live)
            return TRUE;
        live = seen;
    }
    tpio_pool_unref(pool);
    return FALSE;
}

void tpio__pool_leave(tpio_pool *pool)
{
    if (InterlockedDecrement(&pool->live) == 0) {
        pool__destroy(pool);
        WakeByAddressAll((PVOID)&pool->live);
    }
    tpio_pool_unref(pool);
}

void tpio_pool_close(tpio_pool *pool)
{
    tpio_tail_fn tail = NULL;
    tpio_handle *handle;

    if (InterlockedExchange(&pool->closing, 1))
        return;
    /* Handles leave the list when they are free, perhaps at once and perhaps much later: each is closed once. */
    AcquireSRWLockExclusive(&pool->lock);
    for (;;) {
        for (handle = pool->handles; handle != NULL && handle->gate < 0; handle = handle->next)
            ;
        if (handle == NULL)
            break;
        InterlockedIncrement(&handle->refs);
        ReleaseSRWLockExclusive(&pool->lock);
        tpio_handle_close(handle);
        tpio_handle_unref(handle);
        AcquireSRWLockExclusive(&pool->lock);
    }
    ReleaseSRWLockExclusive(&pool->lock);
    tpio__timers_abort(pool, &tail);
    tpio__works_abort(pool, &tail);
    tpio__waits_abort(pool);
    tpio_pool_ref(pool); /* leave drops one */
    tpio__pool_leave(pool);
    tpio__tail(tail); /* it may wait for the pool's end: we must not be in the way */
}

BOOL tpio_pool_drain(tpio_pool *pool, DWORD milliseconds)
{
    ULONGLONG now = GetTickCount64(), end = now + milliseconds;
    LONG live;

    while ((live = pool->live) != 0) {
        DWORD left = INFINITE;

        if (milliseconds != INFINITE) {
            now = GetTickCount64();
            if (now >= end)
                return FALSE;
            left = (DWORD)(end - now);
        }
        WaitOnAddress((volatile VOID *)&pool->live, &live, sizeof live, left);
    }
    return TRUE;
}

BOOL tpio_pool_closing(tpio_pool *pool)
{
    return pool->closing != 0;
}

void tpio_pool_get_stats(tpio_pool *pool, tpio_pool_stats *stats)
{
    /* The ends before the beginnings: what happens meanwhile counts as pending, never as negative. */
    stats->completed = pool->completed;
    stats->cancelled = pool->cancelled;
    stats->failed = pool->failed;
    stats->submitted = pool->submitted;
    stats->pending = stats->submitted - stats->completed - stats->cancelled - stats->failed;
    stats->handles = pool->handle_count;
    stats->threads = pool->thread_count;
}
