/* report/event: what happened, in plain values: other rooms fill them in, report puts them into words. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fsafe_deed {
#define FSAFE_DEED(name, key, words, advice) FSAFE_##name,
#include "report/deeds.def"
    FSAFE_DEEDS,
};

struct fsafe_deed_row {
    const char *key, *words, *advice;
};

/* A place in a program that an interpreter runs: Python's. What is not known is empty. */
struct fsafe_source {
    char file[128];    /* its end, when it is longer */
    char function[64];
    unsigned line;     /* 0: unknown */
    char thread[32];   /* what the interpreter calls the thread */
    bool at_fork;      /* of a holder: where it was at the fork, not where it took the lock */
};

/* A thread that had the lock, or waited for it, at the fork. */
struct fsafe_holder {
    pid_t tid;         /* the thread's id in the process it lived in; 0 unknown */
    pid_t pid;         /* that process; 0 unknown */
    char name[16];     /* the name that the thread had when it first took a lock; "" unknown */
    uintptr_t since;   /* the place that took the lock; 0 unknown */
    uintptr_t stack;   /* an address in its stack; 0 unknown */
    uintptr_t stack_end; /* no frame lies at or above this; 0 unknown */
    const struct fsafe_source *source; /* the same place in the interpreter's program; NULL: unknown */
};

struct fsafe_fork {
    unsigned long number; /* which fork of its process, counted from 1; 0 unknown */
    pid_t tid;            /* the thread that forked */
    uint32_t when_ms;     /* by CLOCK_MONOTONIC, the low 32 bits; 0 unknown */
    uintptr_t at;         /* the place that called fork; 0 unknown */
};

struct fsafe_event {
    enum fsafe_deed deed;
    bool worth_a_line;   /* report writes a line about it */
    const char *lock;    /* "mutex", "semaphore" */
    const char *kind;    /* "normal", "recursive" ... */
    const char *why;     /* for FSAFE_REFUSED: the reason, in words that follow "because" */
    bool in_use;         /* the vanished thread was inside of the object, which nobody holds */
    unsigned count;      /* for FSAFE_FORGOT: how many vanished threads were inside */
    uintptr_t address;   /* of the lock; 0: it is somewhere inside libc */
    pid_t pid, tid;      /* the thread that wants the lock, if that is in another process; 0: the calling thread */
    uintptr_t wanted_at; /* the place that wants the lock */
    const struct fsafe_source *wanted_in; /* the same place in the interpreter's program; NULL: unknown */
    struct fsafe_holder holder;
    struct fsafe_fork fork;
};
