/* tpio_counts.c: what operations cost. Nothing of it is in an ordinary build: see tpio_counts.h. */
#include "tpio_internal.h"

#ifdef TPIO_COUNTS

#include <string.h>

#undef malloc
#undef realloc

enum { CALLER, POOL, WHERE };

static volatile LONG counts__on;            /* the pool's threads */
static volatile LONG counts__caller;        /* the id of the thread that counts its own, or 0 */
static volatile LONG counts__last;          /* the id of the thread that was seen last */
static volatile LONG counts__of[WHERE][TPIO_COUNTED];
static char counts__names[WHERE][4096];     /* of the calls, in order */
static volatile LONG counts__length[WHERE];

static void counts__note(int where, const char *name)
{
    LONG size = (LONG)strlen(name) + 1;
    LONG at = InterlockedExchangeAdd(&counts__length[where], size);

    if (at + size < (LONG)sizeof counts__names[where]) {
        memcpy(counts__names[where] + at, name, (size_t)size - 1);
        counts__names[where][at + size - 1] = ' ';
    }
}

void tpio_count(tpio_counted what, const char *name)
{
    LONG id = (LONG)GetCurrentThreadId();
    DWORD last_error;
    tpio_thread *thread;
    int where;

    if (!counts__on)
        return;
    if (id == counts__caller) {
        where = CALLER;
    } else {
        last_error = GetLastError();
        thread = tpio_thread_current();
        SetLastError(last_error);
        if (thread == NULL || thread->depth == 0)
            return; /* it has nothing to do with operations */
        where = POOL;
    }
    InterlockedIncrement(&counts__of[where][what]);
    if (what != TPIO_CALLS && what != TPIO_GIL)
        return;
    if (InterlockedExchange(&counts__last, id) != id)
        InterlockedIncrement(&counts__of[where][TPIO_SWITCHES]);
    counts__note(where, name);
}

/* ---- for tests/cost.py, which calls them through ctypes */

/* From now on the pool's threads count, and the calling one until pause. */
__declspec(dllexport) void tpio_counts_begin(void)
{
    memset((void *)counts__of, 0, sizeof counts__of);
    memset(counts__names, 0, sizeof counts__names);
    memset((void *)counts__length, 0, sizeof counts__length);
    InterlockedExchange(&counts__last, (LONG)GetCurrentThreadId());
    InterlockedExchange(&counts__on, 1);
    InterlockedExchange(&counts__caller, (LONG)GetCurrentThreadId());
}

__declspec(dllexport) void tpio_counts_pause(void)
{
    InterlockedExchange(&counts__caller, 0);
}

/* The calling thread's first, then the pool's. */
__declspec(dllexport) const volatile LONG *tpio_counts_end(void)
{
    InterlockedExchange(&counts__caller, 0);
    InterlockedExchange(&counts__on, 0);
    return counts__of[0];
}

/* 0: the calling thread's, 1: the pool's */
__declspec(dllexport) const char *tpio_counts_names(int where)
{
    return counts__names[where];
}

/* Bytes of the core's memory for each handle; what the system needs for its own is not known. */
__declspec(dllexport) size_t tpio_counts_handle_size(void)
{
    return sizeof(tpio_handle);
}

/* A PyRefTracer: each object that is made, also one that a free list had. */
__declspec(dllexport) int tpio_counts_tracer(void *object, int event, void *data)
{
    (void)object, (void)data;
    if (event == 0)
        tpio_count(TPIO_OBJECTS, "");
    return 0;
}

/* A PyMemAllocatorEx around another, which is the context. */
typedef struct counts__allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block);
} counts__allocator;

__declspec(dllexport) void *tpio_counts_malloc(void *context, size_t size)
{
    counts__allocator *real = context;

    tpio_count(TPIO_ALLOCATIONS, "");
    return real->malloc(real->context, size);
}

__declspec(dllexport) void *tpio_counts_calloc(void *context, size_t count, size_t size)
{
    counts__allocator *real = context;

    tpio_count(TPIO_ALLOCATIONS, "");
    return real->calloc(real->context, count, size);
}

__declspec(dllexport) void *tpio_counts_realloc(void *context, void *block, size_t size)
{
    counts__allocator *real = context;

    tpio_count(TPIO_ALLOCATIONS, "");
    return real->realloc(real->context, block, size);
}

__declspec(dllexport) void tpio_counts_free(void *context, void *block)
{
    counts__allocator *real = context;

    real->free(real->context, block);
}

#else
typedef int tpio_no_counts; /* a file of C has a declaration */
#endif
