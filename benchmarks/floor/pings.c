/* pings TURNS SIZE CONNECTIONS: messages to and fro over so many TCP connections at once. */
#include "floor.h"

typedef struct end {
    SOCKET socket;
    PTP_IO io;
    OVERLAPPED reading, writing;
    char *buffer;
    BOOL near_end;
} end;

static DWORD size;
static LONG warm_up, turns;
static LONG connections;
static volatile LONG answered, quiet;

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
        if (e->near_end) {
            LONG now = InterlockedIncrement(&answered);

            if (now == warm_up)
                floor_start();
            if (now == warm_up + turns)
                QueryPerformanceCounter(&floor_ended);
            if (now >= warm_up + turns) {
                /* Only then: Wine's exit can wait for ever for a thread that was at work when it was ended. */
                if (InterlockedIncrement(&quiet) == connections)
                    SetEvent(floor_done);
                return;
            }
        }
        begin_write(e);
    } while (begin_read(e));
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
    end *ends;

    CHECK(argc == 4);
    turns = atol(argv[1]);
    size = (DWORD)atol(argv[2]);
    connections = atoi(argv[3]);
    warm_up = connections > WARM_UP ? connections : WARM_UP;
    floor_set_up();
    CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
    listener = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, name, name_size) == 0 && listen(listener, 8) == 0 && getsockname(listener, name, &name_size) == 0);
    ends = calloc((size_t)connections * 2, sizeof *ends);
    CHECK(ends != NULL);
    for (int i = 0; i < connections; i++) {
        SOCKET client = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);

        CHECK(connect(client, name, name_size) == 0);
        make(&ends[2 * i], client, TRUE);
        make(&ends[2 * i + 1], accept(listener, NULL, NULL), FALSE);
    }
    for (int i = 0; i < 2 * connections; i++)
        CHECK(!begin_read(&ends[i]));
    for (int i = 0; i < connections; i++)
        begin_write(&ends[2 * i]);
    floor_report();
}
