/* win32sim.h: the simulated Windows, as its own files and the test programs see it.
 *
 *     process.c     memory, locks, waiting on addresses, fiber-local storage, time
 *     kernel.c      handles, files, events; reads, writes and all the other overlapped calls; cancel
 *     threadpool.c  pools and their threads, I/O bindings, timers, work, waits
 *     memory.c      where the system touches the program's memory
 */
#ifndef WIN32SIM_H
#define WIN32SIM_H

#include "mswsock.h"
#include "scheduler.h"
#include "windows.h"
#include "winsock2.h"

/* ---- for test programs ------------------------------------------------------------------------------------------ */

void sim_begin(uint32_t faults); /* calls fail one in so many; 0: never */
void sim_end(void);              /* demands that nothing is left */

enum { SIM_SYNCHRONOUS = 1, SIM_HELD = 2, SIM_MESSAGE = 4 }; /* HELD: another process has it too */
HANDLE sim_file_open(unsigned flags);
HANDLE sim_event_open(void);
HANDLE sim_semaphore_open(void);
void sim_event_set(HANDLE event); /* or releases a semaphore once */
int sim_semaphore_count(HANDLE semaphore);
#define SIM_BAD_HANDLE ((HANDLE)0xBAD0)

/* A pipe that behaves: what is written to one end is read from the other, nothing happens by chance. */
void sim_pipe_open(HANDLE *server, HANDLE *client, bool message);

int sim_workers(void);
uint64_t sim_stamp(void);          /* grows with each call */
uint64_t sim_callback_began(void); /* the stamp of the callback that this thread is in; 0: none */
void sim_thread_ends(void); /* runs the destructor of fiber-local storage */
int64_t sim_counter(void);  /* of QueryPerformanceCounter, without its side effects */

/* ---- among its own files ---------------------------------------------------------------------------------------- */

/* The simulation's own memory. ThreadSanitizer is not told: it knows nothing of the lock that guards it. */
#ifdef SIM_FREE
void *__libc_calloc(size_t count, size_t size);
void __libc_free(void *block);
#define own_calloc __libc_calloc
#define own_free __libc_free
#else
#define own_calloc calloc
#define own_free free
#endif

/* At the start of every call: a place to be interrupted, and nothing may stand between StartThreadpoolIo and its call. */
void sim_call(const char *name);
bool sim_fault(DWORD error); /* this call shall fail: the last error is set */
BOOL sim_result(DWORD error);

typedef struct sim_object sim_object;
sim_object *sim_lookup(HANDLE handle, const char *call);
sim_object *sim_file_bind(HANDLE file, PTP_IO io);
void sim_object_ref(sim_object *object);
void sim_object_unref(sim_object *object);
bool sim_object_signalled(const sim_object *object);
void sim_object_take(sim_object *object); /* a wait was satisfied */
void sim_handle_watch(HANDLE handle, int change); /* a wait is set on this very handle */

void sim_io_started(sim_object *file, PTP_IO io);
void sim_io_ended(PTP_IO io, OVERLAPPED *overlapped, DWORD error, DWORD bytes); /* a completion is queued */
void sim_io_refused(PTP_IO io);                                                 /* none will come */

bool sim_kernel_outside(bool quiet);
bool sim_pool_outside(bool quiet);
bool sim_process_outside(bool quiet);
uint64_t sim_pool_deadline(void);
void sim_kernel_begin(void), sim_kernel_end(void), sim_pool_end(void), sim_process_end(void);

void sim_touch_begin(OVERLAPPED *overlapped);
void sim_touch_end(OVERLAPPED *overlapped, DWORD error, DWORD bytes);
void sim_touch_fill(void *buffer, size_t size);
void sim_touch_read(const void *buffer, size_t size);
void sim_touch_word(void *word, DWORD value);
#define SIM_FILL 0xA5 /* what the system writes into buffers */

#endif
