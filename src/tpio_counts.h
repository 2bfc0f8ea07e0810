/* What an operation costs is counted in the build of `python dev.py cost` (TPIO_COUNTS): calls of Windows that operations
 * make, times that the GIL is taken, and, through what Python has for that, allocations and objects.
 *
 * (A macro's own name in its expansion is the function.)
 */
#ifndef TPIO_COUNTS_H
#define TPIO_COUNTS_H

/* All that declares one of the functions comes first. */
#include "tpio_win32.h"

#include <stdlib.h>

typedef enum tpio_counted {
    TPIO_ALLOCATIONS,
    TPIO_OBJECTS,
    TPIO_GIL,
    TPIO_CALLS,
    TPIO_SWITCHES, /* on another thread than the last call or GIL */
    TPIO_COUNTED
} tpio_counted;

void tpio_count(tpio_counted what, const char *name);

#define TPIO_COUNT_CALL(name, call) (tpio_count(TPIO_CALLS, name), call)
#define TPIO_COUNT_MEMORY(name, call) (tpio_count(TPIO_ALLOCATIONS, name), call)

#define malloc(...) TPIO_COUNT_MEMORY("malloc", malloc(__VA_ARGS__))
/* Not calloc: it is for what lives longer than an operation, among it the record of the thread, which tpio_count asks for. */
#define realloc(...) TPIO_COUNT_MEMORY("realloc", realloc(__VA_ARGS__))
#define HeapAlloc(...) TPIO_COUNT_MEMORY("HeapAlloc", HeapAlloc(__VA_ARGS__))

#ifdef Py_PYTHON_H
#define PyGILState_Ensure(...) (tpio_count(TPIO_GIL, "PyGILState_Ensure"), PyGILState_Ensure(__VA_ARGS__))
#define PyEval_RestoreThread(...) (tpio_count(TPIO_GIL, "PyEval_RestoreThread"), PyEval_RestoreThread(__VA_ARGS__))
#endif

/* ---- the thread pool */
#define StartThreadpoolIo(...) TPIO_COUNT_CALL("StartThreadpoolIo", StartThreadpoolIo(__VA_ARGS__))
#define CancelThreadpoolIo(...) TPIO_COUNT_CALL("CancelThreadpoolIo", CancelThreadpoolIo(__VA_ARGS__))
#define DisassociateCurrentThreadFromCallback(...) \
    TPIO_COUNT_CALL("DisassociateCurrentThreadFromCallback", DisassociateCurrentThreadFromCallback(__VA_ARGS__))
#define CallbackMayRunLong(...) TPIO_COUNT_CALL("CallbackMayRunLong", CallbackMayRunLong(__VA_ARGS__))
#define SetThreadpoolTimer(...) TPIO_COUNT_CALL("SetThreadpoolTimer", SetThreadpoolTimer(__VA_ARGS__))
#define SetThreadpoolWait(...) TPIO_COUNT_CALL("SetThreadpoolWait", SetThreadpoolWait(__VA_ARGS__))
#define SubmitThreadpoolWork(...) TPIO_COUNT_CALL("SubmitThreadpoolWork", SubmitThreadpoolWork(__VA_ARGS__))
#define TrySubmitThreadpoolCallback(...) \
    TPIO_COUNT_CALL("TrySubmitThreadpoolCallback", TrySubmitThreadpoolCallback(__VA_ARGS__))
#define CreateThreadpoolWait(...) TPIO_COUNT_CALL("CreateThreadpoolWait", CreateThreadpoolWait(__VA_ARGS__))
#define CloseThreadpoolWait(...) TPIO_COUNT_CALL("CloseThreadpoolWait", CloseThreadpoolWait(__VA_ARGS__))
#define WaitForThreadpoolWaitCallbacks(...) \
    TPIO_COUNT_CALL("WaitForThreadpoolWaitCallbacks", WaitForThreadpoolWaitCallbacks(__VA_ARGS__))

/* ---- waiting and waking */
#define SetEvent(...) TPIO_COUNT_CALL("SetEvent", SetEvent(__VA_ARGS__))
#define ResetEvent(...) TPIO_COUNT_CALL("ResetEvent", ResetEvent(__VA_ARGS__))
#define CreateEventW(...) TPIO_COUNT_CALL("CreateEventW", CreateEventW(__VA_ARGS__))
#define WaitOnAddress(...) TPIO_COUNT_CALL("WaitOnAddress", WaitOnAddress(__VA_ARGS__))
#define WakeByAddressAll(...) TPIO_COUNT_CALL("WakeByAddressAll", WakeByAddressAll(__VA_ARGS__))
#define WaitForSingleObject(...) TPIO_COUNT_CALL("WaitForSingleObject", WaitForSingleObject(__VA_ARGS__))
#define WaitForMultipleObjects(...) TPIO_COUNT_CALL("WaitForMultipleObjects", WaitForMultipleObjects(__VA_ARGS__))
#define DuplicateHandle(...) TPIO_COUNT_CALL("DuplicateHandle", DuplicateHandle(__VA_ARGS__))
#define CloseHandle(...) TPIO_COUNT_CALL("CloseHandle", CloseHandle(__VA_ARGS__))

/* ---- operations and questions */
#define ReadFile(...) TPIO_COUNT_CALL("ReadFile", ReadFile(__VA_ARGS__))
#define WriteFile(...) TPIO_COUNT_CALL("WriteFile", WriteFile(__VA_ARGS__))
#define ConnectNamedPipe(...) TPIO_COUNT_CALL("ConnectNamedPipe", ConnectNamedPipe(__VA_ARGS__))
#define DeviceIoControl(...) TPIO_COUNT_CALL("DeviceIoControl", DeviceIoControl(__VA_ARGS__))
#define LockFileEx(...) TPIO_COUNT_CALL("LockFileEx", LockFileEx(__VA_ARGS__))
#define UnlockFile(...) TPIO_COUNT_CALL("UnlockFile", UnlockFile(__VA_ARGS__))
#define CancelIoEx(...) TPIO_COUNT_CALL("CancelIoEx", CancelIoEx(__VA_ARGS__))
#define WSARecv(...) TPIO_COUNT_CALL("WSARecv", WSARecv(__VA_ARGS__))
#define WSASend(...) TPIO_COUNT_CALL("WSASend", WSASend(__VA_ARGS__))
#define WSARecvFrom(...) TPIO_COUNT_CALL("WSARecvFrom", WSARecvFrom(__VA_ARGS__))
#define WSASendTo(...) TPIO_COUNT_CALL("WSASendTo", WSASendTo(__VA_ARGS__))
#define getsockopt(...) TPIO_COUNT_CALL("getsockopt", getsockopt(__VA_ARGS__))
#define setsockopt(...) TPIO_COUNT_CALL("setsockopt", setsockopt(__VA_ARGS__))
#define GetNamedPipeHandleStateW(...) TPIO_COUNT_CALL("GetNamedPipeHandleStateW", GetNamedPipeHandleStateW(__VA_ARGS__))
#define GetFileType(...) TPIO_COUNT_CALL("GetFileType", GetFileType(__VA_ARGS__))

#endif
