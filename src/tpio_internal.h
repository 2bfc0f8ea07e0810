/* What the files of the C core share among themselves. */
#ifndef TPIO_INTERNAL_H
#define TPIO_INTERNAL_H

#include "tpio_core.h"

#ifdef TPIO_FAULTS
#include "tpio_faults.h"
#endif
#ifdef TPIO_COUNTS
#include "tpio_counts.h"
#endif

struct tpio_pool {
    volatile LONG refs;    /* the creator, each live object, each thread's record */
    volatile LONG live;    /* open handles and pending timers, work and waits: what a drain waits for */
    volatile LONG closing;
    volatile LONG handle_count, device_count, thread_count;
    volatile LONG64 submitted, completed, cancelled, failed; /* pending is derived */
    PTP_POOL pool;
    TP_CALLBACK_ENVIRON environ_;
    SRWLOCK lock;          /* guards all below */
    tpio_handle *handles;  /* the open ones */
    struct {
        PTP_TIMER timer;
        tpio_op **heap;    /* by latest time */
        size_t count, capacity;
    } timers;
    struct {
        PTP_WORK work;
        tpio_op *head, *tail;
    } works;
    struct {
        PTP_POOL pool;     /* of one thread, which never blocks: see tpio_wait.c */
        TP_CALLBACK_ENVIRON environ_;
        PTP_WORK work;
        HANDLE never;      /* an event that nobody sets */
        tpio_op *waiting;
        tpio_op *ended, *last;
    } waits;
    struct {
        tpio_device *devices;
        tpio_device *free; /* those that have room */
    } polls;
};

struct tpio_handle {
    volatile LONG refs;    /* the creator; the binding itself while it is open */
    volatile LONG64 gate;  /* who is inside: see tpio_handle.c */
    volatile LONG owned;   /* closing the binding closes the handle */
    volatile LONG detached; /* given up: it is to be free of our completion port */
    volatile LONG shut;    /* closed, and nobody uses the system's handle any more */
    HANDLE file;
    PTP_IO io;
    unsigned flags;
    tpio_pool *pool;
    volatile LONG *counter; /* the pool's that it is counted in */
    tpio_handle *next, *previous; /* in pool->handles */
};

struct tpio_device {
    tpio_handle *handle;
    LONG polls;
    tpio_device *next;      /* in pool->polls.devices */
    tpio_device *next_free; /* in pool->polls.free */
};

/* tpio_core.c */
/* At the start of every callback; NULL: no memory, no matter. */
tpio_thread *tpio__thread_enter(tpio_pool *pool, PTP_CALLBACK_INSTANCE instance);
void tpio__thread_leave(tpio_thread *thread);
BOOL tpio__on_wine(void);
void tpio__environ_runs_long(TP_CALLBACK_ENVIRON *environ_);
DWORD tpio__extension_find(tpio_verb verb, SOCKET socket); /* nothing to do for verbs that have a function */
void tpio__extension_get(tpio_verb verb, void *function, size_t size); /* after find */

/* tpio_op.c: every operation begins and ends here. */
void tpio__op_begin(tpio_op *op, tpio_pool *pool, tpio_verb verb);
void tpio__op_end(tpio_op *op, DWORD error, DWORD bytes);
tpio_status tpio__op_submit(tpio_op *op, tpio_handle *handle, tpio_verb verb, uint64_t offset);
void tpio__op_complete(tpio_op *op, tpio_tail_fn *tail); /* hands it back; *tail is to be called at the very end */
void tpio__tail(tpio_tail_fn tail);
void CALLBACK tpio__op_io_callback(PTP_CALLBACK_INSTANCE instance, PVOID context, PVOID overlapped, ULONG result,
                                   ULONG_PTR bytes, PTP_IO io);

/* tpio_handle.c: a flag of tpio_handle_bind beside the public ones: a device of tpio_poll.c, not counted as a handle. */
#define TPIO__DEVICE 0x100u
/* The gate. enter fails once the handle is closing. */
BOOL tpio__handle_enter(tpio_handle *handle, LONG64 what);
void tpio__handle_leave(tpio_handle *handle, LONG64 what);
#define TPIO_USER ((LONG64)1 << 32) /* a thread that is inside a Win32 call with this handle */
#define TPIO_INFLIGHT ((LONG64)1)   /* an operation that the system has */

/* tpio_pool.c: a live object keeps the pool from draining and its memory from going. */
BOOL tpio__pool_enter(tpio_pool *pool);
void tpio__pool_leave(tpio_pool *pool);

/* tpio_timer.c, tpio_work.c, tpio_wait.c. create and destroy come from the pool; *_abort takes all that is queued and
 * completes it as aborted, on the calling thread, and leaves it the tail; *_cancel takes one back (TPIO_DONE) or finds it gone (TPIO_CLOSED). For
 * waits both only ask: each completes on a thread of the pool (TPIO_PENDING). */
DWORD tpio__timers_create(tpio_pool *pool);
void tpio__timers_destroy(tpio_pool *pool);
void tpio__timers_abort(tpio_pool *pool, tpio_tail_fn *tail);
tpio_status tpio__timer_cancel(tpio_op *op);

DWORD tpio__works_create(tpio_pool *pool);
void tpio__works_destroy(tpio_pool *pool);
void tpio__works_abort(tpio_pool *pool, tpio_tail_fn *tail);
tpio_status tpio__work_cancel(tpio_op *op);

DWORD tpio__waits_create(tpio_pool *pool);
void tpio__waits_destroy(tpio_pool *pool);
void tpio__waits_abort(tpio_pool *pool);
tpio_status tpio__wait_cancel(tpio_op *op);

/* tpio_poll.c. */
#define TPIO__AFD_POLL 0x00012024 /* IOCTL_AFD_POLL */
#ifndef TPIO__DEVICE_POLLS
#define TPIO__DEVICE_POLLS 32 /* as wepoll and mio have it; the simulation has fewer */
#endif
DWORD tpio__poll_end(tpio_op *op, DWORD error); /* gives its room on the device back; the events that have happened */
void tpio__polls_free(tpio_pool *pool); /* with the pool's memory; the devices have been closed with the pool */

#endif
