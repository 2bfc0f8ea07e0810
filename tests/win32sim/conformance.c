/* conformance.c: the same calls on the simulated Windows and on the real one (or Wine), with the same output expected.
 *
 * It asks what the C core relies on: which calls bring a callback, with which result, what a cancel and a close bring,
 * and what may be done inside a callback.
 */
#ifdef _WIN32
#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#else
#include "win32sim.h"
#endif

#include <stdint.h>
#include <stdio.h>

/* ---- what differs ----------------------------------------------------------------------------------------------- */

#ifdef _WIN32
static void pause_for(DWORD milliseconds)
{
    Sleep(milliseconds);
}

static void open_pipe(HANDLE *server, HANDLE *client, BOOL message)
{
    static int number;
    DWORD mode = PIPE_READMODE_MESSAGE;
    wchar_t name[64];

    swprintf(name, 64, L"\\\\.\\pipe\\tpio-conformance-%lu-%d", GetCurrentProcessId(), number++);
    *server = CreateNamedPipeW(name, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
                               message ? PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE : PIPE_TYPE_BYTE, 1, 4096, 4096, 0,
                               NULL);
    *client = CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    if (message)
        SetNamedPipeHandleState(*client, &mode, NULL, NULL);
}

static void open_sockets(HANDLE *one, HANDLE *other)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    int size = sizeof name;

    bind(listener, (struct sockaddr *)&name, sizeof name);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&name, &size);
    connect(client, (struct sockaddr *)&name, sizeof name);
    *one = (HANDLE)accept(listener, NULL, NULL);
    *other = (HANDLE)client;
    closesocket(listener);
}

static HANDLE open_synchronous(void)
{
    return CreateFileW(L"NUL", GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
}

/* A file for locks; `rest` is closed with it. */
static HANDLE open_file(HANDLE *rest)
{
    wchar_t folder[MAX_PATH], name[MAX_PATH];

    *rest = NULL;
    if (!GetTempPathW(MAX_PATH, folder) || !GetTempFileNameW(folder, L"tpi", 0, name))
        return NULL;
    return CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_ALWAYS,
                       FILE_FLAG_OVERLAPPED | FILE_FLAG_DELETE_ON_CLOSE, NULL);
}

static HANDLE open_event(void)
{
    return CreateEventW(NULL, TRUE, FALSE, NULL);
}

static void set_event(HANDLE event)
{
    SetEvent(event);
}

static HANDLE open_semaphore(void)
{
    return CreateSemaphoreW(NULL, 0, 100, NULL);
}

static void release_semaphore(HANDLE semaphore)
{
    ReleaseSemaphore(semaphore, 1, NULL);
}

static int take_all(HANDLE semaphore)
{
    int count = 0;

    while (WaitForSingleObject(semaphore, 0) == WAIT_OBJECT_0)
        count++;
    return count;
}
#else
static bool never(void *argument)
{
    (void)argument;
    return false;
}

static void pause_for(DWORD milliseconds)
{
    sim_lock();
    sim_block(never, NULL, sim_now() + milliseconds * 10000ull);
    sim_unlock();
}

static void open_pipe(HANDLE *server, HANDLE *client, BOOL message)
{
    sim_pipe_open(server, client, message);
}

static void open_sockets(HANDLE *one, HANDLE *other)
{
    sim_pipe_open(one, other, FALSE);
}

static HANDLE open_synchronous(void)
{
    return sim_file_open(SIM_SYNCHRONOUS);
}

/* An end of a pipe, because a file of the simulation ends a call by chance. */
static HANDLE open_file(HANDLE *rest)
{
    HANDLE file;

    sim_pipe_open(&file, rest, FALSE);
    return file;
}

static HANDLE open_event(void)
{
    return sim_event_open();
}

static void set_event(HANDLE event)
{
    sim_event_set(event);
}

static HANDLE open_semaphore(void)
{
    return sim_semaphore_open();
}

static void release_semaphore(HANDLE semaphore)
{
    sim_event_set(semaphore);
}

static int take_all(HANDLE semaphore)
{
    return sim_semaphore_count(semaphore); /* nobody uses it any more */
}
#endif

/* ---- what is asked ---------------------------------------------------------------------------------------------- */

#define MOST 8

static PTP_POOL pool;
static TP_CALLBACK_ENVIRON environment;
static volatile LONG callbacks;
static struct {
    DWORD error, bytes;
} seen[MOST];
static char buffer[64];

static void note(DWORD error, DWORD bytes)
{
    LONG place = InterlockedIncrement(&callbacks) - 1;

    seen[place % MOST].error = error;
    seen[place % MOST].bytes = bytes;
}

/* How many callbacks have come, and what the last one said; a moment is left for those that should not come. */
static void report(const char *what)
{
    pause_for(200);
    printf("%s: %d callbacks", what, (int)callbacks);
    for (LONG i = 0; i < callbacks && i < MOST; i++)
        printf(", error %u with %u bytes", (unsigned)seen[i].error, (unsigned)seen[i].bytes);
    putchar('\n');
    callbacks = 0;
}

static void CALLBACK on_io(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error, ULONG_PTR bytes,
                           PTP_IO io)
{
    (void)instance, (void)context, (void)overlapped, (void)io;
    note(error, (DWORD)bytes);
}

static PTP_IO bind_file(HANDLE file)
{
    return CreateThreadpoolIo(file, on_io, NULL, &environment);
}

static void begin(OVERLAPPED *overlapped, PTP_IO io)
{
    memset(overlapped, 0, sizeof *overlapped);
    StartThreadpoolIo(io);
}

/* Prints what the call said and takes the expectation back if no callback is to come. */
static void began(const char *what, BOOL ok, PTP_IO io, BOOL skip)
{
    DWORD error = ok ? 0 : GetLastError();

    printf("%s: the call says %u\n", what, (unsigned)error);
    if (error == 0 || error == ERROR_MORE_DATA ? skip : error != ERROR_IO_PENDING)
        CancelThreadpoolIo(io);
}

static void read_from(const char *what, HANDLE file, PTP_IO io, DWORD size, OVERLAPPED *overlapped, BOOL skip)
{
    BOOL ok;

    begin(overlapped, io);
    ok = ReadFile(file, buffer, size, NULL, overlapped);
    began(what, ok, io, skip);
}

/* The other end, of which nothing is asked. */
static void write_to(HANDLE file, PTP_IO io, DWORD size)
{
    OVERLAPPED overlapped;
    BOOL ok;

    begin(&overlapped, io);
    ok = WriteFile(file, "0123456789abcdef", size, NULL, &overlapped);
    if (!ok && GetLastError() != ERROR_IO_PENDING)
        printf("the write says %u\n", (unsigned)GetLastError());
    pause_for(100);
}

static void CALLBACK on_other_end(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                                  ULONG_PTR bytes, PTP_IO io)
{
    (void)instance, (void)context, (void)overlapped, (void)error, (void)bytes, (void)io;
}

static void unbind(PTP_IO io)
{
    WaitForThreadpoolIoCallbacks(io, FALSE);
    CloseThreadpoolIo(io);
}

static void ask_pipe(BOOL message)
{
    OVERLAPPED one, two;
    HANDLE server, client;
    PTP_IO io, other;
    BOOL ok;

    printf("-- a pipe of %s\n", message ? "messages" : "bytes");
    open_pipe(&server, &client, message);
    io = bind_file(server);
    other = CreateThreadpoolIo(client, on_other_end, NULL, &environment);

    read_from("a read before the write", server, io, 16, &one, FALSE);
    write_to(client, other, 5);
    report("then");
    write_to(client, other, 7);
    read_from("a read after the write", server, io, 16, &one, FALSE);
    report("then");
    if (message) {
        write_to(client, other, 10);
        read_from("a read of a part", server, io, 6, &one, FALSE);
        report("then");
        read_from("a read of the rest", server, io, 16, &one, FALSE);
        report("then");
    }

    read_from("a read that is cancelled", server, io, 16, &one, FALSE);
    ok = CancelIoEx(server, &one);
    printf("CancelIoEx says %u\n", ok ? 0 : (unsigned)GetLastError());
    report("then");
    ok = CancelIoEx(server, &one);
    printf("CancelIoEx again says %u\n", ok ? 0 : (unsigned)GetLastError());

    read_from("one of two reads", server, io, 16, &one, FALSE);
    read_from("two of two reads", server, io, 16, &two, FALSE);
    ok = CancelIoEx(server, NULL);
    printf("CancelIoEx of all says %u\n", ok ? 0 : (unsigned)GetLastError());
    report("then");

    if (!message) {
        SetFileCompletionNotificationModes(server, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
        write_to(client, other, 3);
        read_from("a read that skips", server, io, 16, &one, TRUE);
        printf("its bytes: %u\n", (unsigned)one.InternalHigh);
        report("then");
        read_from("a pending read that skips", server, io, 16, &one, TRUE);
        write_to(client, other, 4);
        report("then");
    } else {
        SetFileCompletionNotificationModes(server, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
        write_to(client, other, 10);
        read_from("a read of a part that skips", server, io, 6, &one, TRUE);
        report("then");
        read_from("a read of the rest that skips", server, io, 16, &one, TRUE);
        report("then");
    }

    begin(&one, io);
    ok = ConnectNamedPipe(server, &one);
    began("a connect after the client", ok, io, FALSE);
    report("then");

    read_from("a read when the other end closes", server, io, 16, &one, FALSE);
    unbind(other);
    CloseHandle(client);
    report("then");
    read_from("a read after that", server, io, 16, &one, FALSE);
    report("then");
    unbind(io);
    CloseHandle(server);
}

/* ---- calls that succeed at once, other than reads and writes ---------------------------------------------------- */

/* The core frees the operation of such a call when the call returns. A completion would then be a use after free. */
static void ask_at_once(void)
{
    OVERLAPPED one;
    HANDLE server, client, file, rest;
    PTP_IO io, other;
    BOOL ok;

    printf("-- calls that succeed at once\n");
    open_pipe(&server, &client, FALSE);
    SetFileCompletionNotificationModes(server, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    io = bind_file(server);
    other = CreateThreadpoolIo(client, on_other_end, NULL, &environment);
    write_to(client, other, 3);
    begin(&one, io);
    ok = DeviceIoControl(server, 0x11400c /* FSCTL_PIPE_PEEK */, NULL, 0, buffer, sizeof buffer, NULL, &one);
    began("a device control that skips", ok, io, TRUE);
    report("then");
    unbind(other);
    unbind(io);
    CloseHandle(client);
    CloseHandle(server);

    file = open_file(&rest);
    SetFileCompletionNotificationModes(file, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    io = bind_file(file);
    begin(&one, io);
    ok = LockFileEx(file, 3 /* exclusive, and fails if it would wait */, 0, 1, 0, &one);
    began("a lock that skips", ok, io, TRUE);
    report("then");
    unbind(io);
    CloseHandle(file);
    if (rest != NULL)
        CloseHandle(rest);
}

/* ---- polls of sockets ------------------------------------------------------------------------------------------- */

typedef struct poll_info {
    LONG64 timeout;
    ULONG count, exclusive;
    HANDLE socket;
    ULONG events, status;
} poll_info;

static void poll_for(ULONG events, HANDLE through, PTP_IO io, HANDLE socket, poll_info *info, OVERLAPPED *overlapped)
{
    poll_info wanted = {INT64_MAX, 1, 0, socket, events | 0x20, 0};
    DWORD error;

    *info = wanted;
    begin(overlapped, io);
    error = DeviceIoControl(through, 0x12024, info, sizeof *info, info, sizeof *info, NULL, overlapped) ? 0 : GetLastError();
    if (error != 0 && error != ERROR_IO_PENDING) {
        printf("the poll says %u\n", (unsigned)error);
        CancelThreadpoolIo(io);
    }
}

static void report_poll(const char *what, const poll_info *info)
{
    LONG came = callbacks;
    BOOL good = came == 1 && seen[0].error == 0;

    report(what);
    if (good)
        printf("    %u sockets, events %x\n", (unsigned)info->count, (unsigned)info->events);
}

/* through_device: through a handle of the device, or through the socket's own, as the core has it. */
static void ask_poll(BOOL through_device)
{
    HANDLE one, other, through;
    OVERLAPPED overlapped;
    poll_info info;
    PTP_IO io, other_io;

    printf("-- polls of a socket through %s\n", through_device ? "the device" : "its own handle");
    open_sockets(&one, &other);
    through = through_device ? CreateFileW(L"\\\\.\\GLOBALROOT\\Device\\Afd\\Tpio", SYNCHRONIZE,
                                           FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL)
                             : one;
    io = bind_file(through);
    other_io = CreateThreadpoolIo(other, on_other_end, NULL, &environment);
    poll_for(4, through, io, one, &info, &overlapped);
    pause_for(100);
    report_poll("writable at once", &info);
    poll_for(9, through, io, one, &info, &overlapped);
    report("nothing to read");
    CancelIoEx(through, &overlapped);
    report("cancelled");
    poll_for(9, through, io, one, &info, &overlapped);
    write_to(other, other_io, 4);
    report_poll("readable", &info);
    poll_for(9, through, io, one, &info, &overlapped);
    pause_for(100);
    report_poll("readable still", &info);
    if (through_device) {
        poll_for(0, through, io, one, &info, &overlapped);
        CloseHandle(one);
        pause_for(100);
        report_poll("closed here", &info);
    }
    unbind(io);
    CloseHandle(through);
    unbind(other_io);
    CloseHandle(other);
}

static void ask_close(void)
{
    HANDLE server, client;
    OVERLAPPED one;
    PTP_IO io;

    printf("-- closing a handle with a read pending\n");
    open_pipe(&server, &client, FALSE);
    io = bind_file(server);
    read_from("the read", server, io, 16, &one, FALSE);
    CloseHandle(server);
    pause_for(200);
    printf("then: %d callbacks, %s\n", (int)callbacks, seen[0].error != 0 ? "an error" : "no error");
    callbacks = 0;
    unbind(io);
    CloseHandle(client);
}

static void CALLBACK on_last(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                             ULONG_PTR bytes, PTP_IO io)
{
    (void)context, (void)overlapped;
    DisassociateCurrentThreadFromCallback(instance);
    WaitForThreadpoolIoCallbacks(io, FALSE);
    CloseThreadpoolIo(io);
    note(error, (DWORD)bytes);
}

static void ask_callback(void)
{
    HANDLE server, client;
    OVERLAPPED one;
    PTP_IO io, other;

    printf("-- closing the binding inside its last callback\n");
    open_pipe(&server, &client, FALSE);
    io = CreateThreadpoolIo(server, on_last, NULL, &environment);
    other = CreateThreadpoolIo(client, on_other_end, NULL, &environment);
    read_from("the read", server, io, 16, &one, FALSE);
    write_to(client, other, 2);
    report("then");
    unbind(other);
    CloseHandle(server);
    CloseHandle(client);
}

static void ask_bind(void)
{
    HANDLE server, client, synchronous = open_synchronous();
    PTP_IO io;

    printf("-- what cannot be bound\n");
    open_pipe(&server, &client, FALSE);
    io = bind_file(server);
    printf("once: %s\n", io != NULL ? "bound" : "not bound");
    if (bind_file(server) == NULL)
        printf("twice: %u\n", (unsigned)GetLastError());
    if (bind_file(synchronous) == NULL)
        printf("a synchronous handle: %u\n", (unsigned)GetLastError());
    if (bind_file((HANDLE)0xBAD0) == NULL)
        printf("no handle: %u\n", (unsigned)GetLastError());
    unbind(io);
    CloseHandle(server);
    CloseHandle(client);
    CloseHandle(synchronous);
}

static void CALLBACK on_timer(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_TIMER timer)
{
    (void)instance, (void)context, (void)timer;
    note(0, 0);
}

static void set_timer(PTP_TIMER timer, int milliseconds)
{
    LARGE_INTEGER relative;
    FILETIME due;

    relative.QuadPart = -10000ll * milliseconds;
    due.dwLowDateTime = relative.LowPart;
    due.dwHighDateTime = (DWORD)relative.HighPart;
    SetThreadpoolTimer(timer, &due, 0, 0);
}

static void ask_timer(void)
{
    PTP_TIMER timer = CreateThreadpoolTimer(on_timer, NULL, &environment);

    printf("-- timers\n");
    set_timer(timer, 0);
    report("due at once");
    set_timer(timer, 50);
    report("due soon");
    set_timer(timer, 50);
    set_timer(timer, 60);
    report("set twice");
    set_timer(timer, 100);
    SetThreadpoolTimer(timer, NULL, 0, 0);
    report("taken back");
    set_timer(timer, 100000);
    SetThreadpoolTimer(timer, NULL, 0, 0);
    WaitForThreadpoolTimerCallbacks(timer, TRUE);
    CloseThreadpoolTimer(timer);
}

static void CALLBACK on_work(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WORK work)
{
    (void)instance, (void)context, (void)work;
    note(0, 0);
}

static void ask_work(void)
{
    PTP_WORK work = CreateThreadpoolWork(on_work, NULL, &environment);

    printf("-- work\n");
    for (int i = 0; i < 3; i++)
        SubmitThreadpoolWork(work);
    WaitForThreadpoolWorkCallbacks(work, FALSE);
    report("submitted three times");
    CloseThreadpoolWork(work);
}

static void CALLBACK on_wait(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WAIT wait, TP_WAIT_RESULT result)
{
    (void)instance, (void)context, (void)wait;
    note(result, 0);
}

static void CALLBACK on_last_wait(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WAIT wait, TP_WAIT_RESULT result)
{
    (void)context;
    DisassociateCurrentThreadFromCallback(instance);
    SetThreadpoolWait(wait, NULL, NULL);
    WaitForThreadpoolWaitCallbacks(wait, TRUE);
    CloseThreadpoolWait(wait);
    note(result, 0);
}

static void ask_wait(void)
{
    LARGE_INTEGER relative = {.QuadPart = -10000ll * 50};
    FILETIME soon = {relative.LowPart, (DWORD)relative.HighPart}, now = {0, 0};
    HANDLE event = open_event(), duplicate;
    PTP_WAIT wait = CreateThreadpoolWait(on_wait, NULL, &environment);

    printf("-- waits\n");
    SetThreadpoolWait(wait, event, &now);
    report("no time to wait");
    SetThreadpoolWait(wait, event, &soon);
    report("not signalled in time");
    SetThreadpoolWait(wait, event, NULL);
    SetThreadpoolWait(wait, NULL, NULL);
    set_event(event);
    report("taken back");
    SetThreadpoolWait(wait, event, NULL);
    report("signalled");
    SetThreadpoolWait(wait, NULL, NULL);
    WaitForThreadpoolWaitCallbacks(wait, TRUE);
    CloseThreadpoolWait(wait);
    CloseHandle(event);

    event = open_event();
    DuplicateHandle(GetCurrentProcess(), event, GetCurrentProcess(), &duplicate, 0, FALSE, DUPLICATE_SAME_ACCESS);
    wait = CreateThreadpoolWait(on_last_wait, NULL, &environment);
    SetThreadpoolWait(wait, duplicate, NULL);
    set_event(event);
    CloseHandle(event);
    report("a duplicate, closed inside the callback");
    CloseHandle(duplicate);
}

static volatile LONG blocked;

static void CALLBACK on_block(PTP_CALLBACK_INSTANCE instance, PVOID context, PTP_WORK work)
{
    LONG yes = 1;

    (void)instance, (void)context, (void)work;
    while (blocked)
        WaitOnAddress(&blocked, &yes, sizeof yes, INFINITE);
}

/* Callbacks that are queued and cannot run yet, in a pool of one thread. */
static void ask_semaphore(void)
{
    HANDLE semaphore = open_semaphore(), never = open_event();
    PTP_POOL narrow = CreateThreadpool(NULL);
    TP_CALLBACK_ENVIRON place;
    FILETIME now = {0, 0};
    PTP_WORK work;
    PTP_WAIT wait;

    printf("-- semaphores and callbacks that are queued\n");
    SetThreadpoolThreadMaximum(narrow, 1);
    InitializeThreadpoolEnvironment(&place);
    SetThreadpoolCallbackPool(&place, narrow);
    work = CreateThreadpoolWork(on_block, NULL, &place);
    wait = CreateThreadpoolWait(on_wait, NULL, &place);
    for (int hurried = 0; hurried <= 1; hurried++) {
        SetThreadpoolWait(wait, semaphore, NULL);
        if (hurried)
            SetThreadpoolWait(wait, never, &now);
        else
            SetThreadpoolWait(wait, NULL, NULL);
        release_semaphore(semaphore);
        report(hurried ? "hurried before the release" : "taken back before the release");
        blocked = 1;
        SubmitThreadpoolWork(work);
        pause_for(100);
        SetThreadpoolWait(wait, semaphore, NULL); /* takes what was just released */
        pause_for(100);
        if (hurried)
            SetThreadpoolWait(wait, never, &now);
        else
            SetThreadpoolWait(wait, NULL, NULL);
        pause_for(100);
        blocked = 0;
        WakeByAddressAll((PVOID)&blocked);
        WaitForThreadpoolWaitCallbacks(wait, FALSE);
        pause_for(100);
        printf("%s while its callback is queued: %s\n", hurried ? "hurried" : "taken back",
               callbacks == 1 + hurried && seen[0].error + seen[1].error * (DWORD)hurried == (DWORD)hurried * WAIT_TIMEOUT
                   ? "the callback comes, with the signal"
                   : "something else");
        callbacks = 0;
    }
    printf("left in the semaphore: %d\n", take_all(semaphore));
    SetThreadpoolWait(wait, NULL, NULL);
    WaitForThreadpoolWaitCallbacks(wait, FALSE);
    CloseThreadpoolWait(wait);
    WaitForThreadpoolWorkCallbacks(work, FALSE);
    CloseThreadpoolWork(work);
    DestroyThreadpoolEnvironment(&place);
    CloseThreadpool(narrow);
    CloseHandle(semaphore);
    CloseHandle(never);
}

static void ask_address(void)
{
    LONG value = 1, same = 1, other = 2;
    BOOL ok;

    printf("-- waiting on an address\n");
    ok = WaitOnAddress(&value, &other, sizeof value, INFINITE);
    printf("another value: %d\n", ok);
    do
        ok = WaitOnAddress(&value, &same, sizeof value, 50); /* may wake up for nothing */
    while (ok);
    printf("the same value: %d, %u\n", ok, (unsigned)GetLastError());
}

static void ask(void *argument)
{
    (void)argument;
    pool = CreateThreadpool(NULL);
    InitializeThreadpoolEnvironment(&environment);
    SetThreadpoolCallbackPool(&environment, pool);
    ask_pipe(FALSE);
    ask_pipe(TRUE);
    ask_at_once();
    ask_poll(TRUE);
    ask_poll(FALSE);
    ask_close();
    ask_callback();
    ask_bind();
    ask_timer();
    ask_work();
    ask_wait();
    ask_semaphore();
    ask_address();
    DestroyThreadpoolEnvironment(&environment);
    CloseThreadpool(pool);
}

int main(void)
{
#ifdef _WIN32
    WSADATA data;

    WSAStartup(0x0202, &data);
    ask(NULL);
#else
    sim_begin(0);
    sim_run(1, ask, NULL);
    sim_end();
#endif
    return 0;
}
