/* file_reads READS SIZE DEPTH PATH: reads at changing places of a file, DEPTH in flight. */
#include "floor.h"

typedef struct slot {
    OVERLAPPED overlapped;
    char *buffer;
} slot;

static HANDLE file;
static PTP_IO io;
static DWORD size;
static LONG64 blocks;         /* of the file */
static LONG64 wanted, timed;
static volatile LONG64 begun, ended;

/* The n-th place: the same for every peer, see files.py. */
static LONG64 place(LONG64 n)
{
    return n * 7919 % blocks * size;
}

/* TRUE: it is over already. */
static BOOL begin(slot *s, LONG64 n)
{
    LONG64 at = place(n);

    ZeroMemory(&s->overlapped, sizeof s->overlapped);
    s->overlapped.Offset = (DWORD)at;
    s->overlapped.OffsetHigh = (DWORD)(at >> 32);
    StartThreadpoolIo(io);
    return floor_is_over(io, ReadFile(file, s->buffer, size, NULL, &s->overlapped) ? ERROR_SUCCESS : GetLastError());
}

static void count(slot *s)
{
    LONG64 now = InterlockedIncrement64(&ended);

    CHECK(s->overlapped.InternalHigh == size);
    if (now == wanted - timed)
        floor_start();
    if (now == wanted)
        floor_stop();
}

static void run(slot *s)
{
    for (;;) {
        LONG64 n = InterlockedIncrement64(&begun) - 1;

        if (n >= wanted || !begin(s, n))
            return;
        count(s);
    }
}

static void CALLBACK on_io(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                           ULONG_PTR bytes, PTP_IO self)
{
    slot *s = overlapped; /* its first member */

    (void)instance, (void)context, (void)bytes, (void)self;
    SetLastError(error);
    CHECK(error == ERROR_SUCCESS);
    count(s);
    run(s);
}

int main(int argc, char **argv)
{
    LARGE_INTEGER length;
    slot *slots;
    int depth;

    CHECK(argc == 5);
    timed = atol(argv[1]);
    size = (DWORD)atol(argv[2]);
    depth = atoi(argv[3]);
    wanted = timed + WARM_UP;
    file = CreateFileA(argv[4], GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                       FILE_FLAG_OVERLAPPED, NULL);
    CHECK(file != INVALID_HANDLE_VALUE);
    CHECK(GetFileSizeEx(file, &length));
    blocks = length.QuadPart / size;
    floor_set_up();
    io = floor_bind(file, on_io, NULL);
    slots = calloc((size_t)depth, sizeof *slots);
    CHECK(slots != NULL);
    for (int i = 0; i < depth; i++) {
        slots[i].buffer = malloc(size);
        CHECK(slots[i].buffer != NULL);
        run(&slots[i]);
    }
    floor_report();
}
