/*
 * report: tells the user of events and settings, where FORKSAFE_LOG says, each by one write(2). Between two lines no
 * descriptor stays open and no buffer is shared. Uses neither malloc nor stdio nor the loader, so it works in a child
 * whose every lock may be held. errno kept.
 */
#pragma once

#include "report/event.h"

/*
 * Remembers which file descriptor 2 is now: lines go there while it is that file, and otherwise nowhere. Called at
 * start-up, and when the program itself has made descriptor 2 another file. Context: start-up, then any thread; not in
 * a child that shares memory.
 */
void fsafe_report_know_stderr(void);

/* Remembers the directory where a relative FORKSAFE_LOG is. Context: start-up, when the options have been read. */
void fsafe_report_start(void);

/* What an interpreter knows of places in its program. Each fills in a place and its callers; returns how many. */
struct fsafe_report_sources {
    unsigned (*here)(struct fsafe_source *places, unsigned most); /* where the calling thread is */
    /* Where a vanished thread took the lock, or was when it vanished. */
    unsigned (*held)(const struct fsafe_holder *holder, struct fsafe_source *places, unsigned most);
    /* Where the thread that forked called for that fork. */
    unsigned (*forked)(const struct fsafe_fork *fork, struct fsafe_source *places, unsigned most);
    /* A number for where the calling thread is, and its callers: an interpreter makes all waits at a few sites. */
    uintptr_t (*number_here)(void);
    /* Names the lock as the program knows it, if the interpreter made it of another one. Slow: for a line only. */
    void (*lock)(struct fsafe_event *event);
};

/* From now on lines name such places, too. */
void fsafe_report_know_sources(const struct fsafe_report_sources *sources);

/* One line about a lock. */
void fsafe_report_event(const struct fsafe_event *event);

/*
 * Whether this is the process's first line which says that only a signal handler can end a wait at this place of the
 * calling thread's; the next call returns false. Once there are too many places one line says so.
 */
bool fsafe_report_is_new_place(uintptr_t site);

/* One line about a setting that cannot be used; see fsafe_options_complain. */
void fsafe_report_bad_option(const char *variable, const char *value, const char *expected, const char *usual);

/* Writes the totals of the process tree, for FORKSAFE_SUMMARY. Context: the end of the tree's first process. */
void fsafe_report_summary(void);

/* One line in plain words, for FORKSAFE_VERBOSE and for what goes wrong at the start. */
void fsafe_report_note(const char *words);

/* The same, with a number behind the words. */
void fsafe_report_note_number(const char *words, unsigned long number);
