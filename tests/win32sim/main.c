/* main.c: many schedules, each in the state that the seed before it left nothing of.
 *
 *     sim --start S --seconds N     seed after seed, in child processes; a failing one is made small and printed
 *     sim --seed S                  one schedule, with a trace of every call
 */
#define _GNU_SOURCE
#include "schedule.h"
#include "scheduler.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 120    /* seconds that a batch may take */
#define TRIES 3000      /* seeds for each size, when a failure is made small */

static schedule_options options = {0, 0, -1, false};
static volatile uint64_t *at; /* the seed that a child works on */

/* Runs the seeds from `first`; returns 0 or what the child ended with, and leaves the failing seed in *at. */
static int run_batch(uint64_t first, uint64_t count, const schedule_options *size, bool quiet)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (quiet && freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        alarm(PATIENCE);
        for (uint64_t seed = first; seed < first + count; seed++) {
            *at = seed;
            schedule_run(seed, size);
        }
        exit(0);
    }
    waitpid(child, &status, 0);
    if (!quiet && WIFSIGNALED(status))
        fprintf(stderr, "the schedule was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return status;
}

/* A failing seed with fewer threads and fewer steps, if there is one. */
static void shrink(void)
{
    static const int steps[] = {1, 2, 3, 4, 6, 8, 12, 16, 24};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (int threads = 1; threads <= 3; threads++)
            for (int faults = 0; faults <= 12; faults += 12) {
                schedule_options size = {threads, steps[i], faults, false};

                if (options.faults >= 0 && faults != options.faults)
                    continue;
                if (run_batch(1, TRIES, &size, true) != 0) {
                    options = size;
                    return;
                }
            }
}

static int campaign(uint64_t start, double seconds)
{
    time_t end = time(NULL) + (time_t)seconds;
    uint64_t seed = start, next;

    at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    do {
        next = seed + SCHEDULE_BATCH - (seed + SCHEDULE_BATCH - 1) % SCHEDULE_BATCH;
        if (run_batch(seed, next - seed, &options, false) != 0) {
            fprintf(stderr, "\nFAILED: --seed %llu\n", (unsigned long long)*at);
            if (getenv("SIM_NO_SHRINK") == NULL) {
                shrink();
                fprintf(stderr, "smaller: --seed %llu --threads %d --steps %d --faults %d\n", (unsigned long long)*at,
                        options.threads, options.steps, options.faults);
            }
            return 1;
        }
        seed = next;
    } while (time(NULL) < end);
    printf("%llu schedules, seeds %llu to %llu: no rule was broken\n", (unsigned long long)(seed - start),
           (unsigned long long)start, (unsigned long long)(seed - 1));
    return 0;
}

int main(int count, char **words)
{
    uint64_t start = 1, seed = 0;
    double seconds = 10;

    for (int i = 1; i + 1 < count; i += 2) {
        const char *word = words[i], *value = words[i + 1];

        if (strcmp(word, "--seconds") == 0)
            seconds = atof(value);
        else if (strcmp(word, "--start") == 0)
            start = strtoull(value, NULL, 10);
        else if (strcmp(word, "--seed") == 0)
            seed = strtoull(value, NULL, 10);
        else if (strcmp(word, "--threads") == 0)
            options.threads = atoi(value);
        else if (strcmp(word, "--steps") == 0)
            options.steps = atoi(value);
        else if (strcmp(word, "--faults") == 0)
            options.faults = atoi(value);
        else
            return fprintf(stderr, "unknown option %s\n", word), 2;
    }
    if (seed == 0)
        return campaign(start, seconds);
    sim_tracing = true;
    setvbuf(stdout, NULL, _IOLBF, 0);
    schedule_run(seed, &options);
    printf("no rule was broken\n");
    return 0;
}
