/* scheduler.h: threads whose interleaving a seed decides.
 *
 * Deterministic (coroutines.c): every thread is a coroutine, one runs at a time, and control passes only in sim_yield and
 * sim_block. Who goes on is a matter of random priorities that change at random moments: at one extreme a random walk,
 * at the other threads that starve for a long time just when it hurts.
 *
 * Free (free.c, for ThreadSanitizer): every thread is a real one and nothing is reproducible. The state of
 * the simulation is then guarded by a lock that ThreadSanitizer does not see, so that it invents no order between the
 * program's threads; the order that Windows does promise is declared with sim_release and sim_acquire.
 */
#ifndef WIN32SIM_SCHEDULER_H
#define WIN32SIM_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sim_thread {
    void (*run)(void *argument);
    void *argument;
    const char *name;
    int number;
    uint32_t last_error;
    int locks;                     /* SRW locks held */
    int depth;                     /* the test program's: actions inside actions */
    void *fls;                     /* the value of the one index that there is */
    struct sim_instance *instance; /* the callback that it is in */
    struct sim_tp *started;        /* StartThreadpoolIo was the last call */
    struct sim_tp *owed;           /* CancelThreadpoolIo must be the next one that matters */
} sim_thread;

typedef bool (*sim_predicate)(void *argument);

/* Runs main as the first thread, here, until every thread has ended. */
void sim_run(uint64_t seed, void (*main)(void *argument), void *argument);
void sim_spawn(const char *name, void (*run)(void *argument), void *argument);
sim_thread *sim_self(void);
int sim_threads(void); /* that have not ended */

/* Another thread may go on here. Outside sim_lock only. */
void sim_yield(void);

/* Until ready(argument), which is called under sim_lock and must not change anything, or until the time is `deadline`:
 * then false. Called and returns under sim_lock. */
bool sim_block(sim_predicate ready, void *argument, uint64_t deadline);
#define SIM_FOREVER UINT64_MAX

void sim_lock(void);
void sim_unlock(void);
void sim_release(void *what);
void sim_acquire(void *what);

uint32_t sim_next_random(uint64_t *state);
uint64_t sim_first_state(uint64_t seed);
uint32_t sim_random(uint32_t below);
bool sim_chance(uint32_t one_in); /* 0: never */
uint64_t sim_now(void);           /* in units of 100 ns */

/* What happens in the world outside, one event at a time; the simulation of Windows provides it. Under sim_lock.
 * quiet: nobody can go on without it. Returns false when nothing can happen at this time. */
bool sim_outside(bool quiet);
uint64_t sim_next_deadline(void); /* when time alone will make something happen */

/* A broken rule: says which, and ends the process. */
void sim_broken(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool sim_tracing;

#endif
