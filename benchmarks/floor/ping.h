/* ping.h: a message goes to and fro between two ends of this process, over whatever tcp_ping.c and pipe_ping.c define:
 *
 *     ping_make(near, far)     fills in the files that the ends read from and write to
 *     ping_read, ping_write    the overlapped call; returns 0 or its error
 *
 * An end that has read a message writes one and reads again. Sockets read and write through one handle, pipes need two.
 */
#ifndef PING_H
#define PING_H

#include "floor.h"

typedef struct ping_end {
    HANDLE read_file, write_file;
    PTP_IO read_io, write_io;
    OVERLAPPED reading, writing;
    char *buffer;
    LONG turns; /* messages still to be read; the near end stops the clock at 0 */
    BOOL near_end;
} ping_end;

static void ping_make(ping_end *near_end, ping_end *far_end);
static DWORD ping_read(ping_end *end);
static DWORD ping_write(ping_end *end);

static DWORD ping_size;
static LONG ping_turns;

static BOOL ping_begin_read(ping_end *end)
{
    ZeroMemory(&end->reading, sizeof end->reading);
    StartThreadpoolIo(end->read_io);
    return floor_is_over(end->read_io, ping_read(end));
}

static void ping_begin_write(ping_end *end)
{
    while (!HasOverlappedIoCompleted(&end->writing)) /* the last one; its answer is here, so it is done or about to be */
        YieldProcessor();
    ZeroMemory(&end->writing, sizeof end->writing);
    StartThreadpoolIo(end->write_io);
    floor_is_over(end->write_io, ping_write(end));
}

/* A message has been read. FALSE: it was the last. */
static BOOL ping_answer(ping_end *end)
{
    CHECK(end->reading.InternalHigh == ping_size);
    if (end->near_end) {
        LONG left = --end->turns;

        if (left == ping_turns)
            floor_start();
        if (left == 0) {
            floor_stop();
            return FALSE;
        }
    }
    ping_begin_write(end);
    return TRUE;
}

static void CALLBACK ping_on_io(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG error,
                                ULONG_PTR bytes, PTP_IO io)
{
    ping_end *end = context;

    (void)instance, (void)bytes, (void)io;
    SetLastError(error);
    CHECK(error == ERROR_SUCCESS);
    if (overlapped == &end->writing)
        return;
    while (ping_answer(end))
        if (!ping_begin_read(end))
            return;
}

static void ping_bind(ping_end *end)
{
    end->buffer = calloc(1, ping_size);
    CHECK(end->buffer != NULL);
    end->read_io = floor_bind(end->read_file, ping_on_io, end);
    end->write_io = end->write_file == end->read_file ? end->read_io : floor_bind(end->write_file, ping_on_io, end);
}

/* Arguments: turns, message size. */
int main(int argc, char **argv)
{
    static ping_end near_end, far_end;

    CHECK(argc == 3);
    ping_turns = atol(argv[1]);
    ping_size = (DWORD)atol(argv[2]);
    near_end.turns = ping_turns + WARM_UP;
    near_end.near_end = TRUE;
    floor_set_up();
    ping_make(&near_end, &far_end);
    ping_bind(&near_end);
    ping_bind(&far_end);
    CHECK(!ping_begin_read(&far_end));
    CHECK(!ping_begin_read(&near_end));
    ping_begin_write(&near_end);
    floor_report();
}

#endif
