/* pipe_ping TURNS SIZE: messages to and fro over two one-way pipes. */
#include "ping.h"

static void ping_make(ping_end *near_end, ping_end *far_end)
{
    floor_pipe(&near_end->read_file, &far_end->write_file);
    floor_pipe(&far_end->read_file, &near_end->write_file);
}

static DWORD ping_read(ping_end *end)
{
    return ReadFile(end->read_file, end->buffer, ping_size, NULL, &end->reading) ? ERROR_SUCCESS : GetLastError();
}

static DWORD ping_write(ping_end *end)
{
    return WriteFile(end->write_file, end->buffer, ping_size, NULL, &end->writing) ? ERROR_SUCCESS : GetLastError();
}
