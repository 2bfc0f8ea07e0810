/* schedule.c: one random schedule, a program that does everything that tpio allows from several threads at once.
 *
 * The program keeps tpio's rules and no others: it frees an operation the moment that it gets it back, closes a handle
 * that it has been given back at once, drops what it does not need any more, and keeps accounts of all that it submits.
 */
#include "schedule.h"

#include "../../src/tpio_pump.h"
#include "win32sim.h"

#include <stdio.h>
#include <stdlib.h>

#define POOLS 2
#define SLOTS 5
#define EVENTS 3 /* the first an event that stays set, the others semaphores */
#define REMEMBERED 12 /* operations that somebody may want to cancel */
#define PUMPS 3
#define BUFFER 24
#define UNTOUCHED 0x5A
#define LATE 100 /* ms */
#ifdef SIM_FREE
#define REST 5000 /* at most, in units of 100 ns */
#undef LATE
#define LATE 100000 /* time is real, and so is the load of the machine */
#else
#define REST 20000000
#endif

typedef struct account {
    tpio_pool *pool;
    uint64_t closing_at; /* when we knew that it is being closed */
    long submitted, completed, cancelled, failed;
    bool pumped; /* has operations that only a pump counts */
} account;

typedef struct slot {
    tpio_handle *handle; /* NULL: free */
    HANDLE file;
    unsigned flags;
    int account;
    int users;    /* threads that use the handle now */
    int binding;  /* so that an operation knows its own */
    bool dropped; /* we let go of it; the last user gives the reference back */
    uint64_t closed_at; /* when we knew that it is closed */
} slot;

typedef struct operation {
    tpio_op op; /* first */
    int refs;   /* whoever has it, and those who cancel it */
    bool ended;
    int account;
    slot *slot;
    int binding;
    tpio_verb verb;
    char *buffer;
    DWORD size;
    struct sockaddr name;
    int64_t due;
    DWORD window;
    int event; /* waits: which; -1: a short-lived one */
    bool endless; /* waits: without a timeout */
} operation;

typedef struct pumping {
    tpio_pump pump; /* first */
    int refs;       /* the pump itself, and those who cancel it */
    bool started, ended;
    slot *from, *to;
    uint64_t wanted;
    size_t head;
    char *memory;
} pumping;

/* What a submitter knows of an operation that may be gone. */
typedef struct ticket {
    int account, place, number;
} ticket;

static account accounts[POOLS];
static slot slots[SLOTS];
static HANDLE events[EVENTS];
static long releases[EVENTS], satisfied[EVENTS]; /* of the semaphores */
static struct {
    operation *op; /* forgotten when it completes */
    int number;
    bool submitted; /* the verb has returned: it may be cancelled */
} remembered[REMEMBERED];
static pumping *pumps[PUMPS]; /* those that may be cancelled */
static int numbers, bindings, waiting, unfinished;
static schedule_options options;
static tpio_queue queue;
static bool over; /* nobody begins anything any more */
static int acting;

static void act(void);

/* ---- operations ------------------------------------------------------------------------------------------------- */

static void op_unref(operation *op)
{
    bool last;

    sim_lock();
    sim_release(op);
    last = --op->refs == 0;
    if (last)
        sim_acquire(op);
    sim_unlock();
    if (!last)
        return;
    free(op->buffer);
    free(op);
}

static operation *op_new(void)
{
    operation *op = calloc(1, sizeof *op);

    op->refs = 1;
    op->size = sim_random(BUFFER) + 1;
    op->buffer = malloc(BUFFER + 2 * TPIO_ADDRESS_SIZE);
    memset(op->buffer, UNTOUCHED, BUFFER);
    return op;
}

static void check_result(const operation *op)
{
    DWORD error = op->op.error, bytes = op->op.bytes;
    bool reads = op->verb == TPIO_READ || op->verb == TPIO_RECV || op->verb == TPIO_RECV_FROM;

    if (op->op.verb != op->verb)
        sim_broken("an operation came back as another");
    /* Threads are slow, but not that slow: time leaps only when everybody waits. Also when it ends by a cancel: it should
     * have ended before. */
    if (op->verb == TPIO_TIMER && op->due > 0 && sim_counter() > op->due + (int64_t)(op->window + LATE) * 3580)
        sim_broken("a timer is late");
    if (op->verb == TPIO_WAIT && error == WAIT_TIMEOUT && op->endless)
        sim_broken("a wait without a timeout timed out");
    if (error == ERROR_PIPE_CONNECTED)
        sim_broken("a client that was faster is reported as an error");
    if (error != 0 && error != ERROR_MORE_DATA && !(error == WSAEMSGSIZE && reads))
        return;
    if (bytes > op->size && op->verb != TPIO_ACCEPT)
        sim_broken("more bytes than the buffer holds");
    for (DWORD i = 0; reads && i < op->size; i++)
        if ((unsigned char)op->buffer[i] != (i < bytes ? SIM_FILL : UNTOUCHED))
            sim_broken("%u bytes are reported, but byte %u says otherwise", bytes, i);
    if (op->verb == TPIO_TIMER && sim_counter() < op->due)
        sim_broken("a timer was early");
}

/* Under sim_lock. */
static void count(operation *op)
{
    account *account = &accounts[op->account];

    if (op->ended)
        sim_broken("an operation completed twice");
    op->ended = true;
    if (op->verb == TPIO_WAIT && op->op.error == 0 && op->event >= 0)
        satisfied[op->event]++;
    unfinished--;
    if (op->op.error == ERROR_OPERATION_ABORTED)
        account->cancelled++;
    else if (op->op.error == 0 || op->op.error == ERROR_MORE_DATA)
        account->completed++;
    else
        account->failed++;
}

static void forget(operation *op)
{
    for (int i = 0; i < REMEMBERED; i++)
        if (remembered[i].op == op)
            remembered[i].op = NULL;
}

/* The operation is ours again. */
static void op_ended(operation *op)
{
    check_result(op);
    sim_lock();
    count(op);
    forget(op);
    sim_unlock();
    op_unref(op);
}

static void tail_act(void)
{
    if (sim_chance(4))
        act();
}

static void tail_deliver(void)
{
    operation *next;

    for (operation *op = (operation *)tpio_queue_take(&queue); op != NULL; op = next) {
        next = (operation *)op->op.next;
        op_ended(op);
    }
}

static bool before_callback(uint64_t stamp)
{
    return stamp != 0 && stamp < sim_callback_began();
}

/* What fails because its handle, or its pool with all handles, is closed is reported as cancelled. */
static void check_closed(const operation *op)
{
    DWORD error = op->op.error;
    bool closed;

    sim_lock();
    closed = (op->slot->binding == op->binding && before_callback(op->slot->closed_at)) ||
             before_callback(accounts[op->account].closing_at);
    sim_unlock();
    if (closed && error != 0 && error != ERROR_MORE_DATA && error != ERROR_OPERATION_ABORTED)
        sim_broken("an operation of a closed handle or pool failed with %u", error);
}

static void look_at_pools(void)
{
    for (int i = 0; i < POOLS; i++) {
        account *account = &accounts[i];

        if (!tpio_pool_closing(account->pool))
            continue;
        sim_lock();
        if (account->closing_at == 0)
            account->closing_at = sim_stamp();
        sim_unlock();
    }
}

static tpio_tail_fn on_complete(tpio_op *ended)
{
    operation *op = (operation *)ended;
    tpio_thread *thread = tpio_thread_current();

    if (sim_self()->locks != 0)
        sim_broken("complete is called with a lock held");
    if (options.faults == 0 && op->verb < TPIO_TIMER && /* else the record may be younger */
        (thread->depth <= 0 || thread->pool != accounts[op->account].pool))
        sim_broken("complete is called on a thread that is not the pool's");
    if (op->slot != NULL)
        check_closed(op);
    if (sim_chance(2))
        return tpio_queue_put(&queue, ended) ? tail_deliver : NULL;
    op_ended(op);
    if (sim_chance(4))
        act();
    return sim_chance(2) ? NULL : tail_act;
}

/* Before the verb. */
static operation *op_begin(int account, slot *slot, tpio_verb verb, ticket *ticket)
{
    operation *op = op_new();

    op->op.complete = on_complete;
    op->account = account;
    op->slot = slot;
    op->binding = slot != NULL ? slot->binding : 0;
    op->verb = verb;
    sim_lock();
    accounts[account].submitted++;
    unfinished++;
    ticket->account = account;
    ticket->number = ++numbers;
    ticket->place = (int)sim_random(REMEMBERED);
    remembered[ticket->place].op = op;
    remembered[ticket->place].number = ticket->number;
    remembered[ticket->place].submitted = false;
    sim_unlock();
    return op;
}

/* After the verb: when it is pending, the operation is not ours any more and may be gone. */
static void op_submitted(operation *op, const ticket *ticket, tpio_status status)
{
    sim_lock();
    if (status == TPIO_CLOSED) {
        unfinished--;
        accounts[ticket->account].submitted--;
    } else if (status == TPIO_DONE) {
        count(op);
    } else if (remembered[ticket->place].op == op && remembered[ticket->place].number == ticket->number) {
        remembered[ticket->place].submitted = true;
        sim_release(op);
    }
    if (status != TPIO_PENDING)
        forget(op);
    sim_unlock();
    if (status == TPIO_DONE) {
        check_result(op);
        if (sim_chance(2) && tpio_op_cancel(&op->op) == TPIO_DONE)
            sim_broken("what had ended was cancelled");
    }
    if (status != TPIO_PENDING)
        op_unref(op);
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

static slot *slot_take(void)
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

static void slot_give(slot *slot, bool drop)
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

static void act_bind(void)
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

/* ---- actions ---------------------------------------------------------------------------------------------------- */

static void act_submit(void)
{
    static const tpio_verb messages[] = {TPIO_RECV,   TPIO_SEND,    TPIO_RECV_FROM,  TPIO_SEND_TO,
                                         TPIO_ACCEPT, TPIO_CONNECT, TPIO_DISCONNECT, TPIO_TRANSMIT};
    static const tpio_verb files[] = {TPIO_READ,  TPIO_READ, TPIO_WRITE, TPIO_CONNECT_PIPE,
                                      TPIO_IOCTL, TPIO_LOCK, TPIO_WATCH};
    slot *slot = slot_take();
    tpio_status status = TPIO_CLOSED;
    operation *op;
    tpio_verb verb;
    ticket ticket;

    if (slot == NULL)
        return;
    verb = slot->flags & TPIO_SOCKET ? messages[sim_random(sizeof messages / sizeof *messages)]
                                     : files[sim_random(sizeof files / sizeof *files)];
    op = op_begin(slot->account, slot, verb, &ticket);
    WSABUF list[2] = {{op->size / 2, op->buffer}, {op->size - op->size / 2, op->buffer + op->size / 2}};
    bool scatter = sim_chance(2);
    switch (verb) {
    case TPIO_READ:
        status = tpio_read(&op->op, slot->handle, op->buffer, op->size, sim_random(1000));
        break;
    case TPIO_WRITE:
        status = tpio_write(&op->op, slot->handle, op->buffer, op->size, TPIO_APPEND);
        break;
    case TPIO_RECV:
        status = scatter ? tpio_recv_list(&op->op, slot->handle, list, 2, 0)
                         : tpio_recv(&op->op, slot->handle, op->buffer, op->size, 0);
        break;
    case TPIO_SEND:
        status = scatter ? tpio_send_list(&op->op, slot->handle, list, 2, 0)
                         : tpio_send(&op->op, slot->handle, op->buffer, op->size, 0);
        break;
    case TPIO_RECV_FROM:
        status = tpio_recv_from(&op->op, slot->handle, op->buffer, op->size, 0, &op->name, sizeof op->name);
        break;
    case TPIO_SEND_TO:
        status = tpio_send_to(&op->op, slot->handle, op->buffer, op->size, 0, &op->name, sizeof op->name);
        break;
    case TPIO_CONNECT_PIPE:
        status = tpio_connect_pipe(&op->op, slot->handle);
        break;
    case TPIO_ACCEPT:
        status = tpio_accept(&op->op, slot->handle, 0, op->buffer, op->size);
        break;
    case TPIO_CONNECT:
        status = tpio_connect(&op->op, slot->handle, &op->name, sizeof op->name);
        break;
    case TPIO_DISCONNECT:
        status = tpio_disconnect(&op->op, slot->handle);
        break;
    case TPIO_TRANSMIT:
        status = tpio_transmit(&op->op, slot->handle, NULL, 0, 0);
        break;
    case TPIO_IOCTL:
        status = tpio_ioctl(&op->op, slot->handle, 1, "in", 2, op->buffer, op->size);
        break;
    case TPIO_LOCK:
        status = tpio_lock(&op->op, slot->handle, 0, 1, TRUE);
        break;
    case TPIO_WATCH:
        status = tpio_watch(&op->op, slot->handle, op->buffer, op->size, 1, FALSE);
        break;
    default:
        break;
    }
    op_submitted(op, &ticket, status);
    slot_give(slot, false);
}

static void act_sleep(void)
{
    int account = (int)sim_random(POOLS);
    ticket ticket;
    operation *op = op_begin(account, NULL, TPIO_TIMER, &ticket);
    int64_t nanoseconds = sim_chance(8) ? INT64_MAX >> sim_random(3) : (int64_t)sim_random(60000) - 1000;

    op->window = sim_chance(3) ? sim_random(3) * 1000 : 0;
    op->due = sim_counter() + (nanoseconds > 0 ? nanoseconds / 1000000 * 3579 : 0);
    op_submitted(op, &ticket, tpio_sleep(&op->op, accounts[account].pool, nanoseconds, op->window));
}

static void act_work(void)
{
    int account = (int)sim_random(POOLS);
    ticket ticket;
    operation *op = op_begin(account, NULL, TPIO_WORK, &ticket);

    op_submitted(op, &ticket, tpio_work(&op->op, accounts[account].pool));
}

static void act_wait(void)
{
    int account = (int)sim_random(POOLS);
    ticket ticket;
    operation *op = op_begin(account, NULL, TPIO_WAIT, &ticket);
    bool mine = sim_chance(3);
    int place = (int)sim_random(EVENTS);
    HANDLE event = mine ? sim_event_open() : sim_chance(10) ? SIM_BAD_HANDLE : events[place];
    DWORD milliseconds = sim_chance(2) ? INFINITE : sim_random(3);

    op->event = mine ? -1 : place;
    op->endless = milliseconds == INFINITE;
    op_submitted(op, &ticket, tpio_wait(&op->op, accounts[account].pool, event, milliseconds));
    if (!mine)
        return;
    if (sim_chance(2))
        sim_event_set(event);
    CloseHandle(event); /* tpio has a duplicate */
}

static void act_signal(void)
{
    int place = (int)sim_random(EVENTS);

    for (uint32_t i = sim_random(3) + 1; i != 0; i--) {
        sim_lock();
        releases[place]++;
        sim_unlock();
        sim_event_set(events[place]);
    }
}

static void act_cancel_op(void)
{
    int place = (int)sim_random(REMEMBERED);
    slot *slot = NULL;
    operation *op;
    tpio_status status;

    sim_lock();
    op = remembered[place].submitted ? remembered[place].op : NULL;
    /* The rule: the operation and its handle stay alive over the call. */
    if (op != NULL && op->slot != NULL) {
        slot = op->slot;
        if (slot->handle == NULL || slot->dropped || slot->binding != op->binding) {
            op = NULL;
            slot = NULL;
        } else {
            slot->users++;
            sim_acquire(slot);
        }
    }
    if (op != NULL) {
        op->refs++;
        sim_acquire(op);
    }
    sim_unlock();
    if (op == NULL)
        return;
    status = tpio_op_cancel(&op->op);
    if (status == TPIO_DONE) {
        if ((op->verb != TPIO_TIMER && op->verb != TPIO_WORK) || op->op.error != ERROR_OPERATION_ABORTED)
            sim_broken("cancelled here and now, but how?");
        sim_lock();
        count(op);
        forget(op);
        op->refs--; /* it is ours again: the system's reference */
        sim_unlock();
    }
    op_unref(op);
    if (slot != NULL)
        slot_give(slot, false);
}

/* ---- pumps ------------------------------------------------------------------------------------------------------ */

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

static tpio_tail_fn on_pumped(tpio_pump *pump)
{
    pumping *over = (pumping *)pump;
    bool again;

    if (sim_self()->locks != 0)
        sim_broken("a pump completes with a lock held");
    check_pump(over);
    sim_lock();
    again = over->ended;
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

static void act_pump(void)
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

static void act_cancel_pump(void)
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

/* ---- more actions ----------------------------------------------------------------------------------------------- */

static void act_handle(void)
{
    slot *slot = slot_take();
    bool drop = false;

    if (slot == NULL)
        return;
    switch (sim_random(6)) {
    case 0:
    case 1:
        tpio_handle_cancel(slot->handle);
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

static void act_pool(void)
{
    account *account = &accounts[sim_random(POOLS)];
    tpio_pool_stats stats;

    switch (sim_random(6)) {
    case 0:
        if (sim_chance(3))
            tpio_pool_close(account->pool);
        break;
    case 1:
        tpio_pool_cancel_work(account->pool);
        break;
    case 2:
        if (sim_self()->instance == NULL)
            tpio_pool_drain(account->pool, sim_random(2));
        break;
    default:
        tpio_pool_get_stats(account->pool, &stats);
        if (stats.pending < 0 || stats.handles < 0 || stats.threads < 0)
            sim_broken("counts below zero: %ld pending, %d handles, %d threads", (long)stats.pending, stats.handles,
                       stats.threads);
    }
}

static bool never(void *argument)
{
    (void)argument;
    return false;
}

static void act_rest(void)
{
    if (sim_self()->instance != NULL || sim_self()->depth != 1)
        return; /* completions are to be brief */
    sim_lock();
    sim_block(never, NULL, sim_now() + sim_random(REST));
    sim_unlock();
}

static void act(void)
{
    sim_thread *self = sim_self();

    sim_lock();
    if (over || self->depth == 3) { /* in a completion, in an action, in a completion ... */
        sim_unlock();
        return;
    }
    acting += self->depth++ == 0;
    sim_unlock();
    look_at_pools();
    switch (sim_random(options.pumps ? 23 : 20)) {
    case 0:
    case 1:
    case 2:
        act_bind();
        break;
    case 3:
        act_sleep();
        break;
    case 4:
        act_work();
        break;
    case 5:
        act_wait();
        break;
    case 6:
        act_signal();
        if (sim_chance(2)) /* what has just been satisfied may lose to its cancel */
            act_cancel_op();
        break;
    case 7:
    case 8:
    case 9:
        act_cancel_op();
        break;
    case 10:
    case 11:
        act_handle();
        break;
    case 12:
        act_pool();
        break;
    case 13:
        act_rest();
        break;
    case 20:
    case 21:
        act_pump();
        break;
    case 22:
        act_cancel_pump();
        break;
    default:
        act_submit();
    }
    sim_lock();
    acting -= --self->depth == 0;
    sim_release(&waiting);
    sim_unlock();
}

/* ---- the schedule ----------------------------------------------------------------------------------------------- */

static void run_thread(void *argument)
{
    (void)argument;
    for (int i = 0; i < options.steps; i++)
        act();
    sim_thread_ends();
    sim_lock();
    waiting--;
    sim_release(&waiting);
    sim_unlock();
}

static bool threads_ended(void *argument)
{
    (void)argument;
    return waiting == 0;
}

static bool nobody_acts(void *argument)
{
    (void)argument;
    return acting == 0;
}

static bool pool_threads_ended(void *argument)
{
    (void)argument;
    return sim_workers() == 0;
}

static void wait_until(sim_predicate ready)
{
    sim_lock();
    sim_block(ready, NULL, SIM_FOREVER);
    sim_acquire(&waiting); /* as a join of the threads would */
    sim_unlock();
}

static void check_drained(int i)
{
    tpio_pool_stats stats;

    tpio_pool_get_stats(accounts[i].pool, &stats);
    if (stats.pending != 0 || stats.handles != 0)
        sim_broken("left in pool %d: %ld pending, %d handles", i, (long)stats.pending, stats.handles);
}

static void check_account(int i)
{
    account *account = &accounts[i];
    tpio_pool_stats stats;

    tpio_pool_get_stats(account->pool, &stats);
    if (stats.pending != 0 || stats.handles != 0 || stats.threads != 0)
        sim_broken("left in pool %d: %ld pending, %d handles, %d threads", i, (long)stats.pending, stats.handles,
                   stats.threads);
    if (account->pumped) {
        account->submitted = stats.completed + stats.cancelled + stats.failed;
        if (stats.completed < account->completed || stats.cancelled < account->cancelled ||
            stats.failed < account->failed)
            sim_broken("pool %d has lost operations", i);
        account->completed = stats.completed;
        account->cancelled = stats.cancelled;
        account->failed = stats.failed;
    }
    if (stats.submitted != account->submitted || stats.completed != account->completed ||
        stats.cancelled != account->cancelled || stats.failed != account->failed)
        sim_broken("pool %d counts %ld submitted, %ld completed, %ld cancelled, %ld failed; true are %ld, %ld, %ld, %ld", i,
                   (long)stats.submitted, (long)stats.completed, (long)stats.cancelled, (long)stats.failed,
                   account->submitted, account->completed, account->cancelled, account->failed);
}

static void run_main(void *argument)
{
    bool hasty;

    (void)argument;
    sim_self()->depth = 1; /* what completes here is inside an action too */
    for (int i = 0; i < POOLS; i++) {
        tpio_pool_options chosen = {.min_threads = 1, .max_threads = sim_random(3), .runs_long = i};

        memset(&accounts[i], 0, sizeof accounts[i]);
        while (tpio_pool_create(&chosen, &accounts[i].pool) != 0)
            ;
    }
    for (int i = 0; i < EVENTS; i++)
        events[i] = i == 0 ? sim_event_open() : sim_semaphore_open();
    waiting = options.threads;
    for (int i = 0; i < options.threads; i++) {
        static const char *const names[] = {"A", "B", "C", "D"};

        sim_spawn(names[i % 4], run_thread, NULL);
    }
    wait_until(threads_ended);
    hasty = sim_chance(2);
    if (hasty) {
        over = true;
        wait_until(nobody_acts);
    }
    for (int i = 0; i < POOLS; i++)
        tpio_pool_close(accounts[i].pool);
    for (int i = 0; i < POOLS; i++) {
        if (!tpio_pool_drain(accounts[i].pool, INFINITE))
            sim_broken("an endless drain has ended");
        if (hasty) { /* what is left of the pool must do without us */
            check_drained(i);
            tpio_pool_unref(accounts[i].pool);
        }
    }
    wait_until(pool_threads_ended);
    if (unfinished != 0)
        sim_broken("%d operations never completed", unfinished);
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
    for (int i = 0; i < EVENTS; i++) {
        if (i != 0 && releases[i] != satisfied[i] + sim_semaphore_count(events[i]))
            sim_broken("a semaphore was released %ld times, %ld waits succeeded, %d are left", releases[i],
                       satisfied[i], sim_semaphore_count(events[i]));
        CloseHandle(events[i]);
    }
    sim_thread_ends();
    for (int i = 0; i < POOLS && !hasty; i++) {
        check_account(i);
        tpio_pool_unref(accounts[i].pool);
    }
}

void schedule_run(uint64_t seed, const schedule_options *wanted)
{
    static bool initialized;
    uint64_t state = sim_first_state(seed ^ 0x5EED);

    options = *wanted;
    if (options.threads == 0)
        options.threads = 1 + (int)(sim_next_random(&state) % 4);
    if (options.steps == 0)
        options.steps = 4 + (int)(sim_next_random(&state) % 40);
    options.pumps = sim_next_random(&state) % 3 == 0;
    if (options.faults < 0)
        options.faults = sim_next_random(&state) % 2 ? 0 : 12;
    memset(slots, 0, sizeof slots);
    memset(remembered, 0, sizeof remembered);
    memset(pumps, 0, sizeof pumps);
    memset(releases, 0, sizeof releases);
    memset(satisfied, 0, sizeof satisfied);
    numbers = bindings = unfinished = 0;
    memset(&queue, 0, sizeof queue);
    over = false;
    if (!initialized)
        tpio_init();
    initialized = true;
    sim_begin((uint32_t)options.faults);
    sim_run(seed, run_main, NULL);
    sim_end();
}
