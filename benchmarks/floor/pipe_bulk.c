/* pipe_bulk BLOCKS SIZE: blocks from one end of a pipe to the other, one write and one read in flight. */
#include "floor.h"

typedef struct end {
    HANDLE file;
    PTP_IO io;
    OVERLAPPED overlapped;
    char *buffer;
    LONG64 left; /* bytes to move */
} end;

static end reader, writer;
static DWORD block;
static LONG64 timed; /* bytes that are left when the clock starts */

/* Begins the next read or write. TRUE: it is over already. */
static BOOL begin(end *e)
{
    BOOL ok;

    ZeroMemory(&e->overlapped, sizeof e->overlapped);
    StartThreadpoolIo(e->io);
    ok = e == &reader ? ReadFile(e->file, e->buffer, block, NULL, &e->overlapped)
                      : WriteFile(e->file, e->buffer, block, NULL, &e->overlapped);
    return floor_is_over(e->io, ok ? ERROR_SUCCESS : GetLastError());
}

/* So many bytes were moved. FALSE: they were the last. */
static BOOL moved(end *e, LONG64 bytes)
{
    LONG64 before = e->left;

    e->left -= bytes;
    if (e == &reader) {
        if (before > timed && e->left <= timed)
            floor_start();
        if (e->left == 0)
            floor_stop();
    }
    return e->left != 0;
}

static void run(end *e)
{
    while (begin(e))
        if (!moved(e, (LONG64)e->overlapped.InternalHigh))
            return;
}

static void CALLBACK on_io(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                           ULONG_PTR bytes, PTP_IO io)
{
    (void)instance, (void)overlapped, (void)io;
    SetLastError(error);
    CHECK(error == ERROR_SUCCESS);
    if (moved(context, (LONG64)bytes))
        run(context);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    block = (DWORD)atol(argv[2]);
    timed = (LONG64)atol(argv[1]) * block;
    reader.left = writer.left = timed + (LONG64)WARM_UP * block;
    floor_set_up();
    floor_pipe(&reader.file, &writer.file);
    reader.io = floor_bind(reader.file, on_io, &reader);
    writer.io = floor_bind(writer.file, on_io, &writer);
    reader.buffer = calloc(1, block);
    writer.buffer = calloc(1, block);
    CHECK(reader.buffer != NULL && writer.buffer != NULL);
    run(&reader);
    run(&writer);
    floor_report();
}
