/* Included before everything in the C core's files: their memory comes from the simulation, which can refuse it and
 * knows at the end what was not given back. */
#ifndef WIN32SIM_ALLOCATOR_H
#define WIN32SIM_ALLOCATOR_H

#include <stdlib.h>

void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *block, size_t size);
void sim_free(void *block);

#define calloc sim_calloc
#define realloc sim_realloc
#define free sim_free

#endif
