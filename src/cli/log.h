/*
 * cli/log: reads events from what the library wrote, in either form. Skips lines of other programs, and what a journal
 * puts in front of each line.
 */
#pragma once

#include "report/event.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Strings are NULL and numbers 0 where the event does not say. */
struct fsafe_log_place {
    char *module, *symbol;
    uint64_t address, in_module, offset;
};

struct fsafe_log_source {
    char *file, *function, *thread;
    unsigned line;
    bool at_fork;
};

/* Where a thread was: the place, its callers, and the same in an interpreter's program. */
enum { FSAFE_LOG_FRAMES = 16, FSAFE_LOG_CALLERS = 16 };
struct fsafe_log_stack {
    struct fsafe_log_place at, frames[FSAFE_LOG_FRAMES];
    unsigned frame_count;
    struct fsafe_log_source source, callers[FSAFE_LOG_CALLERS];
    unsigned caller_count;
};

struct fsafe_log_event {
    enum fsafe_deed deed;
    char *lock, *kind, *why;
    char *brief; /* the place that wanted the lock, in short */
    struct fsafe_log_place lock_place;
    unsigned long pid, tid, times, threads;
    unsigned long holder_tid, fork_number, fork_tid;
    long fork_age_ms; /* -1: unknown */
    char *holder_name;
    bool in_use; /* the holder was inside of the object, which nobody holds */
    bool whole;  /* the event has its places; in the form for people a repeated one has none */
    struct fsafe_log_stack since, wanted, fork;
};

struct fsafe_log {
    struct fsafe_log_event *events;
    size_t count;
    struct fsafe_log_module {
        char *name, *path, *build_id;
    } *modules;
    size_t module_count;
};

/* Adds the events of a file. */
void fsafe_log_read(struct fsafe_log *log, FILE *file);

/* Makes one event of those that are alike, with their number. */
void fsafe_log_group(struct fsafe_log *log);

/* The module of that name in the events, or NULL. */
const struct fsafe_log_module *fsafe_log_module(const struct fsafe_log *log, const char *name);

/* For cli/log and log-json: adds an event, adds a module, reads a line that begins with a brace. */
struct fsafe_log_event *fsafe_log_add_event(struct fsafe_log *log);
void fsafe_log_add_module(struct fsafe_log *log, const char *name, const char *path, const char *build_id);
void fsafe_log_read_object(struct fsafe_log *log, const char *line);

/* The library's table of deeds. */
extern const struct fsafe_deed_row fsafe_log_deeds[FSAFE_DEEDS];
