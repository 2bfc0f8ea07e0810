/* The free scheduler, for ThreadSanitizer: see scheduler.h. Compiled without instrumentation. */
#define _GNU_SOURCE
#include "scheduler.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

typedef struct free_thread {
    sim_thread thread;
    uint64_t state;
} free_thread;

static __thread free_thread *current;
static int guard, count, numbers;
static uint64_t base;

sim_thread *sim_self(void)
{
    return current != NULL ? &current->thread : NULL;
}

uint32_t sim_random(uint32_t below)
{
    return sim_next_random(&current->state) % below;
}

uint64_t sim_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 10000000 + (uint64_t)time.tv_nsec / 100;
}

int sim_threads(void)
{
    return __atomic_load_n(&count, __ATOMIC_ACQUIRE);
}

void sim_lock(void)
{
    while (__atomic_exchange_n(&guard, 1, __ATOMIC_ACQUIRE))
        sched_yield();
}

void sim_unlock(void)
{
    __atomic_store_n(&guard, 0, __ATOMIC_RELEASE);
}

void sim_release(void *what)
{
    __tsan_release(what);
}

void sim_acquire(void *what)
{
    __tsan_acquire(what);
}

void sim_yield(void)
{
    uint32_t dice = sim_random(64);

    if (dice == 0)
        usleep(sim_random(100));
    else if (dice < 8)
        sched_yield();
}

bool sim_block(sim_predicate ready, void *argument, uint64_t deadline)
{
    for (;;) {
        if (ready(argument))
            return true;
        if (sim_now() >= deadline)
            return false;
        sim_unlock();
        usleep(20);
        sim_lock();
    }
}

static void *run_thread(void *argument)
{
    current = argument;
    current->thread.run(current->thread.argument);
    free(current);
    current = NULL;
    __atomic_sub_fetch(&count, 1, __ATOMIC_RELEASE);
    return NULL;
}

void sim_spawn(const char *name, void (*run)(void *argument), void *argument)
{
    free_thread *thread = calloc(1, sizeof *thread);
    pthread_t id;

    thread->thread = (sim_thread){.name = name, .number = numbers++, .run = run, .argument = argument};
    thread->state = sim_first_state(base + (uint64_t)thread->thread.number);
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    if (pthread_create(&id, NULL, run_thread, thread) != 0)
        sim_broken("no more threads");
    pthread_detach(id);
}

static void run_world(void *argument)
{
    (void)argument;
    while (sim_threads() > 2) {
        bool moved;

        sim_lock();
        moved = sim_outside(sim_random(2));
        sim_unlock();
        if (!moved || sim_chance(4))
            usleep(20);
    }
}

static bool others_ended(void *argument)
{
    (void)argument;
    return sim_threads() == 1;
}

void sim_run(uint64_t seed, void (*main)(void *argument), void *argument)
{
    free_thread first = {.thread = {.name = "main"}, .state = sim_first_state(seed)};

    base = seed * 100;
    count = 2; /* keeps the world going until main has ended */
    numbers = 1;
    current = &first;
    sim_spawn("world", run_world, NULL);
    main(argument);
    sim_lock();
    __atomic_sub_fetch(&count, 1, __ATOMIC_RELEASE);
    sim_block(others_ended, NULL, SIM_FOREVER);
    sim_unlock();
    current = NULL;
}
