/* What a process has: memory, locks, addresses to wait on, fiber-local storage, time. */
#include "win32sim.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

typedef struct waiter {
    struct waiter *next;
    const volatile void *address;
    bool woken;
} waiter;

static uint32_t faults;
static long blocks;
static waiter *waiters;
static PFLS_CALLBACK_FUNCTION fls_destructor;

void sim_begin(uint32_t one_in)
{
    faults = one_in;
    blocks = 0;
    sim_kernel_begin();
}

void sim_end(void)
{
    sim_pool_end();
    sim_kernel_end();
    sim_process_end();
}

bool sim_outside(bool quiet)
{
    bool (*const worlds[])(bool) = {sim_kernel_outside, sim_pool_outside, sim_process_outside};
    uint32_t first = sim_random(3);

    for (uint32_t i = 0; i < 3; i++)
        if (worlds[(first + i) % 3](quiet))
            return true;
    return false;
}

uint64_t sim_next_deadline(void)
{
    return sim_pool_deadline();
}

void sim_call(const char *name)
{
    sim_thread *self = sim_self();

    sim_trace("%s", name);
    if (self->started != NULL)
        sim_broken("%s between StartThreadpoolIo and the call it is for", name);
    sim_yield();
}

bool sim_fault(DWORD error)
{
    if (!sim_chance(faults))
        return false;
    sim_self()->last_error = error;
    sim_trace("    fails: %u", error);
    return true;
}

BOOL sim_result(DWORD error)
{
    sim_self()->last_error = error;
    return error == 0;
}

DWORD GetLastError(void)
{
    return sim_self()->last_error;
}

int WSAGetLastError(void)
{
    return (int)sim_self()->last_error;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *block, size_t size);
void sim_free(void *block);

void *sim_calloc(size_t count, size_t size)
{
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return NULL;
    __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
    return calloc(count, size);
}

void *sim_realloc(void *block, size_t size)
{
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return NULL;
    if (block == NULL)
        __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
    return realloc(block, size);
}

void sim_free(void *block)
{
    if (block != NULL)
        __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
    free(block);
}

void sim_process_end(void)
{
    if (waiters != NULL)
        sim_broken("somebody still waits on an address");
    if (blocks == 0)
        return;
#if defined(__SANITIZE_ADDRESS__)
    __lsan_do_recoverable_leak_check();
#endif
    sim_broken("%ld blocks of memory leaked", blocks);
}

/* ---- locks ------------------------------------------------------------------------------------------------------ */

void InitializeSRWLock(SRWLOCK *lock)
{
    lock->owner = NULL;
}

static bool lock_is_free(void *lock)
{
    return ((SRWLOCK *)lock)->owner == NULL;
}

void AcquireSRWLockExclusive(SRWLOCK *lock)
{
    sim_thread *self = sim_self();

    sim_call("AcquireSRWLockExclusive");
    sim_lock();
    if (lock->owner == self)
        sim_broken("a lock is acquired by its owner: deadlock");
    sim_block(lock_is_free, lock, SIM_FOREVER);
    lock->owner = self;
    self->locks++;
    sim_acquire(lock);
    sim_unlock();
    sim_yield();
}

void ReleaseSRWLockExclusive(SRWLOCK *lock)
{
    sim_thread *self = sim_self();

    sim_call("ReleaseSRWLockExclusive");
    sim_lock();
    if (lock->owner != self)
        sim_broken("a lock is released by somebody who does not have it");
    sim_release(lock);
    lock->owner = NULL;
    self->locks--;
    sim_unlock();
    sim_yield();
}

static bool is_woken(void *argument)
{
    return ((waiter *)argument)->woken;
}

BOOL WaitOnAddress(volatile void *address, PVOID compare, SIZE_T size, DWORD milliseconds)
{
    waiter self = {.address = address};
    bool woken;

    sim_call("WaitOnAddress");
    if (sim_self()->locks != 0)
        sim_broken("WaitOnAddress with a lock held");
    if (size != sizeof(LONG))
        sim_broken("WaitOnAddress knows words of 32 bits only, here");
    sim_lock();
    if (__atomic_load_n((volatile LONG *)address, __ATOMIC_RELAXED) != *(LONG *)compare) {
        sim_unlock();
        return TRUE;
    }
    self.next = waiters;
    waiters = &self;
    woken = sim_block(is_woken, &self,
                      milliseconds == INFINITE ? SIM_FOREVER : sim_now() + (uint64_t)milliseconds * 10000);
    for (waiter **at = &waiters; *at != NULL; at = &(*at)->next)
        if (*at == &self) {
            *at = self.next;
            break;
        }
    sim_unlock();
    return woken ? TRUE : sim_result(ERROR_TIMEOUT);
}

void WakeByAddressAll(PVOID address)
{
    sim_call("WakeByAddressAll");
    sim_lock();
    for (waiter *one = waiters; one != NULL; one = one->next)
        if (one->address == address)
            one->woken = true;
    sim_unlock();
}

/* Somebody wakes up for nothing, as the system allows itself. */
bool sim_process_outside(bool quiet)
{
    if (quiet || waiters == NULL || !sim_chance(8))
        return false;
    waiters->woken = true;
    return true;
}

/* ---- fiber-local storage ---------------------------------------------------------------------------------------- */

DWORD FlsAlloc(PFLS_CALLBACK_FUNCTION destructor)
{
    fls_destructor = destructor;
    return 0;
}

PVOID FlsGetValue(DWORD index)
{
    (void)index;
    return sim_self()->fls;
}

BOOL FlsSetValue(DWORD index, PVOID value)
{
    (void)index;
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return FALSE;
    sim_self()->fls = value;
    return TRUE;
}

void sim_thread_ends(void)
{
    void *value = sim_self()->fls;

    sim_self()->fls = NULL;
    if (value != NULL)
        fls_destructor(value);
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

#define FREQUENCY 3579545 /* as a chipset had it once: no power of ten, so that rounding shows */

int64_t sim_counter(void)
{
    uint64_t now = sim_now();

    return (int64_t)(now / 10000000 * FREQUENCY + now % 10000000 * FREQUENCY / 10000000);
}

ULONGLONG GetTickCount64(void)
{
    sim_yield();
    return sim_now() / 10000;
}

BOOL QueryPerformanceCounter(LARGE_INTEGER *value)
{
    sim_yield();
    value->QuadPart = sim_counter();
    return TRUE;
}

BOOL QueryPerformanceFrequency(LARGE_INTEGER *value)
{
    value->QuadPart = FREQUENCY;
    return TRUE;
}

/* ---- modules ---------------------------------------------------------------------------------------------------- */

NTSTATUS NtQueryInformationFile(HANDLE file, void *status, PVOID into, ULONG size, int what); /* kernel.c */
NTSTATUS NtSetInformationFile(HANDLE file, void *status, PVOID from, ULONG size, int what);

HMODULE GetModuleHandleW(LPCWSTR name)
{
    (void)name;
    return sim_fault(ERROR_NOT_FOUND) ? NULL : (HMODULE)1;
}

BOOL GetModuleHandleExW(DWORD flags, LPCWSTR address, HMODULE *module)
{
    (void)flags, (void)address;
    *module = (HMODULE)1;
    return TRUE;
}

FARPROC GetProcAddress(HMODULE module, const char *name)
{
    (void)module;
    if (strcmp(name, "NtSetInformationFile") == 0)
        return (FARPROC)NtSetInformationFile;
    return strcmp(name, "NtQueryInformationFile") == 0 ? (FARPROC)NtQueryInformationFile : NULL;
}
