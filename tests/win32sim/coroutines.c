/* The deterministic scheduler: see scheduler.h. */
#define _GNU_SOURCE
#include "scheduler.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#define MOST_THREADS 64
#define MOST_SWITCHES 1000000 /* of one schedule: more is a livelock */
#define STACK_SIZE (256 * 1024)

typedef struct coroutine {
    sim_thread thread; /* first: what the others see of it */
    ucontext_t context;
    char *stack;
    size_t size;
    bool alive;
    volatile bool resumed;
    uint32_t priority;
    sim_predicate ready; /* NULL: can go on */
    void *argument;
    uint64_t deadline;
    void *fake_stack; /* the address sanitizer's */
} coroutine;

static coroutine threads[MOST_THREADS], *current; /* the first is the caller of sim_run, on its own stack */
static uint64_t state, now;
static uint32_t patience;   /* a thread is interrupted at one in so many places */
static uint32_t world_pace; /* something happens outside at one in so many switches */
static int numbers;
static long switches;

sim_thread *sim_self(void)
{
    return current != NULL ? &current->thread : NULL;
}

uint32_t sim_random(uint32_t below)
{
    return sim_next_random(&state) % below;
}

uint64_t sim_now(void)
{
    return now;
}

int sim_threads(void)
{
    int count = 0;

    for (int i = 0; i < MOST_THREADS; i++)
        count += threads[i].alive;
    return count;
}

/* Control passes only where this file says so: there is nothing to lock, and the order is the program's. */
void sim_lock(void)
{
}

void sim_unlock(void)
{
}

void sim_release(void *what)
{
    (void)what;
}

void sim_acquire(void *what)
{
    (void)what;
}

static bool can_go_on(const coroutine *thread)
{
    return thread->ready == NULL || thread->deadline <= now || thread->ready(thread->argument);
}

static void stuck(void)
{
    fprintf(stderr, "nobody can go on:\n");
    for (int i = 0; i < MOST_THREADS; i++)
        if (threads[i].alive)
            fprintf(stderr, "  %s waits, holding %d locks\n", threads[i].thread.name, threads[i].thread.locks);
    sim_broken("deadlock");
}

/* Who goes on. The world moves now and then, and when everybody waits; time passes when it does not move either. */
static coroutine *choose(void)
{
    if (++switches > MOST_SWITCHES)
        sim_broken("no end in sight: a livelock");
    if (sim_chance(world_pace))
        sim_outside(false);
    for (;;) {
        coroutine *best = NULL;
        uint64_t next = sim_next_deadline();

        for (int i = 0; i < MOST_THREADS; i++) {
            coroutine *thread = &threads[i];

            if (!thread->alive)
                continue;
            if (thread->ready != NULL && thread->deadline < next)
                next = thread->deadline;
            if ((best == NULL || thread->priority > best->priority) && can_go_on(thread))
                best = thread;
        }
        if (best != NULL)
            return best;
        if (sim_outside(true))
            continue;
        if (next == SIM_FOREVER)
            stuck();
        now = next > now ? next : now + 1;
    }
}

static void finish_switch(void *fake_stack)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#else
    (void)fake_stack;
#endif
}

static void switch_to(coroutine *to)
{
    coroutine *from = current;

    current = to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(from->alive ? &from->fake_stack : NULL, to->stack, to->size);
#endif
    /* As swapcontext, about which the address sanitizer would warn although it is told of the switch. */
    from->resumed = false;
    getcontext(&from->context);
    if (!from->resumed) {
        from->resumed = true;
        setcontext(&to->context);
    }
    finish_switch(from->fake_stack);
}

static void reschedule(void)
{
    coroutine *to = choose();

    if (to != current)
        switch_to(to);
}

void sim_yield(void)
{
    if (current == NULL || sim_random(patience) != 0)
        return;
    now += sim_random(3);
    current->priority = sim_random(1 << 20);
    reschedule();
}

bool sim_block(sim_predicate ready, void *argument, uint64_t deadline)
{
    if (ready(argument))
        return true;
    current->ready = ready;
    current->argument = argument;
    current->deadline = deadline;
    reschedule();
    current->ready = NULL;
    return ready(argument);
}

static void run_current(void)
{
    finish_switch(NULL);
    current->thread.run(current->thread.argument);
    if (current->thread.locks != 0)
        sim_broken("the thread ended with a lock held");
    current->alive = false;
    reschedule(); /* for the last time */
}

/* On its own: the compiler takes getcontext for a function that returns twice. */
static __attribute__((noinline)) void make_context(coroutine *thread)
{
    if (getcontext(&thread->context) != 0)
        abort();
    thread->context.uc_stack.ss_sp = thread->stack;
    thread->context.uc_stack.ss_size = thread->size;
    makecontext(&thread->context, run_current, 0);
}

static coroutine *free_place(void)
{
    coroutine *thread = threads + 1;

    while (thread->alive || thread == current) /* one that has just ended still stands on its stack */
        if (++thread == threads + MOST_THREADS)
            sim_broken("too many threads for the simulation");
    return thread;
}

void sim_spawn(const char *name, void (*run)(void *argument), void *argument)
{
    coroutine *thread = free_place();
    char *stack = thread->stack != NULL ? thread->stack : malloc(STACK_SIZE);

    *thread = (coroutine){.thread = {.name = name, .number = numbers++, .run = run, .argument = argument},
                          .stack = stack,
                          .size = STACK_SIZE,
                          .alive = true,
                          .priority = sim_random(1 << 20)};
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, STACK_SIZE); /* what an earlier thread has left there */
#endif
    make_context(thread);
}

static bool others_ended(void *argument)
{
    (void)argument;
    return sim_threads() == 1;
}

void sim_run(uint64_t seed, void (*main)(void *argument), void *argument)
{
    static const uint32_t patiences[] = {1, 2, 4, 8, 20, 60}, paces[] = {2, 4, 10, 40, 200};
    pthread_attr_t attributes;
    void *stack;

    state = sim_first_state(seed);
    now = 1000000;
    switches = 0;
    numbers = 0;
    patience = patiences[sim_random(sizeof patiences / sizeof *patiences)];
    world_pace = paces[sim_random(sizeof paces / sizeof *paces)];
    threads[0] = (coroutine){.thread = {.name = "main", .number = numbers++}, .alive = true};
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &threads[0].size);
    pthread_attr_destroy(&attributes);
    threads[0].stack = stack;
    current = threads;
    main(argument);
    sim_block(others_ended, NULL, SIM_FOREVER);
    current = NULL;
}
