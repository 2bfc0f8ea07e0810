/* Where the simulated system touches the program's memory: the one file of the simulation that is instrumented when the
 * rest is not, so that ThreadSanitizer sees what the system does. */
#include "win32sim.h"

void sim_touch_begin(OVERLAPPED *overlapped)
{
    overlapped->Internal = STATUS_PENDING;
}

void sim_touch_end(OVERLAPPED *overlapped, DWORD error, DWORD bytes)
{
    overlapped->Internal = error;
    overlapped->InternalHigh = bytes;
}

void sim_touch_fill(void *buffer, size_t size)
{
    memset(buffer, SIM_FILL, size);
}

void sim_touch_read(const void *buffer, size_t size)
{
    const char *at = buffer;
    char last;

    for (size_t i = 0; i < size; i++)
        __atomic_store_n(&last, at[i], __ATOMIC_RELAXED); /* is not optimized away */
}

void sim_touch_word(void *word, DWORD value)
{
    *(DWORD *)word = value;
}

#ifdef SIM_FREE
/* The core reads some words that others change with interlocked operations through plain volatile reads. On x86 that is
 * an atomic read; on ARM64 Microsoft's compiler makes no more than that of it either. So, atomic and relaxed: for
 * ThreadSanitizer such a read is no race, and no order comes from it. */
#define VOLATILE_ACCESS(type, bytes) \
    void __tsan_volatile_read##bytes(void *at); \
    void __tsan_volatile_read##bytes(void *at) \
    { \
        (void)__atomic_load_n((type *)at, __ATOMIC_RELAXED); \
    } \
    void __tsan_volatile_write##bytes(void *at); \
    void __tsan_volatile_write##bytes(void *at) \
    { \
        *(type *)at = *(type *)at; /* a write like any other */ \
    }
VOLATILE_ACCESS(uint32_t, 4)
VOLATILE_ACCESS(uint64_t, 8)
#endif
