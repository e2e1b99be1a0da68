/*
 * report/tally: counts what happened in the whole process tree. The process in which the library started shares the
 * memory of the counts with all its children, from its first fork on, until they execute another program. Owns that
 * memory. Nothing here waits, and a child may be killed at any moment.
 */
#pragma once

#include "report/event.h"

#include <stdatomic.h>

enum fsafe_total {
#define FSAFE_TOTAL(name, key, words) FSAFE_TOTAL_##name,
#include "report/tally.def"
    FSAFE_TOTALS,
};

/*
 * Events of one kind have the same deed, wanted place, lock and since place. If many locks have both places in common,
 * each of the first few has a kind of its own, and all others are one kind.
 */
enum { FSAFE_KIND_SOURCE = 48 };
struct fsafe_kind {
    _Atomic uint64_t key;   /* 0: free */
    _Atomic uint64_t count;
    _Atomic uint32_t locks; /* how many locks with these places have a kind of their own */
    _Atomic uint32_t deed;
    _Atomic uintptr_t lock, wanted_at, since; /* of the first one */
    char wanted_in[FSAFE_KIND_SOURCE], held_in[FSAFE_KIND_SOURCE]; /* "file.py:12" in an interpreter's program, or "" */
};

/* For repair/children: a child that was forked. */
struct fsafe_forked {
    _Atomic uint64_t who;  /* the ids of its parent and of the child; 0: free */
    _Atomic uint64_t seen; /* when its parent last looked at it */
};

enum { FSAFE_KINDS = 128, FSAFE_TOLD_MODULES = 64, FSAFE_FORKED = 1024 };

/* forksafe status finds the memory of another process by this number. It changes with the members. */
#define FSAFE_TALLY_MARK 0x33796c6c6174f502u

struct fsafe_tally {
    uint64_t mark;
    pid_t first; /* the process that the library started in */
    _Atomic uint32_t warned;      /* for standin/standin: the regions of libc that a line has warned of */
    _Atomic uint32_t log_refused; /* whether a line has said that the log cannot be written */
    _Atomic uint64_t totals[FSAFE_TOTALS];
    _Atomic uint64_t deeds[FSAFE_DEEDS];
    _Atomic uint64_t modules[FSAFE_TOLD_MODULES]; /* a hash each; 0: free */
    _Atomic uint64_t rest; /* events of kinds that found no room below */
    struct fsafe_kind kinds[FSAFE_KINDS];
    struct fsafe_forked forked[FSAFE_FORKED];
};

/* Never NULL: before the first fork, and where no memory can be shared, each process counts for itself. */
extern struct fsafe_tally *_Atomic fsafe_tally;

/* `pid`: this process, the first of its tree. Context: start-up. */
void fsafe_tally_start(pid_t pid);

/* The process is about to fork: from now on it counts in shared memory. Async-signal-safe; errno kept. */
void fsafe_tally_share(void);

static inline void fsafe_tally_add(enum fsafe_total total, uint64_t more)
{
    atomic_fetch_add_explicit(&fsafe_tally->totals[total], more, memory_order_relaxed);
}

void fsafe_tally_raise(enum fsafe_total total, uint64_t value);

/* Whether nothing was counted yet. */
bool fsafe_tally_is_empty(void);

/* Counts the event. Returns how many of its kind there were in the tree, with this one. */
uint64_t fsafe_tally_count(const struct fsafe_event *event);

/* Whether the module with this path is named for the first time in the tree. */
bool fsafe_tally_is_new_module(const char *path);
