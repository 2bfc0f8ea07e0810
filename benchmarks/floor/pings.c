/* pings TURNS SIZE CONNECTIONS: messages to and fro over so many TCP connections at once, on each its share of the turns. */
#include "floor.h"

typedef struct end {
    SOCKET socket;
    PTP_IO io;
    OVERLAPPED reading, writing;
    char *buffer;
    LONG left; /* messages still to be read */
    BOOL near_end;
} end;

static DWORD size;
static LONG connections;
static end *ends;
static volatile LONG unended; /* ends that have messages left */

/* TRUE: it is over already. */
static BOOL begin_read(end *e)
{
    WSABUF buffer = {size, e->buffer};
    DWORD flags = 0;

    ZeroMemory(&e->reading, sizeof e->reading);
    StartThreadpoolIo(e->io);
    return floor_is_over(e->io, WSARecv(e->socket, &buffer, 1, NULL, &flags, &e->reading, NULL) == 0
                                    ? ERROR_SUCCESS
                                    : (DWORD)WSAGetLastError());
}

static void begin_write(end *e)
{
    WSABUF buffer = {size, e->buffer};

    while (!HasOverlappedIoCompleted(&e->writing)) /* the last one; its answer is here, so it is done or about to be */
        YieldProcessor();
    ZeroMemory(&e->writing, sizeof e->writing);
    StartThreadpoolIo(e->io);
    floor_is_over(e->io,
                  WSASend(e->socket, &buffer, 1, NULL, 0, &e->writing, NULL) == 0 ? ERROR_SUCCESS : (DWORD)WSAGetLastError());
}

static void run(end *e)
{
    do {
        CHECK(e->reading.InternalHigh == size);
        e->left--;
        if (!e->near_end || e->left != 0)
            begin_write(e);
        if (e->left == 0) {
            if (InterlockedDecrement(&unended) == 0)
                floor_stop();
            return;
        }
    } while (begin_read(e));
}

/* When it returns nobody has anything left to do: Wine's exit can wait for ever for a thread that was ended at work. */
static void all_turns(LONG turns)
{
    ResetEvent(floor_done);
    unended = 2 * connections;
    for (LONG i = 0; i < 2 * connections; i++)
        ends[i].left = turns / connections + (i / 2 < turns % connections);
    for (LONG i = 0; i < 2 * connections; i++) {
        if (ends[i].near_end)
            begin_write(&ends[i]);
        if (begin_read(&ends[i]))
            run(&ends[i]);
    }
    WaitForSingleObject(floor_done, INFINITE);
}

static void CALLBACK on_io(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                           ULONG_PTR bytes, PTP_IO io)
{
    end *e = context;

    (void)instance, (void)bytes, (void)io;
    SetLastError(error);
    CHECK(error == ERROR_SUCCESS);
    if (overlapped != &e->writing)
        run(e);
}

static void make(end *e, SOCKET socket, BOOL near_end)
{
    BOOL on = TRUE;

    CHECK(socket != INVALID_SOCKET);
    CHECK(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (char *)&on, sizeof on) == 0);
    e->socket = socket;
    e->near_end = near_end;
    e->buffer = calloc(1, size);
    CHECK(e->buffer != NULL);
    e->io = floor_bind((HANDLE)socket, on_io, e);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr *name = (struct sockaddr *)&address;
    int name_size = sizeof address;
    SOCKET listener;
    WSADATA data;
    LONG turns;

    CHECK(argc == 4);
    turns = atol(argv[1]);
    CHECK(turns >= atol(argv[3]));
    size = (DWORD)atol(argv[2]);
    connections = atoi(argv[3]);
    floor_set_up();
    CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
    listener = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, name, name_size) == 0 && listen(listener, 8) == 0 && getsockname(listener, name, &name_size) == 0);
    ends = calloc((size_t)connections * 2, sizeof *ends);
    CHECK(ends != NULL);
    for (LONG i = 0; i < connections; i++) {
        SOCKET client = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);

        CHECK(connect(client, name, name_size) == 0);
        make(&ends[2 * i], client, TRUE);
        make(&ends[2 * i + 1], accept(listener, NULL, NULL), FALSE);
    }
    all_turns(connections); /* to warm up */
    floor_start();
    all_turns(turns);
    floor_report();
}
