/* floor.h: what the programs of this folder share.
 *
 * Each program does one workload of the benchmarks with nothing between C and the Windows Thread Pool API, or, compiled with
 * FLOOR_PORT, a completion port on which one thread waits: the least that it can cost. It is called with the number of operations and the workload's parameters, makes WARM_UP operations more
 * before the clock starts (its pool has no threads yet, where a Python peer's has), and prints the seconds that it took.
 */
#ifndef FLOOR_H
#define FLOOR_H

#include "tpio_win32.h"

#include <stdio.h>
#include <stdlib.h>

enum { WARM_UP = 32, PIPE_BUFFER = 65536 };

/* Everything here is expected to work: what does not ends the program, and the benchmark reports the line. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            floor_fail(#condition, __FILE__, __LINE__);                                                                \
    } while (0)

static inline void floor_fail(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s failed with error %lu\n", file, line, condition, GetLastError());
    ExitProcess(1);
}

/* ---- the clock --------------------------------------------------------------------------------------------------- */

static LARGE_INTEGER floor_began, floor_ended;
static HANDLE floor_done;

static inline void floor_start(void)
{
    QueryPerformanceCounter(&floor_began);
}

static inline void floor_stop(void)
{
    QueryPerformanceCounter(&floor_ended);
    SetEvent(floor_done);
}

/* Waits for floor_stop and prints. Ends the process with whatever is still pending. */
static inline void floor_report(void)
{
    LARGE_INTEGER frequency;

    WaitForSingleObject(floor_done, INFINITE);
    QueryPerformanceFrequency(&frequency);
    printf("%.9f\n", (double)(floor_ended.QuadPart - floor_began.QuadPart) / (double)frequency.QuadPart);
    fflush(stdout);
    TerminateProcess(GetCurrentProcess(), 0); /* at once: threads still work */
}

#ifndef FLOOR_PORT

/* ---- the pool: private and with one thread at least, as tpio's default one is -------------------------------------- */

static TP_CALLBACK_ENVIRON floor_environ;

static inline void floor_set_up(void)
{
    PTP_POOL pool = CreateThreadpool(NULL);

    CHECK(pool != NULL);
    CHECK(SetThreadpoolThreadMinimum(pool, 1));
    InitializeThreadpoolEnvironment(&floor_environ);
    SetThreadpoolCallbackPool(&floor_environ, pool);
    floor_done = CreateEventW(NULL, TRUE, FALSE, NULL);
    CHECK(floor_done != NULL);
}

static inline PTP_IO floor_new_io(HANDLE file, PTP_WIN32_IO_CALLBACK callback, void *context)
{
    return CreateThreadpoolIo(file, callback, context, &floor_environ);
}

#else

/* ---- a completion port, and one thread that takes from it: what an event loop of one thread has ---------------------- */

typedef struct floor_io {
    PTP_WIN32_IO_CALLBACK callback;
    void *context;
} floor_io;

static HANDLE floor_port;

static inline DWORD WINAPI floor_take(void *nothing)
{
    (void)nothing;
    for (;;) {
        OVERLAPPED *overlapped = NULL;
        ULONG_PTR key;
        DWORD bytes;
        BOOL ok = GetQueuedCompletionStatus(floor_port, &bytes, &key, &overlapped, INFINITE);
        floor_io *io = (floor_io *)key;

        CHECK(overlapped != NULL);
        io->callback(NULL, io->context, overlapped, ok ? ERROR_SUCCESS : GetLastError(), bytes, (PTP_IO)io);
    }
}

static inline void floor_set_up(void)
{
    floor_port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    CHECK(floor_port != NULL);
    floor_done = CreateEventW(NULL, TRUE, FALSE, NULL);
    CHECK(floor_done != NULL);
    CHECK(CreateThread(NULL, 0, floor_take, NULL, 0, NULL) != NULL);
}

static inline PTP_IO floor_new_io(HANDLE file, PTP_WIN32_IO_CALLBACK callback, void *context)
{
    floor_io *io = calloc(1, sizeof *io);

    CHECK(io != NULL);
    io->callback = callback;
    io->context = context;
    CHECK(CreateIoCompletionPort(file, floor_port, (ULONG_PTR)io, 0) != NULL);
    return (PTP_IO)io;
}

/* A port expects nothing. */
#define StartThreadpoolIo(io) ((void)(io))
#define CancelThreadpoolIo(io) ((void)(io))

#endif

static inline PTP_IO floor_bind(HANDLE file, PTP_WIN32_IO_CALLBACK callback, void *context)
{
    PTP_IO io = floor_new_io(file, callback, context);

    CHECK(io != NULL);
    CHECK(SetFileCompletionNotificationModes(file, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS));
    return io;
}

/* After an overlapped call on a handle of floor_bind, whose error (0: none) is given: is it over already? Then no callback
 * comes, and the bytes are in overlapped->InternalHigh. */
static inline BOOL floor_is_over(PTP_IO io, DWORD error)
{
    if (error == ERROR_IO_PENDING)
        return FALSE;
    SetLastError(error);
    CHECK(error == ERROR_SUCCESS);
    CancelThreadpoolIo(io);
    return TRUE;
}

/* ---- pipes: one way and overlapped at both ends, as tpio.pipe() makes them ------------------------------------------ */

static inline void floor_pipe(HANDLE *reader, HANDLE *writer)
{
    static int number;
    WCHAR name[64];

    swprintf(name, 64, L"\\\\.\\pipe\\tpio-floor-%lu-%d", GetCurrentProcessId(), number++);
    *reader = CreateNamedPipeW(name, PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                               PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS, 1, PIPE_BUFFER, PIPE_BUFFER, 0, NULL);
    CHECK(*reader != INVALID_HANDLE_VALUE);
    *writer = CreateFileW(name, GENERIC_WRITE | FILE_READ_ATTRIBUTES, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    CHECK(*writer != INVALID_HANDLE_VALUE);
}

#endif
