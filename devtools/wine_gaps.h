/* What Wine's copy of the Windows SDK lacks; included before our C when lint compiles it in MSVC mode. */
#pragma clang system_header
#include <winsock2.h>
#include <windows.h>
#include <stdlib.h>

__int64 __cdecl _abs64(__int64);

#ifndef PIPE_REJECT_REMOTE_CLIENTS
#define PIPE_REJECT_REMOTE_CLIENTS 0x00000008
#endif

typedef struct {
    ULONG LogicalBytesPerSector;
    ULONG PhysicalBytesPerSectorForAtomicity;
    ULONG PhysicalBytesPerSectorForPerformance;
    ULONG FileSystemEffectivePhysicalBytesPerSectorForAtomicity;
    ULONG Flags;
    ULONG ByteOffsetForSectorAlignment;
    ULONG ByteOffsetForPartitionAlignment;
} FILE_STORAGE_INFO;

/* Inline functions of the real SDK. Nothing is linked: that they exist is enough. */
void InitializeThreadpoolEnvironment(TP_CALLBACK_ENVIRON *);
void DestroyThreadpoolEnvironment(TP_CALLBACK_ENVIRON *);
void SetThreadpoolCallbackPool(TP_CALLBACK_ENVIRON *, TP_POOL *);
void SetThreadpoolCallbackCleanupGroup(TP_CALLBACK_ENVIRON *, TP_CLEANUP_GROUP *, PTP_CLEANUP_GROUP_CANCEL_CALLBACK);
void SetThreadpoolCallbackLibrary(TP_CALLBACK_ENVIRON *, void *);
void SetThreadpoolCallbackPriority(TP_CALLBACK_ENVIRON *, TP_CALLBACK_PRIORITY);
void SetThreadpoolCallbackRunsLong(TP_CALLBACK_ENVIRON *);
BOOL WINAPI CallbackMayRunLong(PTP_CALLBACK_INSTANCE);
