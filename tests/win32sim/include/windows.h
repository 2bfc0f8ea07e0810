/* The part of Win32 that the C core uses, for a simulation that runs on Linux (see tests/win32sim/README.md).
 *
 * Names, types and constants are Microsoft's; the widths are Windows' (LONG has 32 bits). Every function is a place where
 * the scheduler may let another thread go on, and so is every interlocked operation.
 */
#ifndef WIN32SIM_WINDOWS_H
#define WIN32SIM_WINDOWS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

#define WINAPI
#define NTAPI
#define CALLBACK
#define TRUE 1
#define FALSE 0
#define VOID void

typedef int BOOL;
typedef void *PVOID, *HANDLE, *HMODULE;
typedef const wchar_t *LPCWSTR;
typedef int32_t LONG, NTSTATUS;
typedef uint32_t ULONG, DWORD;
typedef int64_t LONG64, LONGLONG;
typedef uint64_t ULONGLONG;
typedef uintptr_t ULONG_PTR, SOCKET;
typedef size_t SIZE_T;
typedef union LARGE_INTEGER {
    struct {
        DWORD LowPart;
        LONG HighPart;
    };
    LONGLONG QuadPart;
} LARGE_INTEGER;
typedef struct FILETIME {
    DWORD dwLowDateTime, dwHighDateTime;
} FILETIME;
typedef struct GUID {
    uint32_t Data1;
    uint16_t Data2, Data3;
    uint8_t Data4[8];
} GUID;
typedef struct OVERLAPPED {
    ULONG_PTR Internal, InternalHigh;
    union {
        struct {
            DWORD Offset, OffsetHigh;
        };
        PVOID Pointer;
    };
    HANDLE hEvent;
} OVERLAPPED;

#define INVALID_HANDLE_VALUE ((HANDLE)(intptr_t)-1)
#define TPIO__DEVICE_POLLS 3 /* the core's: few, so that schedules fill devices */
#define INFINITE 0xFFFFFFFFu
#define ERROR_SUCCESS 0
#define ERROR_INVALID_FUNCTION 1
#define ERROR_INVALID_HANDLE 6
#define ERROR_NOT_ENOUGH_MEMORY 8
#define ERROR_NETNAME_DELETED 64
#define ERROR_INVALID_PARAMETER 87
#define ERROR_WRITE_FAULT 29
#define ERROR_HANDLE_EOF 38
#define ERROR_BROKEN_PIPE 109
#define ERROR_PIPE_NOT_CONNECTED 233
#define ERROR_NO_DATA 232
#define ERROR_MORE_DATA 234
#define WAIT_OBJECT_0 0
#define WAIT_TIMEOUT 258
#define ERROR_PIPE_CONNECTED 535
#define ERROR_INVALID_LOCK_RANGE 307
#define ERROR_OPERATION_ABORTED 995
#define ERROR_IO_PENDING 997
#define ERROR_SHUTDOWN_IN_PROGRESS 1115
#define ERROR_NOT_FOUND 1168
#define ERROR_NO_SYSTEM_RESOURCES 1450
#define ERROR_TIMEOUT 1460
#define STATUS_PENDING 0x103
#define FILE_SHARE_READ 1
#define FILE_SHARE_WRITE 2
#define OPEN_EXISTING 3
#define FILE_FLAG_OVERLAPPED 0x40000000
#define DUPLICATE_SAME_ACCESS 2
#define SYNCHRONIZE 0x00100000
#define LOCKFILE_EXCLUSIVE_LOCK 2
#define FILE_SKIP_COMPLETION_PORT_ON_SUCCESS 1
#define FLS_OUT_OF_INDEXES 0xFFFFFFFFu
#define GET_MODULE_HANDLE_EX_FLAG_PIN 1
#define GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS 4
#define ZeroMemory(at, size) memset(at, 0, size)
#define CopyMemory memcpy

DWORD GetLastError(void);

/* ---- interlocked ------------------------------------------------------------------------------------------------ */

void sim_yield(void);

#define SIM__INTERLOCKED(type, name, parameters, expression) \
    static inline type name parameters \
    { \
        type result; \
        sim_yield(); \
        result = expression; \
        sim_yield(); \
        return result; \
    }
SIM__INTERLOCKED(LONG, InterlockedIncrement, (LONG volatile *at), __atomic_add_fetch(at, 1, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG, InterlockedDecrement, (LONG volatile *at), __atomic_sub_fetch(at, 1, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG, InterlockedOr, (LONG volatile *at, LONG what), __atomic_fetch_or(at, what, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG64, InterlockedIncrement64, (LONG64 volatile *at), __atomic_add_fetch(at, 1, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG, InterlockedExchange, (LONG volatile *at, LONG to), __atomic_exchange_n(at, to, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(PVOID, InterlockedExchangePointer, (PVOID volatile *at, PVOID to),
                 __atomic_exchange_n(at, to, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG64, InterlockedExchangeAdd64, (LONG64 volatile *at, LONG64 what),
                 __atomic_fetch_add(at, what, __ATOMIC_SEQ_CST))
SIM__INTERLOCKED(LONG, InterlockedCompareExchange, (LONG volatile *at, LONG to, LONG from),
                 (__atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST), from))
SIM__INTERLOCKED(LONG64, InterlockedCompareExchange64, (LONG64 volatile *at, LONG64 to, LONG64 from),
                 (__atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST), from))
SIM__INTERLOCKED(PVOID, InterlockedCompareExchangePointer, (PVOID volatile *at, PVOID to, PVOID from),
                 (__atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST), from))

/* ---- the process ------------------------------------------------------------------------------------------------ */

typedef struct SRWLOCK {
    void *owner;
} SRWLOCK;
typedef void (*PFLS_CALLBACK_FUNCTION)(PVOID value);
typedef void (*FARPROC)(void);

void InitializeSRWLock(SRWLOCK *lock);
void AcquireSRWLockExclusive(SRWLOCK *lock);
void ReleaseSRWLockExclusive(SRWLOCK *lock);
BOOL WaitOnAddress(volatile void *address, PVOID compare, SIZE_T size, DWORD milliseconds);
void WakeByAddressAll(PVOID address);
DWORD FlsAlloc(PFLS_CALLBACK_FUNCTION destructor);
PVOID FlsGetValue(DWORD index);
BOOL FlsSetValue(DWORD index, PVOID value);
ULONGLONG GetTickCount64(void);
BOOL QueryPerformanceCounter(LARGE_INTEGER *value);
BOOL QueryPerformanceFrequency(LARGE_INTEGER *value);
HMODULE GetModuleHandleW(LPCWSTR name);
BOOL GetModuleHandleExW(DWORD flags, LPCWSTR address, HMODULE *module);
FARPROC GetProcAddress(HMODULE module, const char *name);

/* ---- handles and I/O -------------------------------------------------------------------------------------------- */

HANDLE GetCurrentProcess(void);
BOOL CloseHandle(HANDLE handle);
HANDLE CreateFileW(LPCWSTR name, DWORD access, DWORD share, void *security, DWORD disposition, DWORD flags, HANDLE like);
HANDLE CreateEventW(void *security, BOOL manual, BOOL set, LPCWSTR name);
BOOL DuplicateHandle(HANDLE from_process, HANDLE from, HANDLE to_process, HANDLE *to, DWORD access, BOOL inherit,
                     DWORD options);
BOOL SetFileCompletionNotificationModes(HANDLE file, unsigned char flags);
BOOL ReadFile(HANDLE file, void *buffer, DWORD size, DWORD *bytes, OVERLAPPED *overlapped);
BOOL WriteFile(HANDLE file, const void *buffer, DWORD size, DWORD *bytes, OVERLAPPED *overlapped);
BOOL ConnectNamedPipe(HANDLE file, OVERLAPPED *overlapped);
BOOL DeviceIoControl(HANDLE file, DWORD code, void *input, DWORD input_size, void *output, DWORD output_size,
                     DWORD *bytes, OVERLAPPED *overlapped);
BOOL LockFileEx(HANDLE file, DWORD flags, DWORD reserved, DWORD low, DWORD high, OVERLAPPED *overlapped);
BOOL ReadDirectoryChangesW(HANDLE file, void *buffer, DWORD size, BOOL recursive, DWORD filter, DWORD *bytes,
                           OVERLAPPED *overlapped, void *routine);
BOOL CancelIoEx(HANDLE file, OVERLAPPED *overlapped);

/* ---- the thread pool -------------------------------------------------------------------------------------------- */

typedef struct sim_tp *PTP_IO, *PTP_TIMER, *PTP_WORK, *PTP_WAIT;
typedef struct sim_pool *PTP_POOL;
typedef struct sim_instance *PTP_CALLBACK_INSTANCE;
typedef DWORD TP_WAIT_RESULT;
typedef enum { TP_CALLBACK_PRIORITY_HIGH, TP_CALLBACK_PRIORITY_NORMAL, TP_CALLBACK_PRIORITY_LOW } TP_CALLBACK_PRIORITY;
typedef struct TP_CALLBACK_ENVIRON {
    PTP_POOL Pool;
    TP_CALLBACK_PRIORITY CallbackPriority;
} TP_CALLBACK_ENVIRON;
typedef void (*PTP_WIN32_IO_CALLBACK)(PTP_CALLBACK_INSTANCE, PVOID, PVOID, ULONG, ULONG_PTR, PTP_IO);
typedef void (*PTP_TIMER_CALLBACK)(PTP_CALLBACK_INSTANCE, PVOID, PTP_TIMER);
typedef void (*PTP_WORK_CALLBACK)(PTP_CALLBACK_INSTANCE, PVOID, PTP_WORK);
typedef void (*PTP_WAIT_CALLBACK)(PTP_CALLBACK_INSTANCE, PVOID, PTP_WAIT, TP_WAIT_RESULT);

void InitializeThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_);
void DestroyThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_);
void SetThreadpoolCallbackPool(TP_CALLBACK_ENVIRON *environ_, PTP_POOL pool);
void SetThreadpoolCallbackPriority(TP_CALLBACK_ENVIRON *environ_, TP_CALLBACK_PRIORITY priority);
void SetThreadpoolCallbackRunsLong(TP_CALLBACK_ENVIRON *environ_);
PTP_POOL CreateThreadpool(PVOID reserved);
void CloseThreadpool(PTP_POOL pool);
void SetThreadpoolThreadMaximum(PTP_POOL pool, DWORD most);
BOOL SetThreadpoolThreadMinimum(PTP_POOL pool, DWORD least);
void DisassociateCurrentThreadFromCallback(PTP_CALLBACK_INSTANCE instance);
BOOL CallbackMayRunLong(PTP_CALLBACK_INSTANCE instance);

PTP_IO CreateThreadpoolIo(HANDLE file, PTP_WIN32_IO_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_);
void StartThreadpoolIo(PTP_IO io);
void CancelThreadpoolIo(PTP_IO io);
void WaitForThreadpoolIoCallbacks(PTP_IO io, BOOL cancel_pending);
void CloseThreadpoolIo(PTP_IO io);

PTP_TIMER CreateThreadpoolTimer(PTP_TIMER_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_);
void SetThreadpoolTimer(PTP_TIMER timer, FILETIME *due, DWORD period, DWORD window);
void WaitForThreadpoolTimerCallbacks(PTP_TIMER timer, BOOL cancel_pending);
void CloseThreadpoolTimer(PTP_TIMER timer);

PTP_WORK CreateThreadpoolWork(PTP_WORK_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_);
void SubmitThreadpoolWork(PTP_WORK work);
void WaitForThreadpoolWorkCallbacks(PTP_WORK work, BOOL cancel_pending);
void CloseThreadpoolWork(PTP_WORK work);

PTP_WAIT CreateThreadpoolWait(PTP_WAIT_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_);
void SetThreadpoolWait(PTP_WAIT wait, HANDLE object, FILETIME *timeout);
void WaitForThreadpoolWaitCallbacks(PTP_WAIT wait, BOOL cancel_pending);
void CloseThreadpoolWait(PTP_WAIT wait);

#endif
