#ifndef WIN32SIM_SCHEDULE_H
#define WIN32SIM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct schedule_options {
    int threads, steps; /* 0: the seed decides */
    int faults;         /* calls fail one in so many; 0: never; -1: the seed decides */
    bool pumps;         /* there are some: the seed decides */
} schedule_options;

#define SCHEDULE_BATCH 500 /* that are run in one process: see schedule.c */

/* Runs one schedule; ends the process when a rule is broken. */
void schedule_run(uint64_t seed, const schedule_options *options);

#endif
