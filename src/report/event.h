/*
 * report/event: what happened, in plain values, for report to put into words. No room but report formats text.
 */
#ifndef FSAFE_REPORT_EVENT_H
#define FSAFE_REPORT_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fsafe_deed {
    FSAFE_TOOK_OVER, /* the lock was the dead thread's and is now the caller's */
    FSAFE_WOULD_HANG, /* mode report or abort: nothing was done, the caller goes on to wait */
    FSAFE_FORGOT,    /* vanished threads were inside of it: it is as new */
    FSAFE_MAY_HANG,  /* the same, mode report or abort: nothing was done, and it may go well for a while */
    FSAFE_REFUSED,   /* it looks orphaned, but `why` forbids to take it; the caller goes on to wait */
    FSAFE_WENT_ROUND, /* a lock inside libc that a dead thread may hold: the caller's work is done without it */
    FSAFE_HANGS,      /* nobody can end the caller's wait */
    FSAFE_WAITS_FOR_HANDLER, /* only a handler of a signal can */
    FSAFE_WENT_ON,    /* a wait that one of these two was said of is over */
};

/* A thread that held or wanted the lock when the process was forked. */
struct fsafe_holder {
    pid_t tid;         /* its id in the process it lived in; 0 unknown */
    pid_t pid;         /* that process; 0 unknown */
    char name[16];     /* as it was when the thread first took a lock; "" unknown */
    uintptr_t since;   /* the place that took the lock; 0 unknown */
};

struct fsafe_fork {
    unsigned long number; /* which fork of its process, counted from 1; 0 unknown */
    pid_t tid;            /* the thread that forked */
    uintptr_t at;         /* the place that called fork; 0 unknown */
};

struct fsafe_event {
    enum fsafe_deed deed;
    bool worth_a_line;   /* whether the user is told */
    const char *lock;    /* "mutex", "semaphore" */
    const char *kind;    /* "normal", "recursive" ... */
    const char *why;     /* for FSAFE_REFUSED: the reason, in words that follow "because" */
    bool in_use;         /* the vanished thread did not hold it but was inside of it */
    unsigned count;      /* for FSAFE_FORGOT: of how many threads */
    uintptr_t address;   /* of the lock; 0: inside libc, nobody knows where */
    uintptr_t wanted_at; /* the place that asked for it now */
    struct fsafe_holder holder;
    struct fsafe_fork fork;
};

#endif
