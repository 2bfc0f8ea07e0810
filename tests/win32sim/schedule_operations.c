/* schedule_operations.c: what the random program submits, cancels and gets back, and the accounts that it keeps of it. */
#include "schedule_program.h"

#include <stdlib.h>
#include <string.h>

#define EVENTS 3      /* the first an event that stays set, the others semaphores */
#define SOCKETS 2     /* that are bound nowhere, to be polled */
#define REMEMBERED 12 /* operations that somebody may want to cancel */
#define LATE 100      /* ms */
#ifdef SIM_FREE
#undef LATE
#define LATE 100000 /* time is real, and so is the load of the machine */
#endif

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
    HANDLE socket; /* polls through a device: of which; NULL: through its own handle */
    ULONG events;
} operation;

/* What a submitter knows of an operation that may be gone. */
typedef struct ticket {
    int account, place, number;
} ticket;

static HANDLE events[EVENTS];
static HANDLE sockets[SOCKETS];
static long releases[EVENTS], satisfied[EVENTS]; /* of the semaphores */
static struct {
    operation *op; /* forgotten when it completes */
    int number;
    bool submitted; /* the verb has returned: it may be cancelled */
} remembered[REMEMBERED];
static int numbers;
static tpio_queue queue;

/* ---- their life ------------------------------------------------------------------------------------------------- */

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
    if (op->verb == TPIO_POLL && (error != 0 ? bytes != 0 : (bytes & ~(op->events | TPIO_POLL_LOCAL_CLOSE)) != 0))
        sim_broken("events %x of a poll for %x, error %u", bytes, op->events, error);
    if (op->verb == TPIO_POLL && error == ERROR_SHUTDOWN_IN_PROGRESS)
        sim_broken("that the pool is closed is reported as an error of a poll");
    if (error != 0 && error != ERROR_MORE_DATA && !(error == WSAEMSGSIZE && reads))
        return;
    if (bytes > op->size && op->verb != TPIO_ACCEPT && op->verb != TPIO_POLL)
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
    closed = (op->slot != NULL && op->slot->binding == op->binding && before_callback(op->slot->closed_at)) ||
             before_callback(accounts[op->account].closing_at);
    sim_unlock();
    if (closed && error != 0 && error != ERROR_MORE_DATA && error != ERROR_OPERATION_ABORTED)
        sim_broken("an operation of a closed handle or pool failed with %u", error);
}

static ULONG random_interest(void)
{
    static const ULONG interests[] = {TPIO_POLL_READABLE, TPIO_POLL_WRITABLE, TPIO_POLL_READABLE | TPIO_POLL_WRITABLE};

    return interests[sim_random(3)];
}

/* The way of a loop: the interest has changed, or the socket is still of interest, and the same operation is submitted
 * anew from its completion. Not while somebody cancels it. FALSE: it is over. */
static bool poll_again(operation *op)
{
    int account = op->account;
    tpio_status status;
    bool mine;

    check_result(op);
    sim_lock();
    forget(op);
    mine = op->refs == 1;
    if (mine) {
        count(op);
        op->ended = false;
        accounts[account].submitted++;
        unfinished++;
    }
    sim_unlock();
    if (!mine)
        return false;
    sim_acquire(op);
    op->events = random_interest();
    status = tpio_poll(&op->op, accounts[account].pool, op->socket, op->events);
    if (status == TPIO_PENDING)
        return true;
    if (status == TPIO_DONE)
        check_result(op);
    sim_lock();
    if (status == TPIO_DONE) {
        count(op);
    } else {
        unfinished--;
        accounts[account].submitted--;
    }
    sim_unlock();
    op_unref(op);
    return true;
}

static tpio_tail_fn on_complete(tpio_op *ended)
{
    operation *op = (operation *)ended;
    tpio_thread *thread = tpio_thread_current();
    bool again;

    if (sim_self()->locks != 0)
        sim_broken("complete is called with a lock held");
    if (options.faults == 0 && op->verb < TPIO_TIMER && /* else the record may be younger */
        (thread->depth <= 0 || thread->pool != accounts[op->account].pool))
        sim_broken("complete is called on a thread that is not the pool's");
    if (op->verb < TPIO_TIMER)
        check_closed(op);
    if (op->socket != NULL && sim_chance(3) && act_begin()) {
        again = poll_again(op);
        act_end();
        if (again)
            return NULL;
    }
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

/* ---- actions ---------------------------------------------------------------------------------------------------- */

void act_submit(void)
{
    static const tpio_verb messages[] = {TPIO_RECV,   TPIO_SEND,    TPIO_RECV_FROM,  TPIO_SEND_TO,
                                         TPIO_ACCEPT, TPIO_CONNECT, TPIO_DISCONNECT, TPIO_TRANSMIT,
                                         TPIO_POLL};
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
    case TPIO_POLL:
        op->events = random_interest();
        status = tpio_poll_handle(&op->op, slot->handle, op->events);
        break;
    case TPIO_TRANSMIT:
        status = tpio_transmit(&op->op, slot->handle, NULL, 0, 0);
        break;
    case TPIO_IOCTL:
        status = tpio_ioctl(&op->op, slot->handle, 1, "in", 2, op->buffer, op->size);
        break;
    case TPIO_LOCK:
        status = tpio_lock(&op->op, slot->handle, UINT64_MAX - sim_random(2), 1 + sim_random(2), TRUE);
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

void act_sleep(void)
{
    int account = (int)sim_random(POOLS);
    ticket ticket;
    operation *op = op_begin(account, NULL, TPIO_TIMER, &ticket);
    int64_t nanoseconds = sim_chance(8) ? INT64_MAX >> sim_random(3) : (int64_t)sim_random(60000) - 1000;

    op->window = sim_chance(3) ? sim_random(3) * 1000 : 0;
    op->due = sim_counter() + (nanoseconds > 0 ? nanoseconds / 1000000 * 3579 : 0);
    op_submitted(op, &ticket, tpio_sleep(&op->op, accounts[account].pool, nanoseconds, op->window));
}

void act_work(void)
{
    int account = (int)sim_random(POOLS);
    ticket ticket;
    operation *op = op_begin(account, NULL, TPIO_WORK, &ticket);

    op_submitted(op, &ticket, tpio_work(&op->op, accounts[account].pool));
}

void act_wait(void)
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

/* Of a socket that is bound nowhere, through a device of the pool's. */
void act_poll(void)
{
    int account = (int)sim_random(POOLS);
    bool mine = sim_chance(3);
    HANDLE socket = mine ? sim_file_open(0) : sockets[sim_random(SOCKETS)], base;
    ticket ticket;
    operation *op;

    if (tpio_socket_base((SOCKET)socket, &base) == 0 && base != socket)
        sim_broken("another base handle");
    op = op_begin(account, NULL, TPIO_POLL, &ticket);
    op->events = random_interest();
    op->socket = mine ? NULL : socket; /* one that is closed is not polled again */
    op_submitted(op, &ticket, tpio_poll(&op->op, accounts[account].pool, socket, op->events));
    if (mine)
        CloseHandle(socket); /* under the poll */
}

void act_signal(void)
{
    int place = (int)sim_random(EVENTS);

    for (uint32_t i = sim_random(3) + 1; i != 0; i--) {
        sim_lock();
        releases[place]++;
        sim_unlock();
        sim_event_set(events[place]);
    }
}

void act_cancel_op(void)
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

/* ---- begin and end of a schedule -------------------------------------------------------------------------------- */

void operations_reset(void)
{
    memset(remembered, 0, sizeof remembered);
    memset(releases, 0, sizeof releases);
    memset(satisfied, 0, sizeof satisfied);
    memset(&queue, 0, sizeof queue);
    numbers = 0;
}

void events_open(void)
{
    for (int i = 0; i < EVENTS; i++)
        events[i] = i == 0 ? sim_event_open() : sim_semaphore_open();
    for (int i = 0; i < SOCKETS; i++)
        sockets[i] = sim_file_open(0);
}

void events_close(void)
{
    for (int i = 0; i < SOCKETS; i++)
        CloseHandle(sockets[i]);
    for (int i = 0; i < EVENTS; i++) {
        if (i != 0 && releases[i] != satisfied[i] + sim_semaphore_count(events[i]))
            sim_broken("a semaphore was released %ld times, %ld waits succeeded, %d are left", releases[i],
                       satisfied[i], sim_semaphore_count(events[i]));
        CloseHandle(events[i]);
    }
}
