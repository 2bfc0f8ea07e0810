/* What both schedulers share: random numbers, reports. */
#include "scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

bool sim_tracing;

void sim_broken(const char *format, ...)
{
    va_list list;

    fflush(stdout);
    fprintf(stderr, "BROKEN RULE (thread %s): ", sim_self() != NULL ? sim_self()->name : "-");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_print_stack_trace();
#endif
    _Exit(3);
}

void sim_trace(const char *format, ...)
{
    va_list list;

    if (!sim_tracing)
        return;
    printf("%8llu %-10s ", (unsigned long long)sim_now(), sim_self() != NULL ? sim_self()->name : "-");
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
}

uint32_t sim_next_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * 0x2545F4914F6CDD1Dull) >> 32);
}

uint64_t sim_first_state(uint64_t seed)
{
    seed = (seed + 0x9E3779B97F4A7C15ull) * 0xBF58476D1CE4E5B9ull;
    seed ^= seed >> 31;
    return seed != 0 ? seed : 1;
}

bool sim_chance(uint32_t one_in)
{
    return one_in != 0 && sim_random(one_in) == 0;
}
