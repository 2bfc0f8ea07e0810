/* schedule_handles.c: the handles of the random program: bound, used, closed, detached, dropped. */
#include "schedule_program.h"

#include <string.h>

#define SLOTS 5

static slot slots[SLOTS];
static int bindings;

slot *slot_take(void)
{
    slot *slot = &slots[sim_random(SLOTS)];

    sim_lock();
    if (slot->handle == NULL || slot->dropped) {
        slot = NULL;
    } else {
        slot->users++;
        sim_acquire(slot);
    }
    sim_unlock();
    return slot;
}

void slot_give(slot *slot, bool drop)
{
    tpio_handle *gone = NULL;

    sim_lock();
    slot->dropped |= drop;
    sim_release(slot);
    if (--slot->users == 0 && slot->dropped) {
        sim_acquire(slot);
        gone = slot->handle;
        slot->handle = NULL;
    }
    sim_unlock();
    if (gone != NULL)
        tpio_handle_unref(gone);
}

void act_bind(void)
{
    slot *slot = &slots[sim_random(SLOTS)];
    unsigned flags = sim_random(8), kind = 0;
    int account = (int)sim_random(POOLS);
    tpio_bind_error why;
    tpio_handle *handle, *second;
    DWORD error;
    HANDLE file;
    bool mine;

    sim_lock();
    mine = slot->handle == NULL && slot->users == 0;
    if (mine)
        slot->users = 1; /* reserved */
    sim_unlock();
    if (!mine)
        return;
    if (sim_chance(8))
        kind |= SIM_SYNCHRONOUS;
    if (sim_chance(2))
        kind |= SIM_HELD;
    if (sim_chance(2))
        kind |= SIM_MESSAGE;
    file = sim_chance(20) ? SIM_BAD_HANDLE : sim_file_open(kind);
    error = tpio_handle_bind(accounts[account].pool, file, flags, &handle, &why);
    if (error != 0) {
        if (handle != NULL)
            sim_broken("a failed bind returned a handle");
        if (why == TPIO_BIND_NOT_OVERLAPPED && !(kind & SIM_SYNCHRONOUS))
            sim_broken("a wrong reason");
        if (file != SIM_BAD_HANDLE)
            CloseHandle(file);
        sim_lock();
        slot->users = 0;
        sim_unlock();
        return;
    }
    if (kind & SIM_SYNCHRONOUS || file == SIM_BAD_HANDLE)
        sim_broken("a handle was bound that cannot be");
    if (!(flags & TPIO_OWNS) && sim_chance(4) && /* still ours, so we may try */
        tpio_handle_bind(accounts[account].pool, file, flags, &second, &why) == 0)
        sim_broken("a handle was bound twice");
    sim_lock();
    slot->handle = handle;
    slot->file = file;
    slot->flags = flags;
    slot->account = account;
    slot->binding = ++bindings;
    slot->dropped = false;
    slot->closed_at = 0;
    sim_release(slot);
    sim_unlock();
    slot_give(slot, false);
}

/* A handle that tpio does not own, or does not any more, is ours to close as soon as tpio says that it is closed. */
static void close_file(slot *slot)
{
    HANDLE file;

    sim_lock();
    file = slot->file;
    slot->file = NULL;
    sim_unlock();
    if (file != NULL)
        CloseHandle(file);
}

static void slot_closed(slot *slot)
{
    sim_lock();
    if (slot->closed_at == 0)
        slot->closed_at = sim_stamp();
    sim_unlock();
}

static void close_slot(slot *slot)
{
    tpio_handle_close(slot->handle);
    slot_closed(slot);
    if (tpio_handle_file(slot->handle) != INVALID_HANDLE_VALUE)
        sim_broken("a closed handle has a file");
    if (!(slot->flags & TPIO_OWNS))
        close_file(slot);
}

static void detach_slot(slot *slot)
{
    HANDLE file = tpio_handle_detach(slot->handle);

    if (file == INVALID_HANDLE_VALUE)
        return;
    slot_closed(slot);
    if (slot->flags & TPIO_OWNS)
        CloseHandle(file);
    else
        close_file(slot);
}

void act_handle(void)
{
    slot *slot = slot_take();
    bool drop = false;

    if (slot == NULL)
        return;
    switch (sim_random(6)) {
    case 0:
    case 1:
        sim_lock();
        slot->cancelling++;
        sim_unlock();
        tpio_handle_cancel(slot->handle);
        sim_lock();
        slot->cancels++;
        slot->cancelling--;
        sim_unlock();
        break;
    case 2:
        close_slot(slot);
        break;
    case 3:
        detach_slot(slot);
        break;
    case 4:
        close_slot(slot);
        drop = true;
        break;
    case 5: /* nobody can close it any more, except its pool */
        drop = (slot->flags & TPIO_OWNS) != 0;
        break;
    }
    slot_give(slot, drop);
}

void handles_reset(void)
{
    memset(slots, 0, sizeof slots);
    bindings = 0;
}

void handles_drop(void)
{
    for (int i = 0; i < SLOTS; i++) {
        slot *slot = &slots[i];

        if (slot->users != 0)
            sim_broken("the program lost count");
        if (!(slot->flags & TPIO_OWNS) && slot->file != NULL)
            close_file(slot);
        if (slot->handle != NULL) {
            tpio_handle_close(slot->handle);
            tpio_handle_unref(slot->handle);
        }
    }
}
