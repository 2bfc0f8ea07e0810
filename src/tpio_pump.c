/* tpio_pump.c: while one block is written, the next is read.
 *
 * Operations complete on any thread, also before the call that submitted them has returned, and a cancel comes from anywhere.
 * But one thread at a time looks after a pump, its driver, and so it needs no lock. Whatever happens sets a bit in `events`;
 * who finds it without a driver is the driver, until no bit is left. Only the driver submits, asks the system to cancel, and
 * ends the pump. Who sets a bit does not touch the pump afterwards unless he is the driver: it may be over at once.
 *
 *      on_read, on_written, on_turn, cancel   --> pump__happened --> pump__advance   (the driver)
 *
 * When reads and writes are done at once, as those of cached files are, a pump would never let its thread go: after some
 * steps it comes back by way of the pool's queue. So it begins, too: the caller's thread copies nothing.
 */
#include "tpio_pump.h"

#define PUMP__STEPS 16 /* operations that are done at once, before others have their turn */

enum { PUMP__READ = 1, PUMP__WRITTEN = 2, PUMP__TURN = 4, PUMP__CANCEL = 8, PUMP__DRIVEN = 16 };

static void pump__stop(tpio_pump *pump, DWORD error)
{
    if (pump->stopped)
        return;
    pump->stopped = TRUE;
    pump->error = error;
}

static void pump__cancelled(tpio_pump *pump)
{
    if (!pump->stopped)
        pump->cancelled = TRUE;
    pump__stop(pump, ERROR_OPERATION_ABORTED);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void pump__read_ended(tpio_pump *pump)
{
    tpio_pump_end *from = &pump->from;
    tpio_pump_block *block = &pump->blocks[(pump->first + pump->filled) % TPIO_PUMP_BLOCKS];
    DWORD error = from->op.error, bytes = from->op.bytes;

    from->busy = FALSE;
    /* Windows ends all receives of a connection when one of them is cancelled. If that was not ours, it begins anew. */
    if (error == ERROR_OPERATION_ABORTED && from->is_socket && !from->asked)
        return;
    switch (error) {
    case ERROR_SUCCESS:
        break;
    case ERROR_BROKEN_PIPE:
    case ERROR_HANDLE_EOF:
    case ERROR_PIPE_NOT_CONNECTED:
        pump->ended = TRUE;
        return;
    default:
        /* What came before it is still written. */
        pump->ended = TRUE;
        if (!pump->stopped)
            pump->error = error;
        return;
    }
    if (bytes == 0) {
        /* The end of a file or a connection; for a pipe only that somebody has written nothing. */
        pump->ended = from->is_socket || from->is_file;
        return;
    }
    block->size = bytes;
    block->written = 0;
    pump->filled++;
    if (pump->left != TPIO_PUMP_TO_THE_END)
        pump->left -= bytes;
    if (from->is_file)
        from->offset += bytes;
    if (pump->left == 0)
        pump->ended = TRUE;
}

static tpio_status pump__read(tpio_pump *pump)
{
    tpio_pump_end *from = &pump->from;
    int place = (pump->first + pump->filled) % TPIO_PUMP_BLOCKS;
    char *memory = pump->memory + (size_t)place * pump->block_size;
    DWORD size = pump->left < pump->block_size ? (DWORD)pump->left : pump->block_size;

    pump->blocks[place].data = memory;
    return from->is_socket ? tpio_recv(&from->op, from->handle, memory, size, 0)
                           : tpio_read(&from->op, from->handle, memory, size, from->offset);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void pump__write_ended(tpio_pump *pump)
{
    tpio_pump_end *to = &pump->to;
    tpio_pump_block *block = &pump->blocks[pump->first];
    DWORD error = to->op.error, bytes = to->op.bytes;

    to->busy = FALSE;
    if (error == ERROR_SUCCESS && bytes == 0)
        error = ERROR_WRITE_FAULT; /* it would never end */
    if (error != ERROR_SUCCESS) {
        pump__stop(pump, error);
        return;
    }
    pump->moved += bytes;
    block->written += bytes;
    if (to->is_file && to->offset != TPIO_APPEND)
        to->offset += bytes;
    if (block->written < block->size)
        return;
    pump->first = (pump->first + 1) % TPIO_PUMP_BLOCKS;
    pump->filled--;
}

static tpio_status pump__write(tpio_pump *pump)
{
    tpio_pump_end *to = &pump->to;
    tpio_pump_block *block = &pump->blocks[pump->first];
    const char *data = block->data + block->written;
    size_t left = block->size - block->written;
    DWORD size = left < pump->block_size ? (DWORD)left : pump->block_size;

    return to->is_socket ? tpio_send(&to->op, to->handle, data, size, 0)
                         : tpio_write(&to->op, to->handle, data, size, to->offset);
}

/* ---- the driver ------------------------------------------------------------------------------------------------- */

typedef tpio_status pump__submit_fn(tpio_pump *pump);
typedef void pump__ended_fn(tpio_pump *pump);

static void pump__begin(tpio_pump *pump, tpio_pump_end *end, pump__submit_fn *submit, pump__ended_fn *ended)
{
    switch (submit(pump)) {
    case TPIO_PENDING: /* if it has completed by now, that is for the driver to see: us */
        end->busy = TRUE;
        break;
    case TPIO_DONE:
        pump->steps++;
        ended(pump);
        break;
    case TPIO_CLOSED:
        pump__stop(pump, ERROR_OPERATION_ABORTED);
        break;
    }
}

static void pump__turn(tpio_pump *pump)
{
    pump->steps = 0;
    pump->turning = tpio_work(&pump->turn, pump->turn.pool) == TPIO_PENDING;
    if (!pump->turning) /* the pool is closed */
        pump__cancelled(pump);
}

static void pump__ask(tpio_pump_end *end)
{
    if (!end->busy || end->asked)
        return;
    end->asked = TRUE;
    tpio_op_cancel(&end->op);
}

static void pump__ask_all(tpio_pump *pump)
{
    pump__ask(&pump->from);
    pump__ask(&pump->to);
    if (pump->turning && tpio_op_cancel(&pump->turn) == TPIO_DONE)
        pump->turning = FALSE;
}

static void pump__see(tpio_pump *pump, LONG events)
{
    if (events & PUMP__READ)
        pump__read_ended(pump);
    if (events & PUMP__WRITTEN)
        pump__write_ended(pump);
    if (events & PUMP__TURN) {
        pump->turning = FALSE;
        /* Taken from the pool, on the thread that closes it or cancels its work, which must not go on for it. */
        if (pump->turn.error != ERROR_SUCCESS)
            pump__cancelled(pump);
    }
    if (events & PUMP__CANCEL)
        pump__cancelled(pump);
}

static void pump__submit(tpio_pump *pump)
{
    BOOL reads, writes;

    while (!pump->stopped && !pump->turning) {
        reads = !pump->ended && !pump->from.busy && pump->filled < TPIO_PUMP_BLOCKS;
        writes = pump->filled > 0 && !pump->to.busy;
        if (!reads && !writes)
            return;
        if (pump->steps >= PUMP__STEPS) {
            pump__turn(pump);
            return;
        }
        if (reads)
            pump__begin(pump, &pump->from, pump__read, pump__read_ended);
        if (writes && !pump->stopped)
            pump__begin(pump, &pump->to, pump__write, pump__write_ended);
    }
}

/* TRUE: the pump is over. */
static BOOL pump__advance(tpio_pump *pump, LONG events)
{
    pump__see(pump, events);
    pump__submit(pump);
    if (pump->stopped)
        pump__ask_all(pump);
    /* What is neither stopped nor busy has nothing left to do, or pump__submit had found it. */
    return !pump->from.busy && !pump->to.busy && !pump->turning;
}

static tpio_tail_fn pump__happened(tpio_pump *pump, LONG event)
{
    tpio_tail_fn tail;
    LONG events;

    if (InterlockedOr(&pump->events, event | PUMP__DRIVEN) & PUMP__DRIVEN)
        return NULL;
    do {
        events = InterlockedExchange(&pump->events, PUMP__DRIVEN);
        if (pump__advance(pump, events)) {
            tail = pump->complete(pump); /* it stays driven: nobody comes after us */
            return tail;
        }
    } while (InterlockedCompareExchange(&pump->events, 0, PUMP__DRIVEN) != PUMP__DRIVEN);
    return NULL;
}

static tpio_tail_fn pump__on_read(tpio_op *op)
{
    return pump__happened(op->user, PUMP__READ);
}

static tpio_tail_fn pump__on_written(tpio_op *op)
{
    return pump__happened(op->user, PUMP__WRITTEN);
}

static tpio_tail_fn pump__on_turn(tpio_op *op)
{
    return pump__happened(op->user, PUMP__TURN);
}

tpio_status tpio_pump_start(tpio_pump *pump, tpio_pool *pool)
{
    pump->from.op.user = pump->to.op.user = pump->turn.user = pump;
    pump->from.op.complete = pump__on_read;
    pump->to.op.complete = pump__on_written;
    pump->turn.complete = pump__on_turn;
    pump->ended = pump->left == 0;
    pump->turning = TRUE;
    return tpio_work(&pump->turn, pool); /* the rest is its turn's: from here on the pump may be over */
}

void tpio_pump_cancel(tpio_pump *pump)
{
    tpio_tail_fn tail = pump__happened(pump, PUMP__CANCEL);

    if (tail != NULL)
        tail();
}
