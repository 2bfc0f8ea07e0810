/* schedule_program.h: what the parts of the random program share. All of it is of one schedule. */
#ifndef WIN32SIM_SCHEDULE_PROGRAM_H
#define WIN32SIM_SCHEDULE_PROGRAM_H

#include "schedule.h"

#include "tpio_core.h"
#include "win32sim.h"

#define POOLS 2
#define BUFFER 24
#define UNTOUCHED 0x5A

typedef struct account {
    tpio_pool *pool;
    bool closing;        /* somebody closes it, or is about to */
    uint64_t closing_at; /* when we knew that it is being closed */
    long submitted, completed, cancelled, failed;
    bool pumped; /* has operations that only a pump counts */
} account;

typedef struct slot {
    tpio_handle *handle; /* NULL: free */
    HANDLE file;
    unsigned flags;
    int account;
    int users;    /* threads that use the handle now */
    int binding;  /* so that an operation knows its own */
    bool dropped; /* we let go of it; the last user gives the reference back */
    uint64_t closed_at; /* when we knew that it is closed */
    int cancelling; /* threads that cancel all that is pending on it */
    long cancels;   /* those that have done so */
} slot;

/* schedule.c */
extern schedule_options options;
extern account accounts[POOLS];
extern int unfinished; /* operations and pumps; under sim_lock */
void act(void);        /* any of the actions, from a thread of the program or from a completion */
void tail_act(void);
bool act_begin(void); /* FALSE: nothing may be begun any more */
void act_end(void);

/* schedule_handles.c */
slot *slot_take(void); /* NULL: there is none where it looked */
void slot_give(slot *slot, bool drop);
void act_bind(void);
void act_handle(void);
void handles_reset(void);
void handles_drop(void);

/* schedule_operations.c */
void act_submit(void);
void act_sleep(void);
void act_work(void);
void act_wait(void);
void act_poll(void);
void act_signal(void);
void act_cancel_op(void);
void operations_reset(void);
void events_open(void);
void events_close(void);

/* schedule_pumps.c */
void act_pump(void);
void act_cancel_pump(void);
void pumps_reset(void);

#endif
