/* tpio_faults.c: which call fails. Nothing of it is in an ordinary build: see tpio_faults.h. */
#include "tpio_win32.h"

#ifdef TPIO_FAULTS

#include <stdint.h>
#include <string.h>

#include "tpio_faults.h"

static const char *volatile faults__spared = "";
static volatile LONG faults__nth; /* 0: none */
static volatile LONG faults__calls = -1; /* negative: not armed */
static const char *volatile faults__function;
static volatile unsigned faults__error;

int tpio_fault(const char *function, unsigned error)
{
    DWORD last = GetLastError();
    LONG calls = faults__calls, seen;

    if (calls >= 0 && strcmp(function, faults__spared) == 0)
        return FALSE;
    for (;;) {
        if (calls < 0)
            return FALSE;
        seen = InterlockedCompareExchange(&faults__calls, calls + 1, calls);
        if (seen == calls)
            break;
        calls = seen;
    }
    if (calls + 1 != faults__nth) {
        SetLastError(last); /* as if nobody had been here */
        return FALSE;
    }
    faults__function = function;
    faults__error = error;
    SetLastError(error);
    return TRUE;
}

/* For tests/test_faults.py, which calls them through ctypes. */

/* From now on calls are counted, and the n-th fails; 0: none. */
__declspec(dllexport) void tpio_faults_arm(LONG n)
{
    faults__function = "";
    faults__error = 0;
    faults__nth = n;
    InterlockedExchange(&faults__calls, 0);
}

/* A function that does not fail, and is not counted; "" for none. The name has to stay. */
__declspec(dllexport) void tpio_faults_spare(const char *function)
{
    faults__spared = function;
}

/* How many there were. */
__declspec(dllexport) LONG tpio_faults_disarm(void)
{
    return InterlockedExchange(&faults__calls, -1);
}

/* What failed: the function's name and its error; "" when nothing did. */
__declspec(dllexport) const char *tpio_faults_function(void)
{
    return faults__function;
}

__declspec(dllexport) unsigned tpio_faults_error(void)
{
    return faults__error;
}

/* ---- Python's own memory ------------------------------------------------------------------------------------------ */

/* As Python's PyMemAllocatorEx, which this file does not know. */
typedef struct faults__allocator {
    void *context;
    void *(*malloc_)(void *context, size_t size);
    void *(*calloc_)(void *context, size_t count, size_t size);
    void *(*realloc_)(void *context, void *block, size_t size);
    void (*free_)(void *context, void *block);
} faults__allocator;

static faults__allocator faults__python[2]; /* of the domains for memory and for objects, before they were wrapped */
static volatile LONG faults__memory_nth;    /* 0: none */
static volatile LONG faults__memory_calls = -1;
static volatile DWORD faults__memory_thread;
static volatile BOOL faults__memory_elsewhere;

/* Functions of Python's that do not survive it when they get no memory. */
static struct {
    uintptr_t beginning;
    int depth; /* so near to the allocation, in calls */
} faults__frail[8];
static int faults__frail_count;
static uintptr_t faults__interpreter; /* where what runs Python's code begins: spared is what it allocates itself */

enum { FAULTS__DEPTH = 24 };

/* Where the function begins that the address is in, and its module; 0: nobody knows. */
static uintptr_t faults__beginning(uintptr_t address, DWORD64 *module)
{
    DWORD64 base;
    RUNTIME_FUNCTION *function = RtlLookupFunctionEntry(address, &base, NULL);

    *module = base;
    if (function == NULL)
        return 0;
#ifdef _M_AMD64
    /* Compilers put the parts of a function that seldom run elsewhere: those lead back to the first. */
    for (;;) {
        const BYTE *unwind = (const BYTE *)(base + function->UnwindData);

        if (!((unwind[0] >> 3) & UNW_FLAG_CHAININFO))
            break;
        function = (RUNTIME_FUNCTION *)(unwind + 4 + 2 * ((unwind[2] + 1) & ~1));
    }
#endif
    return (uintptr_t)(base + function->BeginAddress);
}

static BOOL faults__in_frail(void)
{
    void *frames[FAULTS__DEPTH];
    int i, j, count = RtlCaptureStackBackTrace(1, FAULTS__DEPTH, frames, NULL);
    BOOL hooks = TRUE, ours = FALSE; /* we are between it and the interpreter */
    DWORD64 module, us;

    faults__beginning((uintptr_t)&faults__in_frail, &us);
    for (i = 0; i < count; i++) {
        uintptr_t beginning = faults__beginning((uintptr_t)frames[i], &module);

        hooks = hooks && module == us; /* the nearest of us */
        ours = ours || (!hooks && module == us);
        if (!ours && beginning != 0 && beginning == faults__interpreter)
            return TRUE;

        for (j = 0; j < faults__frail_count; j++)
            if (i < faults__frail[j].depth && beginning == faults__frail[j].beginning)
                return TRUE;
    }
    return FALSE;
}

static BOOL faults__no_memory(void)
{
    if (faults__memory_calls < 0 || (GetCurrentThreadId() == faults__memory_thread) == faults__memory_elsewhere ||
        faults__in_frail())
        return FALSE;
    return InterlockedIncrement(&faults__memory_calls) == faults__memory_nth;
}

#define FAULTS__WRAPPED(domain)                                                                                  \
    static void *faults__malloc_##domain(void *context, size_t size)                                            \
    {                                                                                                            \
        return faults__no_memory() ? NULL : faults__python[domain].malloc_(context, size);                      \
    }                                                                                                            \
    static void *faults__calloc_##domain(void *context, size_t count, size_t size)                              \
    {                                                                                                            \
        return faults__no_memory() ? NULL : faults__python[domain].calloc_(context, count, size);               \
    }                                                                                                            \
    static void *faults__realloc_##domain(void *context, void *block, size_t size)                              \
    {                                                                                                            \
        return faults__no_memory() ? NULL : faults__python[domain].realloc_(context, block, size);              \
    }

FAULTS__WRAPPED(0)
FAULTS__WRAPPED(1)

/* Turns one of Python's allocators into one whose allocations can fail. With the same context, so that it does not matter to
 * threads that allocate meanwhile which half of the change they see. */
__declspec(dllexport) void tpio_faults_wrap(int domain, faults__allocator *allocator)
{
    faults__python[domain] = *allocator;
    allocator->malloc_ = domain == 0 ? faults__malloc_0 : faults__malloc_1;
    allocator->calloc_ = domain == 0 ? faults__calloc_0 : faults__calloc_1;
    allocator->realloc_ = domain == 0 ? faults__realloc_0 : faults__realloc_1;
}

/* Allocations inside that function, of python3xx.dll, do not fail, if so many calls at most are between it and them. */
__declspec(dllexport) void tpio_faults_spare_python(const void *function, int depth)
{
    DWORD64 module;
    uintptr_t beginning = faults__beginning((uintptr_t)function, &module);

    if (beginning == 0 || faults__frail_count == (int)(sizeof faults__frail / sizeof *faults__frail))
        return;
    faults__frail[faults__frail_count].beginning = beginning;
    faults__frail[faults__frail_count++].depth = depth;
}

/* What that function, of python3xx.dll, allocates itself, without us in between, does not fail. */
__declspec(dllexport) void tpio_faults_spare_interpreter(const void *function)
{
    DWORD64 module;

    faults__interpreter = faults__beginning((uintptr_t)function, &module);
}

/* From now on Python's allocations on this thread, or on all others, are counted, and the n-th fails; 0: none. */
__declspec(dllexport) void tpio_faults_arm_memory(LONG n, BOOL elsewhere)
{
    faults__memory_thread = GetCurrentThreadId();
    faults__memory_elsewhere = elsewhere != FALSE;
    faults__memory_nth = n;
    InterlockedExchange(&faults__memory_calls, 0);
}

__declspec(dllexport) LONG tpio_faults_disarm_memory(void)
{
    return InterlockedExchange(&faults__memory_calls, -1);
}

#else
typedef int tpio_no_faults; /* a file of C has a declaration */
#endif
