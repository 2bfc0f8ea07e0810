/* Pools and their threads, I/O bindings, timers, work, waits.
 *
 * Objects stay in memory, marked closed, until the schedule ends: a use after the close is reported as what it is.
 */
#include "win32sim.h"

#include <stdlib.h>

#define EARLY 40 /* a timer may be that many units of 100 ns too soon by the performance counter */

typedef enum kind { IO, TIMER, WORK, WAIT } kind;
static const char *const names[] = {"I/O", "timer", "work", "wait"};

struct sim_tp {
    struct sim_tp *all;
    kind kind;
    PTP_POOL pool;
    union {
        PTP_WIN32_IO_CALLBACK io;
        PTP_TIMER_CALLBACK timer;
        PTP_WORK_CALLBACK work;
        PTP_WAIT_CALLBACK wait;
    } callback;
    void *context;
    bool closed;
    bool used;      /* a callback may have been queued since the last WaitForThreadpool...Callbacks */
    int queued;     /* callbacks that wait for a thread */
    int running;    /* callbacks that run and are associated */
    int expected;   /* I/O: started and neither called back nor taken back */
    bool set;       /* timer, wait */
    uint64_t due;   /* timer, wait */
    HANDLE watched; /* wait */
    sim_object *object;
};

typedef struct item {
    struct item *next;
    PTP_IO object;
    void *overlapped;
    DWORD result, bytes;
} item;

struct sim_pool {
    struct sim_pool *all;
    bool closed;
    int objects, threads, idle, ready, sent_home;
    int most;
    item *items;
};

struct sim_instance {
    struct sim_tp *object;
    bool associated;
    uint64_t began;
};

static struct sim_pool *pools;
static struct sim_tp *objects;
static int workers;
static uint64_t stamps;

uint64_t sim_stamp(void)
{
    return __atomic_add_fetch(&stamps, 1, __ATOMIC_RELAXED);
}

uint64_t sim_callback_began(void)
{
    return sim_self()->instance != NULL ? sim_self()->instance->began : 0;
}

int sim_workers(void)
{
    sim_acquire(&workers);
    return __atomic_load_n(&workers, __ATOMIC_ACQUIRE);
}

void sim_pool_end(void)
{
    while (objects != NULL) {
        struct sim_tp *object = objects;

        if (!object->closed)
            sim_broken("a thread pool object leaked (%s)", names[object->kind]);
        objects = object->all;
        own_free(object);
    }
    while (pools != NULL) {
        struct sim_pool *pool = pools;

        if (!pool->closed)
            sim_broken("a thread pool leaked");
        pools = pool->all;
        own_free(pool);
    }
}

/* ---- pools ------------------------------------------------------------------------------------------------------ */

PTP_POOL CreateThreadpool(PVOID reserved)
{
    struct sim_pool *pool;

    (void)reserved;
    sim_call("CreateThreadpool");
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return NULL;
    pool = own_calloc(1, sizeof *pool);
    sim_lock();
    pool->most = 4;
    pool->all = pools;
    pools = pool;
    sim_unlock();
    return pool;
}

static void require_pool(const struct sim_pool *pool, const char *call)
{
    if (pool->closed)
        sim_broken("%s on a pool that is closed", call);
}

void CloseThreadpool(PTP_POOL pool)
{
    sim_call("CloseThreadpool");
    sim_lock();
    require_pool(pool, "CloseThreadpool");
    if (pool->objects != 0)
        sim_broken("a pool is closed with %d objects in it", pool->objects);
    pool->closed = true;
    sim_unlock();
}

void SetThreadpoolThreadMaximum(PTP_POOL pool, DWORD most)
{
    require_pool(pool, "SetThreadpoolThreadMaximum");
    pool->most = most < 4 ? (int)most : 4;
}

BOOL SetThreadpoolThreadMinimum(PTP_POOL pool, DWORD least)
{
    (void)least;
    require_pool(pool, "SetThreadpoolThreadMinimum");
    return !sim_fault(ERROR_NOT_ENOUGH_MEMORY);
}

void InitializeThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_)
{
    environ_->Pool = NULL;
}

void DestroyThreadpoolEnvironment(TP_CALLBACK_ENVIRON *environ_)
{
    environ_->Pool = NULL;
}

void SetThreadpoolCallbackPool(TP_CALLBACK_ENVIRON *environ_, PTP_POOL pool)
{
    environ_->Pool = pool;
}

void SetThreadpoolCallbackPriority(TP_CALLBACK_ENVIRON *environ_, TP_CALLBACK_PRIORITY priority)
{
    environ_->CallbackPriority = priority;
}

void SetThreadpoolCallbackRunsLong(TP_CALLBACK_ENVIRON *environ_)
{
    (void)environ_;
}

static struct sim_tp *new_object(kind kind, void *context, TP_CALLBACK_ENVIRON *environ_)
{
    struct sim_tp *object;

    sim_call(names[kind]);
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return NULL;
    object = own_calloc(1, sizeof *object);
    object->kind = kind;
    object->context = context;
    object->pool = environ_->Pool;
    sim_lock();
    require_pool(object->pool, "CreateThreadpool...");
    object->pool->objects++;
    object->all = objects;
    objects = object;
    sim_release(object);
    sim_unlock();
    return object;
}

static void require(const struct sim_tp *object, kind kind, const char *call)
{
    if (object->closed)
        sim_broken("%s on a %s object that is closed", call, names[object->kind]);
    if (object->kind != kind)
        sim_broken("%s on a %s object", call, names[object->kind]);
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

static void put_item(struct sim_tp *object, void *overlapped, DWORD result, DWORD bytes)
{
    item *new = own_calloc(1, sizeof *new);

    new->object = object;
    new->overlapped = overlapped;
    new->result = result;
    new->bytes = bytes;
    new->next = object->pool->items;
    object->pool->items = new;
    object->pool->ready++;
    object->queued++;
    object->used = true;
}

/* Any of those that are ready: two threads may be overtaken by each other in any way. */
static item take_item(struct sim_pool *pool)
{
    item **at = &pool->items, *one, taken;

    for (uint32_t i = sim_random((uint32_t)pool->ready); i != 0; i--)
        at = &(*at)->next;
    one = *at;
    *at = one->next;
    taken = *one;
    own_free(one);
    pool->ready--;
    taken.object->queued--;
    return taken;
}

static void dissociate(struct sim_instance *instance)
{
    if (!instance->associated)
        return;
    sim_release(instance->object);
    instance->associated = false;
    instance->object->running--;
}

static void run_item(const item *one)
{
    struct sim_tp *object = one->object;
    struct sim_instance instance = {.object = object, .associated = true, .began = sim_stamp()};
    sim_thread *self = sim_self();

    sim_trace("callback of %s object %p", names[object->kind], (void *)object);
    self->instance = &instance;
    sim_unlock();
    sim_yield();
    switch (object->kind) {
    case IO:
        object->callback.io(&instance, object->context, one->overlapped, one->result, one->bytes, object);
        break;
    case TIMER:
        object->callback.timer(&instance, object->context, object);
        break;
    case WORK:
        object->callback.work(&instance, object->context, object);
        break;
    case WAIT:
        object->callback.wait(&instance, object->context, object, one->result);
        break;
    }
    sim_trace("callback ends");
    sim_yield();
    sim_lock();
    self->instance = NULL;
    dissociate(&instance);
    if (self->locks != 0)
        sim_broken("a callback ended with a lock held");
    if (self->started != NULL || self->owed != NULL)
        sim_broken("a callback ended between StartThreadpoolIo and what must follow it");
}

static bool has_work(void *pool)
{
    return ((struct sim_pool *)pool)->ready != 0 || ((struct sim_pool *)pool)->sent_home != 0;
}

static void work(void *argument)
{
    struct sim_pool *pool = argument;

    sim_lock();
    for (;;) {
        pool->idle++;
        sim_block(has_work, pool, SIM_FOREVER);
        pool->idle--;
        if (pool->ready == 0) {
            pool->sent_home--;
            break;
        }
        item one = take_item(pool);
        if (one.object->closed)
            sim_broken("a callback of a %s object that is closed", names[one.object->kind]);
        one.object->running++;
        sim_acquire(one.object);
        if (one.object->kind == IO) {
            one.object->expected--;
            sim_acquire(one.overlapped);
        }
        run_item(&one);
    }
    pool->threads--;
    sim_unlock();
    sim_thread_ends();
    sim_release(&workers);
    __atomic_sub_fetch(&workers, 1, __ATOMIC_RELEASE);
}

static void queue_wait(struct sim_tp *wait, DWORD result)
{
    wait->set = false;
    sim_handle_watch(wait->watched, -1);
    sim_object_unref(wait->object);
    put_item(wait, NULL, result, 0);
}

/* A timer or a wait fires, a thread comes or goes. */
bool sim_pool_outside(bool quiet)
{
    uint64_t now = sim_now();

    for (struct sim_tp *object = objects; object != NULL; object = object->all) {
        if (!object->set)
            continue;
        if (object->kind == TIMER && now + sim_random(EARLY) >= object->due) {
            object->set = false;
            put_item(object, NULL, 0, 0);
            return true;
        }
        if (object->kind == WAIT && sim_object_signalled(object->object) && (quiet || sim_chance(2))) {
            sim_object_take(object->object); /* whether or not somebody hears of it */
            queue_wait(object, WAIT_OBJECT_0);
            return true;
        }
        if (object->kind == WAIT && now >= object->due) {
            queue_wait(object, WAIT_TIMEOUT);
            return true;
        }
    }
    for (struct sim_pool *pool = pools; pool != NULL; pool = pool->all) {
        if (pool->ready > pool->idle && pool->threads < pool->most) {
            pool->threads++;
            __atomic_add_fetch(&workers, 1, __ATOMIC_RELAXED);
            sim_spawn("pool", work, pool);
            return true;
        }
        if (pool->ready == 0 && pool->idle > pool->sent_home && (quiet || sim_chance(8))) {
            pool->sent_home++;
            return true;
        }
    }
    return false;
}

uint64_t sim_pool_deadline(void)
{
    uint64_t next = SIM_FOREVER;

    for (struct sim_tp *object = objects; object != NULL; object = object->all)
        if (object->set && object->due < next)
            next = object->due;
    return next;
}

void DisassociateCurrentThreadFromCallback(PTP_CALLBACK_INSTANCE instance)
{
    sim_call("DisassociateCurrentThreadFromCallback");
    sim_lock();
    if (sim_self()->instance != instance)
        sim_broken("DisassociateCurrentThreadFromCallback for another thread's callback");
    dissociate(instance);
    sim_unlock();
    sim_yield();
}

BOOL CallbackMayRunLong(PTP_CALLBACK_INSTANCE instance)
{
    sim_call("CallbackMayRunLong");
    if (sim_self()->instance != instance)
        sim_broken("CallbackMayRunLong for another thread's callback");
    return sim_chance(2); /* whether another thread is to be had */
}

/* ---- what all objects have in common ---------------------------------------------------------------------------- */

static bool no_callbacks(void *argument)
{
    const struct sim_tp *object = argument;

    return object->queued == 0 && object->running == 0;
}

static void wait_for_callbacks(struct sim_tp *object, kind kind, BOOL cancel)
{
    sim_thread *self = sim_self();

    sim_call("WaitForThreadpool...Callbacks");
    sim_trace("    of %s object %p", names[kind], (void *)object);
    sim_lock();
    require(object, kind, "WaitForThreadpool...Callbacks");
    if (self->instance != NULL && self->instance->associated && self->instance->object == object)
        sim_broken("a %s callback waits for its own end: deadlock", names[kind]);
    if (self->locks != 0)
        sim_broken("callbacks are waited for with a lock held");
    if (cancel && kind == IO)
        sim_broken("completions are dropped: WaitForThreadpoolIoCallbacks(..., TRUE)");
    if (cancel) {
        item **at = &object->pool->items;

        while (*at != NULL) {
            item *one = *at;

            if (one->object != object) {
                at = &one->next;
                continue;
            }
            *at = one->next;
            own_free(one);
            object->queued--;
            object->pool->ready--;
        }
    }
    sim_block(no_callbacks, object, SIM_FOREVER);
    object->used = object->set;
    sim_acquire(object);
    sim_unlock();
    sim_yield();
}

static void close_object(struct sim_tp *object, kind kind)
{
    sim_call("CloseThreadpool...");
    sim_trace("    %s object %p", names[kind], (void *)object);
    sim_lock();
    require(object, kind, "CloseThreadpool...");
    if (object->expected != 0)
        sim_broken("CloseThreadpoolIo with %d operations in flight", object->expected);
    if (object->queued != 0 || object->running != 0)
        sim_broken("a %s object is closed with %d callbacks queued and %d running", names[kind], object->queued,
                   object->running);
    if (object->used)
        sim_broken("a %s object is closed without a wait for its callbacks", names[kind]);
    if (object->set)
        sim_broken("a %s object is closed while it is set", names[kind]);
    object->closed = true;
    object->pool->objects--;
    if (object->object != NULL && kind == IO)
        sim_object_unref(object->object);
    sim_unlock();
}

/* ---- I/O -------------------------------------------------------------------------------------------------------- */

PTP_IO CreateThreadpoolIo(HANDLE file, PTP_WIN32_IO_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_)
{
    struct sim_tp *io = new_object(IO, context, environ_);

    if (io == NULL)
        return NULL;
    sim_lock();
    io->callback.io = callback;
    io->object = sim_file_bind(file, io);
    if (io->object == NULL) {
        io->closed = true;
        io->pool->objects--;
        io = NULL;
    } else {
        sim_object_ref(io->object);
    }
    sim_unlock();
    return io;
}

void StartThreadpoolIo(PTP_IO io)
{
    sim_thread *self = sim_self();

    sim_call("StartThreadpoolIo");
    sim_lock();
    require(io, IO, "StartThreadpoolIo");
    if (self->owed != NULL)
        sim_broken("StartThreadpoolIo, but an earlier call had failed and CancelThreadpoolIo was not called");
    io->expected++;
    self->started = io;
    sim_unlock();
}

void CancelThreadpoolIo(PTP_IO io)
{
    sim_thread *self = sim_self();

    if (self->started == io)
        sim_broken("CancelThreadpoolIo, but no call was made");
    sim_call("CancelThreadpoolIo");
    sim_lock();
    require(io, IO, "CancelThreadpoolIo");
    if (self->owed != io)
        sim_broken("CancelThreadpoolIo for an operation whose completion comes");
    self->owed = NULL;
    io->expected--;
    sim_unlock();
}

void sim_io_ended(PTP_IO io, OVERLAPPED *overlapped, DWORD error, DWORD bytes)
{
    require(io, IO, "a completion");
    if (io->expected <= io->queued)
        sim_broken("a completion that nobody expects: StartThreadpoolIo is missing");
    sim_release(overlapped);
    put_item(io, overlapped, error, bytes);
}

void sim_io_refused(PTP_IO io)
{
    sim_self()->owed = io;
}

void WaitForThreadpoolIoCallbacks(PTP_IO io, BOOL cancel_pending)
{
    wait_for_callbacks(io, IO, cancel_pending);
}

void CloseThreadpoolIo(PTP_IO io)
{
    close_object(io, IO);
}

/* ---- timers ----------------------------------------------------------------------------------------------------- */

/* Relative times only, and "at once". */
static uint64_t deadline(const FILETIME *time)
{
    int64_t relative = (int64_t)((uint64_t)time->dwHighDateTime << 32 | time->dwLowDateTime);

    if (relative > 0)
        sim_broken("an absolute time");
    return sim_now() + (uint64_t)-relative;
}

PTP_TIMER CreateThreadpoolTimer(PTP_TIMER_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_)
{
    struct sim_tp *timer = new_object(TIMER, context, environ_);

    if (timer != NULL)
        timer->callback.timer = callback;
    return timer;
}

void SetThreadpoolTimer(PTP_TIMER timer, FILETIME *due, DWORD period, DWORD window)
{
    (void)period;
    sim_call("SetThreadpoolTimer");
    sim_lock();
    require(timer, TIMER, "SetThreadpoolTimer");
    timer->set = due != NULL;
    if (due != NULL)
        timer->due = deadline(due) + sim_random(window + 1) * 10000ull;
    sim_release(timer);
    sim_unlock();
    sim_yield();
}

void WaitForThreadpoolTimerCallbacks(PTP_TIMER timer, BOOL cancel_pending)
{
    wait_for_callbacks(timer, TIMER, cancel_pending);
}

void CloseThreadpoolTimer(PTP_TIMER timer)
{
    close_object(timer, TIMER);
}

/* ---- work ------------------------------------------------------------------------------------------------------- */

PTP_WORK CreateThreadpoolWork(PTP_WORK_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_)
{
    struct sim_tp *new = new_object(WORK, context, environ_);

    if (new != NULL)
        new->callback.work = callback;
    return new;
}

void SubmitThreadpoolWork(PTP_WORK object)
{
    sim_call("SubmitThreadpoolWork");
    sim_lock();
    require(object, WORK, "SubmitThreadpoolWork");
    sim_release(object);
    put_item(object, NULL, 0, 0);
    sim_unlock();
    sim_yield();
}

void WaitForThreadpoolWorkCallbacks(PTP_WORK object, BOOL cancel_pending)
{
    wait_for_callbacks(object, WORK, cancel_pending);
}

void CloseThreadpoolWork(PTP_WORK object)
{
    close_object(object, WORK);
}

/* ---- waits ------------------------------------------------------------------------------------------------------ */

PTP_WAIT CreateThreadpoolWait(PTP_WAIT_CALLBACK callback, PVOID context, TP_CALLBACK_ENVIRON *environ_)
{
    struct sim_tp *wait = new_object(WAIT, context, environ_);

    if (wait != NULL)
        wait->callback.wait = callback;
    return wait;
}

void SetThreadpoolWait(PTP_WAIT wait, HANDLE handle, FILETIME *timeout)
{
    sim_call("SetThreadpoolWait");
    sim_lock();
    require(wait, WAIT, "SetThreadpoolWait");
    if (wait->set) {
        sim_handle_watch(wait->watched, -1);
        sim_object_unref(wait->object);
        wait->set = false;
    }
    if (handle != NULL) {
        wait->object = sim_lookup(handle, "SetThreadpoolWait");
        sim_object_ref(wait->object);
        sim_handle_watch(handle, 1);
        wait->watched = handle;
        wait->due = timeout != NULL ? deadline(timeout) : SIM_FOREVER;
        wait->set = wait->used = true;
    }
    sim_release(wait);
    sim_unlock();
    sim_yield();
}

void WaitForThreadpoolWaitCallbacks(PTP_WAIT wait, BOOL cancel_pending)
{
    wait_for_callbacks(wait, WAIT, cancel_pending);
}

void CloseThreadpoolWait(PTP_WAIT wait)
{
    close_object(wait, WAIT);
}
