/* Every Win32 call of the sources can be made to fail, in the build of `python dev.py test --faults` (TPIO_FAULTS).
 *
 * Each call that can fail is redirected here. While faults are armed the calls are counted, on whichever thread, and the
 * n-th is not made: it returns what Microsoft's page gives as the function's failure, with a last error that says so.
 * What cannot fail, or not in a way that a program could live with, is listed with its reason in
 * tests/host/test_fault_hooks.py, which sees to it that no call is forgotten.
 *
 * (A macro's own name in its expansion is the function.)
 */
#ifndef TPIO_FAULTS_H
#define TPIO_FAULTS_H

/* All that declares one of the functions comes first. */
#include "tpio_win32.h"

#include <malloc.h>
#include <sddl.h>
#include <stdlib.h>
#include <winternl.h>

/* TRUE: this call is the one that fails; the last error is set. */
int tpio_fault(const char *function, unsigned error);

#define TPIO_FAULT(name, error, failure, call) (tpio_fault(name, error) ? (failure) : (call))
/* What they return when they fail. */
#define TPIO_FAULT_BOOL(name, call) TPIO_FAULT(name, ERROR_NO_SYSTEM_RESOURCES, FALSE, call)
#define TPIO_FAULT_NULL(name, call) TPIO_FAULT(name, ERROR_NO_SYSTEM_RESOURCES, NULL, call)
#define TPIO_FAULT_FILE(name, call) TPIO_FAULT(name, ERROR_NO_SYSTEM_RESOURCES, INVALID_HANDLE_VALUE, call)
#define TPIO_FAULT_WAIT(name, call) TPIO_FAULT(name, ERROR_NO_SYSTEM_RESOURCES, WAIT_FAILED, call)
#define TPIO_FAULT_SOCK(name, call) TPIO_FAULT(name, WSAENOBUFS, SOCKET_ERROR, call)
#define TPIO_FAULT_STATUS(name, call) TPIO_FAULT(name, ERROR_NO_SYSTEM_RESOURCES, (LONG)0xC000009A, call)
#define TPIO_FAULT_MEMORY(name, call) TPIO_FAULT(name, ERROR_NOT_ENOUGH_MEMORY, NULL, call)

/* ---- memory */
#define calloc(...) TPIO_FAULT_MEMORY("calloc", calloc(__VA_ARGS__))
#define malloc(...) TPIO_FAULT_MEMORY("malloc", malloc(__VA_ARGS__))
#define realloc(...) TPIO_FAULT_MEMORY("realloc", realloc(__VA_ARGS__))
#define _aligned_malloc(...) TPIO_FAULT_MEMORY("_aligned_malloc", _aligned_malloc(__VA_ARGS__))
#define HeapAlloc(...) TPIO_FAULT_MEMORY("HeapAlloc", HeapAlloc(__VA_ARGS__))
#ifdef Py_PYTHON_H
#define PyMem_Calloc(...) TPIO_FAULT_MEMORY("PyMem_Calloc", PyMem_Calloc(__VA_ARGS__))
#define PyBytes_FromStringAndSize(...) \
    (tpio_fault("PyBytes_FromStringAndSize", ERROR_NOT_ENOUGH_MEMORY) ? PyErr_NoMemory() \
                                                                      : PyBytes_FromStringAndSize(__VA_ARGS__))
#define PyUnicode_AsWideCharString(...) \
    (tpio_fault("PyUnicode_AsWideCharString", ERROR_NOT_ENOUGH_MEMORY) ? (wchar_t *)PyErr_NoMemory() \
                                                                       : PyUnicode_AsWideCharString(__VA_ARGS__))
#endif

/* ---- the process and its threads */
#define FlsSetValue(...) TPIO_FAULT_BOOL("FlsSetValue", FlsSetValue(__VA_ARGS__))
#define GetModuleHandleW(...) TPIO_FAULT_NULL("GetModuleHandleW", GetModuleHandleW(__VA_ARGS__))
#define LoadLibraryExW(...) TPIO_FAULT_NULL("LoadLibraryExW", LoadLibraryExW(__VA_ARGS__))
#define GetProcAddress(...) TPIO_FAULT_NULL("GetProcAddress", GetProcAddress(__VA_ARGS__))
#define CallbackMayRunLong(...) TPIO_FAULT_BOOL("CallbackMayRunLong", CallbackMayRunLong(__VA_ARGS__))
#define CreateThread(...) TPIO_FAULT_NULL("CreateThread", CreateThread(__VA_ARGS__))
#define CreateEventW(...) TPIO_FAULT_NULL("CreateEventW", CreateEventW(__VA_ARGS__))
#define WaitOnAddress(...) TPIO_FAULT("WaitOnAddress", ERROR_TIMEOUT, FALSE, WaitOnAddress(__VA_ARGS__))
#define WaitForSingleObject(...) TPIO_FAULT_WAIT("WaitForSingleObject", WaitForSingleObject(__VA_ARGS__))
#define WaitForMultipleObjects(...) TPIO_FAULT_WAIT("WaitForMultipleObjects", WaitForMultipleObjects(__VA_ARGS__))
#define DuplicateHandle(...) TPIO_FAULT_BOOL("DuplicateHandle", DuplicateHandle(__VA_ARGS__))

/* ---- the thread pool */
#define CreateThreadpool(...) TPIO_FAULT_NULL("CreateThreadpool", CreateThreadpool(__VA_ARGS__))
#define CreateThreadpoolIo(...) TPIO_FAULT_NULL("CreateThreadpoolIo", CreateThreadpoolIo(__VA_ARGS__))
#define CreateThreadpoolTimer(...) TPIO_FAULT_NULL("CreateThreadpoolTimer", CreateThreadpoolTimer(__VA_ARGS__))
#define CreateThreadpoolWait(...) TPIO_FAULT_NULL("CreateThreadpoolWait", CreateThreadpoolWait(__VA_ARGS__))
#define CreateThreadpoolWork(...) TPIO_FAULT_NULL("CreateThreadpoolWork", CreateThreadpoolWork(__VA_ARGS__))
#define SetThreadpoolThreadMinimum(...) \
    TPIO_FAULT_BOOL("SetThreadpoolThreadMinimum", SetThreadpoolThreadMinimum(__VA_ARGS__))
#define TrySubmitThreadpoolCallback(...) \
    TPIO_FAULT_BOOL("TrySubmitThreadpoolCallback", TrySubmitThreadpoolCallback(__VA_ARGS__))

/* ---- handles and their operations */
#define SetFileCompletionNotificationModes(...) \
    TPIO_FAULT_BOOL("SetFileCompletionNotificationModes", SetFileCompletionNotificationModes(__VA_ARGS__))
#define CancelIoEx(...) TPIO_FAULT("CancelIoEx", ERROR_NOT_FOUND, FALSE, CancelIoEx(__VA_ARGS__))
#define ReadFile(...) TPIO_FAULT_BOOL("ReadFile", ReadFile(__VA_ARGS__))
#define WriteFile(...) TPIO_FAULT_BOOL("WriteFile", WriteFile(__VA_ARGS__))
#define ConnectNamedPipe(...) TPIO_FAULT_BOOL("ConnectNamedPipe", ConnectNamedPipe(__VA_ARGS__))
#define DeviceIoControl(...) TPIO_FAULT_BOOL("DeviceIoControl", DeviceIoControl(__VA_ARGS__))
#define LockFileEx(...) TPIO_FAULT_BOOL("LockFileEx", LockFileEx(__VA_ARGS__))
#define ReadDirectoryChangesW(...) TPIO_FAULT_BOOL("ReadDirectoryChangesW", ReadDirectoryChangesW(__VA_ARGS__))
#define WSARecv(...) TPIO_FAULT_SOCK("WSARecv", WSARecv(__VA_ARGS__))
#define WSASend(...) TPIO_FAULT_SOCK("WSASend", WSASend(__VA_ARGS__))
#define WSARecvFrom(...) TPIO_FAULT_SOCK("WSARecvFrom", WSARecvFrom(__VA_ARGS__))
#define WSASendTo(...) TPIO_FAULT_SOCK("WSASendTo", WSASendTo(__VA_ARGS__))
#define WSAIoctl(...) TPIO_FAULT_SOCK("WSAIoctl", WSAIoctl(__VA_ARGS__))
#define setsockopt(...) TPIO_FAULT_SOCK("setsockopt", setsockopt(__VA_ARGS__))
#define getsockopt(...) TPIO_FAULT_SOCK("getsockopt", getsockopt(__VA_ARGS__))
/* Functions of ntdll.dll, by the names of the pointers that they are called through. */
#define query(...) TPIO_FAULT_STATUS("NtQuery...", query(__VA_ARGS__))
#ifndef Py_PYTHON_H /* in the core; likewise winsock's extensions */
#define set(...) TPIO_FAULT_STATUS("NtSetInformationFile", set(__VA_ARGS__))
#define accept(...) TPIO_FAULT("AcceptEx", WSAENOBUFS, FALSE, accept(__VA_ARGS__))
#define connect(...) TPIO_FAULT("ConnectEx", WSAENOBUFS, FALSE, connect(__VA_ARGS__))
#define disconnect(...) TPIO_FAULT("DisconnectEx", WSAENOBUFS, FALSE, disconnect(__VA_ARGS__))
#define transmit(...) TPIO_FAULT("TransmitFile", WSAENOBUFS, FALSE, transmit(__VA_ARGS__))
#else
#define bind(...) TPIO_FAULT_SOCK("bind", bind(__VA_ARGS__))
#define connect(...) TPIO_FAULT_SOCK("connect", connect(__VA_ARGS__))
#endif
#define getsockname(...) TPIO_FAULT_SOCK("getsockname", getsockname(__VA_ARGS__))
#define getpeername(...) TPIO_FAULT_SOCK("getpeername", getpeername(__VA_ARGS__))

/* ---- what makes handles and asks them */
#define CreateNamedPipeW(...) TPIO_FAULT_FILE("CreateNamedPipeW", CreateNamedPipeW(__VA_ARGS__))
#define CreateFileW(...) TPIO_FAULT_FILE("CreateFileW", CreateFileW(__VA_ARGS__))
#define WaitNamedPipeW(...) TPIO_FAULT_BOOL("WaitNamedPipeW", WaitNamedPipeW(__VA_ARGS__))
#define OpenThread(...) TPIO_FAULT_NULL("OpenThread", OpenThread(__VA_ARGS__))
#define CancelSynchronousIo(...) TPIO_FAULT_BOOL("CancelSynchronousIo", CancelSynchronousIo(__VA_ARGS__))
#define SetNamedPipeHandleState(...) TPIO_FAULT_BOOL("SetNamedPipeHandleState", SetNamedPipeHandleState(__VA_ARGS__))
#define GetNamedPipeHandleStateW(...) \
    TPIO_FAULT_BOOL("GetNamedPipeHandleStateW", GetNamedPipeHandleStateW(__VA_ARGS__))
#define GetNamedPipeInfo(...) TPIO_FAULT_BOOL("GetNamedPipeInfo", GetNamedPipeInfo(__VA_ARGS__))
#define PeekNamedPipe(...) TPIO_FAULT_BOOL("PeekNamedPipe", PeekNamedPipe(__VA_ARGS__))
#define GetNamedPipeClientProcessId(...) \
    TPIO_FAULT_BOOL("GetNamedPipeClientProcessId", GetNamedPipeClientProcessId(__VA_ARGS__))
#define DisconnectNamedPipe(...) TPIO_FAULT_BOOL("DisconnectNamedPipe", DisconnectNamedPipe(__VA_ARGS__))
#define ImpersonateNamedPipeClient(...) \
    TPIO_FAULT_BOOL("ImpersonateNamedPipeClient", ImpersonateNamedPipeClient(__VA_ARGS__))
#define GetFileType(...) TPIO_FAULT("GetFileType", ERROR_NO_SYSTEM_RESOURCES, FILE_TYPE_UNKNOWN, GetFileType(__VA_ARGS__))
#define GetFileSizeEx(...) TPIO_FAULT_BOOL("GetFileSizeEx", GetFileSizeEx(__VA_ARGS__))
#define SetFileInformationByHandle(...) \
    TPIO_FAULT_BOOL("SetFileInformationByHandle", SetFileInformationByHandle(__VA_ARGS__))
#define GetFileInformationByHandleEx(...) \
    TPIO_FAULT_BOOL("GetFileInformationByHandleEx", GetFileInformationByHandleEx(__VA_ARGS__))
#define FlushFileBuffers(...) TPIO_FAULT_BOOL("FlushFileBuffers", FlushFileBuffers(__VA_ARGS__))
#define UnlockFile(...) TPIO_FAULT_BOOL("UnlockFile", UnlockFile(__VA_ARGS__))
#define OpenProcessToken(...) TPIO_FAULT_BOOL("OpenProcessToken", OpenProcessToken(__VA_ARGS__))
#define GetTokenInformation(...) TPIO_FAULT_BOOL("GetTokenInformation", GetTokenInformation(__VA_ARGS__))
#define ConvertSidToStringSidW(...) TPIO_FAULT_BOOL("ConvertSidToStringSidW", ConvertSidToStringSidW(__VA_ARGS__))
#define ConvertStringSecurityDescriptorToSecurityDescriptorW(...) \
    TPIO_FAULT_BOOL("ConvertStringSecurityDescriptorToSecurityDescriptorW", \
                    ConvertStringSecurityDescriptorToSecurityDescriptorW(__VA_ARGS__))
#define FormatMessageW(...) TPIO_FAULT("FormatMessageW", ERROR_NO_SYSTEM_RESOURCES, 0, FormatMessageW(__VA_ARGS__))

/* ---- children */
#define InitializeProcThreadAttributeList(...) \
    TPIO_FAULT_BOOL("InitializeProcThreadAttributeList", InitializeProcThreadAttributeList(__VA_ARGS__))
#define UpdateProcThreadAttribute(...) \
    TPIO_FAULT_BOOL("UpdateProcThreadAttribute", UpdateProcThreadAttribute(__VA_ARGS__))
#define CreateJobObjectW(...) TPIO_FAULT_NULL("CreateJobObjectW", CreateJobObjectW(__VA_ARGS__))
#define CreateProcessW(...) TPIO_FAULT_BOOL("CreateProcessW", CreateProcessW(__VA_ARGS__))
#define AssignProcessToJobObject(...) \
    TPIO_FAULT_BOOL("AssignProcessToJobObject", AssignProcessToJobObject(__VA_ARGS__))
#define ResumeThread(...) TPIO_FAULT("ResumeThread", ERROR_NO_SYSTEM_RESOURCES, (DWORD)-1, ResumeThread(__VA_ARGS__))
#define SetInformationJobObject(...) \
    TPIO_FAULT_BOOL("SetInformationJobObject", SetInformationJobObject(__VA_ARGS__))
#define CompareStringOrdinal(...) \
    TPIO_FAULT("CompareStringOrdinal", ERROR_NO_SYSTEM_RESOURCES, 0, CompareStringOrdinal(__VA_ARGS__))
#define TerminateProcess(...) TPIO_FAULT_BOOL("TerminateProcess", TerminateProcess(__VA_ARGS__))
#define TerminateJobObject(...) TPIO_FAULT_BOOL("TerminateJobObject", TerminateJobObject(__VA_ARGS__))
#define GetExitCodeProcess(...) TPIO_FAULT_BOOL("GetExitCodeProcess", GetExitCodeProcess(__VA_ARGS__))
#define OpenProcess(...) TPIO_FAULT_NULL("OpenProcess", OpenProcess(__VA_ARGS__))
#define GetStdHandle(...) TPIO_FAULT_FILE("GetStdHandle", GetStdHandle(__VA_ARGS__))

#endif
