/* tpio_pump.h: bytes from one handle to another, without anybody in between. Built on tpio_core.h alone, as a program would. */
#ifndef TPIO_PUMP_H
#define TPIO_PUMP_H

#include "tpio_core.h"

#define TPIO_PUMP_BLOCKS 2                /* one is read while another is written */
#define TPIO_PUMP_TO_THE_END UINT64_MAX

typedef struct tpio_pump tpio_pump;

/* Receives a pump that is over: on a thread of the pool, or on that of tpio_pump_cancel. It is the callee's again. */
typedef tpio_tail_fn (*tpio_pump_fn)(tpio_pump *pump);

/* A way of the bytes into the pump, or out of it. */
typedef struct tpio_pump_end {
    tpio_handle *handle;  /* stays until the pump is over */
    BOOL is_socket;       /* which verbs */
    BOOL is_file;         /* has offsets */
    uint64_t offset;      /* of the next operation; for what is written perhaps TPIO_APPEND */
    tpio_op op;           /* from here on the pump's own */
    BOOL busy;            /* the operation is the system's */
    BOOL asked;           /* to end */
} tpio_pump_end;

typedef struct tpio_pump_block {
    const char *data;
    size_t size, written;
} tpio_pump_block;

/* The caller fills in all down to `complete`, and 0 for the rest, and leaves it alone until the pump is over. */
struct tpio_pump {
    tpio_pump_end from, to;
    char *memory;         /* TPIO_PUMP_BLOCKS of block_size, aligned as the handles demand */
    DWORD block_size;
    uint64_t left;        /* bytes to be read */
    tpio_pump_block blocks[TPIO_PUMP_BLOCKS]; /* the first may begin with data that is to be written before all else */
    int filled;           /* blocks that are not written: from `first` on */
    void *user;
    tpio_pump_fn complete;

    int first;
    uint64_t moved;       /* bytes that were written: the result, also when it failed */
    DWORD error;          /* 0 or a Win32 error code: the result */
    BOOL stopped;         /* nothing is begun any more */
    BOOL cancelled;       /* by tpio_pump_cancel or its pool, and not by what befell its handles */
    BOOL ended;           /* nothing is left to be read */
    int steps;            /* since this turn began */
    tpio_op turn;         /* brings a thread of the pool */
    BOOL turning;
    volatile LONG events; /* that the driver has not seen: see tpio_pump.c */
};

/* TPIO_PENDING: complete will be called. TPIO_CLOSED: the pool is closed, nothing was begun. */
tpio_status tpio_pump_start(tpio_pump *pump, tpio_pool *pool);

/* Asks for the end: it comes with ERROR_OPERATION_ABORTED, unless the pump is over by then. What was read and not written is
 * in its blocks. The caller sees to it that the memory stays over the call. */
void tpio_pump_cancel(tpio_pump *pump);

#endif
