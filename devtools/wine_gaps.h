/* What Wine's copy of the Windows SDK lacks; included before our C when it is compiled in MSVC mode. */
#pragma clang system_header
#include <winsock2.h>
#include <windows.h>
#include <stdlib.h>

__int64 __cdecl _abs64(__int64);

#ifndef PIPE_REJECT_REMOTE_CLIENTS
#define PIPE_REJECT_REMOTE_CLIENTS 0x00000008
#endif

#ifndef FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
#define FILE_SKIP_COMPLETION_PORT_ON_SUCCESS 0x1
#endif

#define SCHANNEL_ALERT 2
#define SCH_USE_STRONG_CRYPTO 0x00400000
#define SEC_I_INCOMPLETE_CREDENTIALS ((HRESULT)0x00090320L)
#define TLS1_ALERT_FATAL 2

typedef struct {
    ULONG LogicalBytesPerSector;
    ULONG PhysicalBytesPerSectorForAtomicity;
    ULONG PhysicalBytesPerSectorForPerformance;
    ULONG FileSystemEffectivePhysicalBytesPerSectorForAtomicity;
    ULONG Flags;
    ULONG ByteOffsetForSectorAlignment;
    ULONG ByteOffsetForPartitionAlignment;
} FILE_STORAGE_INFO;

/* Wine knows this structure without the priority by its name, and has another for the one with it. */
#define TP_CALLBACK_ENVIRON TP_CALLBACK_ENVIRON_V3
#define CreateThreadpoolIo(handle, callback, context, environ_) \
    CreateThreadpoolIo(handle, callback, context, (TP_CALLBACK_ENVIRON_V1 *)(environ_))
#define CreateThreadpoolTimer(callback, context, environ_) \
    CreateThreadpoolTimer(callback, context, (TP_CALLBACK_ENVIRON_V1 *)(environ_))
#define CreateThreadpoolWait(callback, context, environ_) \
    CreateThreadpoolWait(callback, context, (TP_CALLBACK_ENVIRON_V1 *)(environ_))
#define CreateThreadpoolWork(callback, context, environ_) \
    CreateThreadpoolWork(callback, context, (TP_CALLBACK_ENVIRON_V1 *)(environ_))
#define TrySubmitThreadpoolCallback(callback, context, environ_) \
    TrySubmitThreadpoolCallback(callback, context, (TP_CALLBACK_ENVIRON_V1 *)(environ_))

/* Inline functions of the real SDK. */
static __inline void InitializeThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_)
{
    TP_CALLBACK_ENVIRON fresh = {0};
    fresh.Version = 3;
    fresh.CallbackPriority = TP_CALLBACK_PRIORITY_NORMAL;
    fresh.Size = sizeof fresh;
    *environ_ = fresh;
}
static __inline void DestroyThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_)
{
    (void)environ_;
}
static __inline void SetThreadpoolCallbackPool(TP_CALLBACK_ENVIRON *environ_, TP_POOL *pool)
{
    environ_->Pool = pool;
}
static __inline void SetThreadpoolCallbackCleanupGroup(TP_CALLBACK_ENVIRON *environ_, TP_CLEANUP_GROUP *group,
                                                       PTP_CLEANUP_GROUP_CANCEL_CALLBACK callback)
{
    environ_->CleanupGroup = group;
    environ_->CleanupGroupCancelCallback = callback;
}
static __inline void SetThreadpoolCallbackLibrary(TP_CALLBACK_ENVIRON *environ_, void *module)
{
    environ_->RaceDll = module;
}
static __inline void SetThreadpoolCallbackPriority(TP_CALLBACK_ENVIRON *environ_, TP_CALLBACK_PRIORITY priority)
{
    environ_->CallbackPriority = priority;
}
static __inline void SetThreadpoolCallbackRunsLong(TP_CALLBACK_ENVIRON *environ_)
{
    environ_->u.s.LongFunction = 1;
}
BOOL WINAPI CallbackMayRunLong(PTP_CALLBACK_INSTANCE);
