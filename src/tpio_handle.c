/* tpio_handle.c: a handle's binding to a pool, from CreateThreadpoolIo to CloseThreadpoolIo.
 *
 * The gate. Threads use the handle while others close it, and a handle value that was closed may be somebody else's a
 * moment later. So everybody who makes a call with it goes through one 64-bit word:
 *
 *     bit 63       closing: nobody enters any more
 *     bits 32..62  users: threads inside a Win32 call with this handle
 *     bits 0..31   in flight: operations that the system has
 *
 * Closing is done in two steps, each by whoever is last, so that nobody waits:
 *
 *     the last user      cancels what is pending and closes the system's handle      handle__shut
 *     the last in flight closes the TP_IO and drops the binding's reference          handle__free
 *
 * The closer enters as a user and as one in flight, sets closing in the same instant, and leaves; by that it cannot be
 * missed that somebody must do the first step, nor can the second come before it.
 *
 * There is one wait after all: a handle that is not ours is let go of only when the first step is done, since its owner
 * may close it the moment that we return.
 */
#include "tpio_internal.h"

#include <stdlib.h>
#include <winternl.h>

#define HANDLE__CLOSING ((LONG64)((uint64_t)1 << 63))

/* See NtQueryInformationFile and NtSetInformationFile in the Windows driver kit's documentation. */
#define HANDLE__FILE_MODE_INFORMATION 16
#define HANDLE__FILE_SYNCHRONOUS_IO 0x30 /* ..._ALERT | ..._NONALERT */
#define HANDLE__FILE_NOTIFICATION_INFORMATION 41
#define HANDLE__FILE_REPLACE_COMPLETION_INFORMATION 61

typedef NTSTATUS(NTAPI *handle__information_fn)(HANDLE, IO_STATUS_BLOCK *, PVOID, ULONG, int);

static handle__information_fn handle__ntdll(const char *name)
{
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");

    return ntdll == NULL ? NULL : (handle__information_fn)(void (*)(void))GetProcAddress(ntdll, name);
}

/* One of the flag words that the system keeps for an open file. FALSE: it does not tell, and the word is 0. */
static BOOL handle__flags(HANDLE file, int information, ULONG *flags)
{
    handle__information_fn query = handle__ntdll("NtQueryInformationFile");
    IO_STATUS_BLOCK status;

    *flags = 0;
    if (query != NULL && query(file, &status, flags, sizeof *flags, information) >= 0)
        return TRUE;
    *flags = 0;
    return FALSE;
}

/* Takes the completion port off a handle for which nothing is pending. Windows 8.1 can do so; elsewhere it fails, and the
 * handle stays bound for good. */
static void handle__unbind(HANDLE file)
{
    handle__information_fn set = handle__ntdll("NtSetInformationFile");
    struct {
        HANDLE port;
        PVOID key;
    } none = {NULL, NULL};
    IO_STATUS_BLOCK status;

    if (set != NULL)
        set(file, &status, &none, sizeof none, HANDLE__FILE_REPLACE_COMPLETION_INFORMATION);
}

DWORD tpio_handle_bind(tpio_pool *pool, HANDLE file, unsigned flags, tpio_handle **result, tpio_bind_error *why)
{
    tpio_handle *handle;
    ULONG mode, notification;
    BOOL mode_is_known;
    DWORD error;

    *result = NULL;
    *why = TPIO_BIND_OTHER;
    /* CreateThreadpoolIo says ERROR_INVALID_PARAMETER for both mistakes; the caller wants to know which. */
    mode_is_known = handle__flags(file, HANDLE__FILE_MODE_INFORMATION, &mode);
    if (mode & HANDLE__FILE_SYNCHRONOUS_IO) {
        *why = TPIO_BIND_NOT_OVERLAPPED;
        return ERROR_INVALID_PARAMETER;
    }
    handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    if (!tpio__pool_enter(pool)) {
        error = ERROR_SHUTDOWN_IN_PROGRESS;
        goto failed_pool;
    }
    handle->refs = 2;
    handle->file = file;
    handle->flags = flags;
    handle->owned = (flags & TPIO_OWNS) != 0;
    handle->pool = pool;
    handle->counter = flags & TPIO__DEVICE ? &pool->device_count : &pool->handle_count;
    handle->io = CreateThreadpoolIo(file, tpio__op_io_callback, handle, &pool->environ_);
    if (handle->io == NULL) {
        error = GetLastError();
        if (error == ERROR_INVALID_PARAMETER && mode_is_known)
            *why = TPIO_BIND_ALREADY_BOUND;
        goto failed_io;
    }
    if ((flags & TPIO_SKIP) && !SetFileCompletionNotificationModes(file, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS))
        handle->flags &= ~(unsigned)TPIO_SKIP;
    /* Somebody who had the handle before us may have set it, and nobody can take it back. */
    handle__flags(file, HANDLE__FILE_NOTIFICATION_INFORMATION, &notification);
    if (notification & FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
        handle->flags |= TPIO_SKIP;

    InterlockedIncrement(handle->counter); /* before anybody can close it and count it out */
    AcquireSRWLockExclusive(&pool->lock);
    handle->next = pool->handles;
    if (handle->next != NULL)
        handle->next->previous = handle;
    pool->handles = handle;
    ReleaseSRWLockExclusive(&pool->lock);
    /* A pool that was closed between our entry and our listing has not seen us. */
    if (pool->closing)
        tpio_handle_close(handle);
    *result = handle;
    return ERROR_SUCCESS;

failed_io:
    tpio__pool_leave(pool);
failed_pool:
    free(handle);
    return error;
}

void tpio_handle_ref(tpio_handle *handle)
{
    InterlockedIncrement(&handle->refs);
}

void tpio_handle_unref(tpio_handle *handle)
{
    if (InterlockedDecrement(&handle->refs) == 0)
        free(handle);
}

BOOL tpio__handle_enter(tpio_handle *handle, LONG64 what)
{
    LONG64 gate = handle->gate, seen;

    for (;;) {
        if (gate < 0)
            return FALSE;
        seen = InterlockedCompareExchange64(&handle->gate, gate + what, gate);
        if (seen == gate)
            return TRUE;
        gate = seen;
    }
}

/* A socket that does not block and is to linger cannot be closed as long as there is something to send. From then on the
 * system does without us: it sends what there is, and nobody waits.
 * https://learn.microsoft.com/windows/win32/api/winsock/nf-winsock-closesocket */
static void handle__close_socket(SOCKET socket)
{
    struct linger none = {0, 0};

    if (closesocket(socket) == 0 || WSAGetLastError() != WSAEWOULDBLOCK)
        return;
    setsockopt(socket, SOL_SOCKET, SO_LINGER, (const char *)&none, sizeof none);
    closesocket(socket);
}

/* No user is inside and none will come: the value of the handle is safe to use one last time. */
static void handle__shut(tpio_handle *handle, BOOL pending)
{
    /* Only when there is something to cancel: a handle that is not ours may have been closed by its owner by now, and
     * its value be somebody else's, whose operations this would end. */
    if (pending)
        CancelIoEx(handle->file, NULL); /* ERROR_NOT_FOUND: all are on their way */
    if (handle->detached && !pending)
        handle__unbind(handle->file);
    if (handle->owned) {
        if (handle->flags & TPIO_SOCKET)
            handle__close_socket((SOCKET)handle->file);
        else
            CloseHandle(handle->file);
    }
    InterlockedExchange(&handle->shut, 1);
    WakeByAddressAll((PVOID)&handle->shut);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
/* It does not count references, of which the caller has one. */
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-of-uninitialized-value"
#endif
/* Somebody else may close the system's handle as soon as he knows that we are done with it, and others may still be
 * inside a call with it: this waits for them, for as long as their Win32 calls take. */
static void handle__await_shut(tpio_handle *handle)
{
    LONG open = 0;

    while (!handle->shut)
        WaitOnAddress(&handle->shut, &open, sizeof open, INFINITE);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/* Nothing is in flight and the handle is closed. */
static void handle__free(tpio_handle *handle)
{
    tpio_pool *pool = handle->pool;

    AcquireSRWLockExclusive(&pool->lock);
    if (handle->next != NULL)
        handle->next->previous = handle->previous;
    if (handle->previous != NULL)
        handle->previous->next = handle->next;
    else
        pool->handles = handle->next;
    ReleaseSRWLockExclusive(&pool->lock);
    InterlockedDecrement(handle->counter);
    /* Every callback has left the system's count before it left ours, so this does not block, not even here in the
     * last callback. FALSE: callbacks that are queued must run; there are none. */
    WaitForThreadpoolIoCallbacks(handle->io, FALSE);
    CloseThreadpoolIo(handle->io);
    tpio_handle_unref(handle);
    tpio__pool_leave(pool);
}

void tpio__handle_leave(tpio_handle *handle, LONG64 what)
{
    LONG64 gate = InterlockedExchangeAdd64(&handle->gate, -what) - what;

    if (gate >= 0)
        return;
    gate &= ~HANDLE__CLOSING;
    if (what >= TPIO_USER && gate < TPIO_USER) {
        /* We were the last user; one in flight is the closer's, kept for this. */
        handle__shut(handle, gate > TPIO_INFLIGHT);
        gate = InterlockedExchangeAdd64(&handle->gate, -TPIO_INFLIGHT) - TPIO_INFLIGHT;
        gate &= ~HANDLE__CLOSING;
    }
    if (gate == 0)
        handle__free(handle);
}

void tpio_handle_close(tpio_handle *handle)
{
    BOOL owned = handle->owned != 0;

    if (tpio__handle_enter(handle, TPIO_USER | TPIO_INFLIGHT | HANDLE__CLOSING))
        tpio__handle_leave(handle, TPIO_USER);
    if (!owned)
        handle__await_shut(handle);
}

BOOL tpio_handle_cancel(tpio_handle *handle)
{
    if (!tpio__handle_enter(handle, TPIO_USER))
        return FALSE;
    CancelIoEx(handle->file, NULL);
    tpio__handle_leave(handle, TPIO_USER);
    return TRUE;
}

HANDLE tpio_handle_file(tpio_handle *handle)
{
    return handle->gate < 0 ? INVALID_HANDLE_VALUE : handle->file;
}

HANDLE tpio_handle_detach(tpio_handle *handle)
{
    if (!tpio__handle_enter(handle, TPIO_USER | TPIO_INFLIGHT | HANDLE__CLOSING))
        return INVALID_HANDLE_VALUE;
    handle->owned = FALSE; /* before the last user, who reads it, can leave: we are one */
    handle->detached = TRUE;
    HANDLE file = handle->file;
    tpio__handle_leave(handle, TPIO_USER);
    handle__await_shut(handle);
    return file;
}
