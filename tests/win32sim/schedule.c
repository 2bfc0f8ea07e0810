/* schedule.c: one random schedule, a program that does everything that tpio allows from several threads at once.
 *
 * The program keeps tpio's rules and no others: it frees an operation the moment that it gets it back, closes a handle
 * that it has been given back at once, drops what it does not need any more, and keeps accounts of all that it submits.
 */
#include "schedule_program.h"

#include "../../src/tpio_internal.h"

#include <string.h>

#ifdef SIM_FREE
#define REST 5000 /* at most, in units of 100 ns */
#else
#define REST 20000000
#endif

schedule_options options;
account accounts[POOLS];
int unfinished;
static int waiting, acting;
static bool over; /* nobody begins anything any more */

/* ---- actions ---------------------------------------------------------------------------------------------------- */

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

static void close_pool(account *account)
{
    sim_lock();
    account->closing = true;
    sim_unlock();
    tpio_pool_close(account->pool);
}

static void act_pool(void)
{
    account *account = &accounts[sim_random(POOLS)];
    tpio_pool_stats stats;

    switch (sim_random(6)) {
    case 0:
        if (sim_chance(3))
            close_pool(account);
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

bool act_begin(void)
{
    sim_thread *self = sim_self();
    bool may;

    sim_lock();
    may = !over && self->depth != 3; /* in a completion, in an action, in a completion ... */
    if (may)
        acting += self->depth++ == 0;
    sim_unlock();
    return may;
}

void act_end(void)
{
    sim_lock();
    acting -= --sim_self()->depth == 0;
    sim_release(&waiting);
    sim_unlock();
}

void act(void)
{
    if (!act_begin())
        return;
    look_at_pools();
    switch (sim_random(options.pumps ? 25 : 22)) {
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
        act_poll();
        break;
    case 22:
    case 23:
        act_pump();
        break;
    case 24:
        act_cancel_pump();
        break;
    default:
        act_submit();
    }
    act_end();
}

void tail_act(void)
{
    if (sim_chance(4))
        act();
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

static void check_devices(tpio_pool *pool)
{
    int all = 0, free = 0;

    for (tpio_device *device = pool->polls.devices; device != NULL; device = device->next, all++)
        if (device->polls != 0)
            sim_broken("%d polls are left on a device", (int)device->polls);
    for (tpio_device *device = pool->polls.free; device != NULL && free <= all; device = device->next_free)
        free++;
    if (free != all)
        sim_broken("%d devices, of which %d are listed as having room", all, free);
}

static void check_drained(int i)
{
    tpio_pool_stats stats;

    tpio_pool_get_stats(accounts[i].pool, &stats);
    if (stats.pending != 0 || stats.handles != 0)
        sim_broken("left in pool %d: %ld pending, %d handles", i, (long)stats.pending, stats.handles);
    check_devices(accounts[i].pool);
}

static void check_account(int i)
{
    account *account = &accounts[i];
    tpio_pool_stats stats;

    tpio_pool_get_stats(account->pool, &stats);
    if (stats.pending != 0 || stats.handles != 0 || stats.threads != 0)
        sim_broken("left in pool %d: %ld pending, %d handles, %d threads", i, (long)stats.pending, stats.handles,
                   stats.threads);
    check_devices(account->pool);
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
    events_open();
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
        close_pool(&accounts[i]);
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
    handles_drop();
    events_close();
    sim_thread_ends();
    for (int i = 0; i < POOLS && !hasty; i++) {
        check_account(i);
        tpio_pool_unref(accounts[i].pool);
    }
}

/* The core asks for winsock's extensions once in a process. A seed is to mean the same alone and behind others: so the first
 * of a batch, and no other, begins without them. */
static void find_extensions(void *argument)
{
    static const tpio_verb verbs[] = {TPIO_ACCEPT, TPIO_CONNECT, TPIO_DISCONNECT, TPIO_TRANSMIT};
    HANDLE socket = sim_file_open(0);

    (void)argument;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        tpio__extension_find(verbs[i], (SOCKET)socket);
    CloseHandle(socket);
    sim_thread_ends();
}

void schedule_run(uint64_t seed, const schedule_options *wanted)
{
    static bool initialized, extended;
    uint64_t state = sim_first_state(seed ^ 0x5EED);

    options = *wanted;
    if (options.threads == 0)
        options.threads = 1 + (int)(sim_next_random(&state) % 4);
    if (options.steps == 0)
        options.steps = 4 + (int)(sim_next_random(&state) % 40);
    options.pumps = sim_next_random(&state) % 3 == 0;
    if (options.faults < 0)
        options.faults = sim_next_random(&state) % 2 ? 0 : 12;
    handles_reset();
    operations_reset();
    pumps_reset();
    unfinished = 0;
    over = false;
    if (!initialized)
        tpio_init();
    initialized = true;
    if (!extended && seed % SCHEDULE_BATCH != 1) {
        sim_begin(0);
        sim_run(0, find_extensions, NULL);
        sim_end();
        extended = true;
    }
    sim_begin((uint32_t)options.faults);
    sim_run(seed, run_main, NULL);
    sim_end();
}
