/* schedule_pumps.c: the pumps of the random program, between any two of its handles. */
#include "schedule_program.h"

#include "../../src/tpio_pump.h"

#include <stdlib.h>
#include <string.h>

#define PUMPS 3

typedef struct pumping {
    tpio_pump pump; /* first */
    int refs;       /* the pump itself, and those who cancel it */
    bool started, ended;
    slot *from, *to;
    long cancels; /* of both, when it began */
    uint64_t wanted;
    size_t head;
    char *memory;
} pumping;

static pumping *pumps[PUMPS]; /* those that may be cancelled */

static void pumping_unref(pumping *pumping)
{
    bool last;

    sim_lock();
    sim_release(pumping);
    last = --pumping->refs == 0;
    if (last)
        sim_acquire(pumping);
    sim_unlock();
    if (!last)
        return;
    free(pumping->memory);
    free(pumping);
}

static void check_pump(const pumping *pumping)
{
    const tpio_pump *pump = &pumping->pump;
    uint64_t unwritten = 0;

    if (pump->filled < 0 || pump->filled > TPIO_PUMP_BLOCKS)
        sim_broken("a pump with %d blocks", pump->filled);
    for (int i = 0; i < pump->filled; i++) {
        const tpio_pump_block *block = &pump->blocks[(pump->first + i) % TPIO_PUMP_BLOCKS];

        if (block->written >= block->size)
            sim_broken("a block of a pump that has been written is still there");
        for (size_t at = block->written; at < block->size; at++)
            if ((unsigned char)block->data[at] != SIM_FILL)
                sim_broken("what a pump gives back is not what was read");
        unwritten += block->size - block->written;
    }
    if (pump->error == 0 && unwritten != 0)
        sim_broken("a pump succeeded with %lu bytes unwritten", (unsigned long)unwritten);
    if (pumping->wanted != TPIO_PUMP_TO_THE_END &&
        pump->moved + unwritten != pumping->head + pumping->wanted - pump->left)
        sim_broken("a pump lost something: %lu of %lu read, %lu written, %lu left over", (unsigned long)pump->left,
                   (unsigned long)pumping->wanted, (unsigned long)pump->moved, (unsigned long)unwritten);
}

/* Nobody has asked for its end. Under sim_lock. */
static bool is_left_alone(const pumping *pumping)
{
    const slot *from = pumping->from, *to = pumping->to;

    return !pumping->pump.cancelled && from->cancels + to->cancels == pumping->cancels &&
           from->cancelling + to->cancelling == 0 &&
           tpio_handle_file(from->handle) != INVALID_HANDLE_VALUE && tpio_handle_file(to->handle) != INVALID_HANDLE_VALUE &&
           !accounts[from->account].closing && !accounts[to->account].closing; /* the pools themselves may be gone */
}

static tpio_tail_fn on_pumped(tpio_pump *pump)
{
    pumping *over = (pumping *)pump;
    bool again;

    if (sim_self()->locks != 0)
        sim_broken("a pump completes with a lock held");
    check_pump(over);
    sim_lock();
    again = over->ended;
    if (pump->error == ERROR_OPERATION_ABORTED && is_left_alone(over))
        sim_broken("a pump has ended because another operation was cancelled");
    over->ended = true;
    unfinished--;
    for (int i = 0; i < PUMPS; i++)
        if (pumps[i] == over)
            pumps[i] = NULL;
    sim_unlock();
    if (again)
        sim_broken("a pump completed twice");
    slot_give(over->from, false);
    slot_give(over->to, false);
    pumping_unref(over);
    return sim_chance(2) ? NULL : tail_act;
}

static void fill_end(tpio_pump_end *end, const slot *slot)
{
    end->handle = slot->handle;
    end->is_socket = (slot->flags & TPIO_SOCKET) != 0;
    end->is_file = !end->is_socket && sim_chance(2);
}

void act_pump(void)
{
    slot *from = slot_take(), *to = slot_take();
    pumping *pumping;
    tpio_status status;
    int account;

    if (from == NULL || to == NULL) {
        if (from != NULL)
            slot_give(from, false);
        if (to != NULL)
            slot_give(to, false);
        return;
    }
    pumping = calloc(1, sizeof *pumping);
    pumping->refs = 1;
    pumping->from = from;
    pumping->to = to;
    pumping->wanted = sim_chance(4) ? TPIO_PUMP_TO_THE_END : sim_random(6 * BUFFER);
    fill_end(&pumping->pump.from, from);
    fill_end(&pumping->pump.to, to);
    if (pumping->pump.to.is_file && sim_chance(2))
        pumping->pump.to.offset = TPIO_APPEND;
    pumping->pump.block_size = sim_random(BUFFER) + 1;
    pumping->pump.left = pumping->wanted;
    pumping->pump.complete = on_pumped;
    pumping->memory = malloc((TPIO_PUMP_BLOCKS + 1) * BUFFER);
    memset(pumping->memory, UNTOUCHED, (TPIO_PUMP_BLOCKS + 1) * BUFFER);
    pumping->pump.memory = pumping->memory;
    if (sim_chance(3)) { /* what had been received before */
        pumping->head = sim_random(BUFFER) + 1;
        pumping->pump.filled = 1;
        pumping->pump.blocks[0].data = pumping->memory + TPIO_PUMP_BLOCKS * BUFFER;
        pumping->pump.blocks[0].size = pumping->head;
        memset(pumping->memory + TPIO_PUMP_BLOCKS * BUFFER, SIM_FILL, BUFFER);
    }
    account = from->account;
    sim_lock();
    unfinished++;
    pumping->cancels = from->cancels + to->cancels;
    accounts[account].pumped = accounts[to->account].pumped = true;
    for (int i = 0; i < PUMPS; i++)
        if (pumps[i] == NULL) {
            pumps[i] = pumping;
            break;
        }
    pumping->refs++; /* ours */
    sim_release(pumping);
    sim_unlock();
    status = tpio_pump_start(&pumping->pump, accounts[account].pool);
    sim_lock();
    if (status == TPIO_PENDING) {
        pumping->started = true;
    } else {
        unfinished--;
        for (int i = 0; i < PUMPS; i++)
            if (pumps[i] == pumping)
                pumps[i] = NULL;
        pumping->refs--;
    }
    sim_unlock();
    pumping_unref(pumping);
    if (status == TPIO_CLOSED) {
        slot_give(from, false);
        slot_give(to, false);
    }
}

void act_cancel_pump(void)
{
    pumping *pumping;

    sim_lock();
    pumping = pumps[sim_random(PUMPS)];
    if (pumping != NULL && pumping->started) {
        pumping->refs++;
        sim_acquire(pumping);
    } else {
        pumping = NULL;
    }
    sim_unlock();
    if (pumping == NULL)
        return;
    tpio_pump_cancel(&pumping->pump);
    pumping_unref(pumping);
}

void pumps_reset(void)
{
    memset(pumps, 0, sizeof pumps);
}
