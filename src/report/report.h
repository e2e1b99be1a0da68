/*
 * report: tells the user, one line and one write(2) each, where FORKSAFE_LOG says. Owns nothing between two lines: no
 * descriptor stays open, no buffer is shared. Uses neither malloc nor stdio nor the loader, so it works in a child that
 * may hold any lock. errno kept.
 */
#pragma once

#include "report/event.h"

/*
 * Remembers what descriptor 2 is now: lines go there while it stays the same, and otherwise nowhere. Called at
 * start-up, and when the program itself has made descriptor 2 another. Context: start-up, then any thread; not in a
 * child that shares memory.
 */
void fsafe_report_know_stderr(void);

/* With the options read: remembers the directory that a relative FORKSAFE_LOG starts from. Context: start-up. */
void fsafe_report_start(void);

/* What an interpreter knows of places in its program. Each fills in a place and its callers; returns how many. */
struct fsafe_report_sources {
    unsigned (*here)(struct fsafe_source *places, unsigned most); /* where the calling thread is */
    /* Where a vanished thread took the lock, or was when it vanished. */
    unsigned (*held)(const struct fsafe_holder *holder, struct fsafe_source *places, unsigned most);
    /* A number for where the calling thread is and its callers: all waits of an interpreter are made at few sites. */
    uintptr_t (*number_here)(void);
};

/* From now on events name such places, too. */
void fsafe_report_know_sources(const struct fsafe_report_sources *sources);

/* One line about a lock. */
void fsafe_report_event(const struct fsafe_event *event);

/*
 * Whether no line has said yet that only a signal handler can end a wait at this place; notes that one does now.
 * `is_own`: it is a wait of the calling thread.
 */
bool fsafe_report_is_new_place(uintptr_t site, bool is_own);

/* One line about a setting that cannot be used; see fsafe_options_complain. */
void fsafe_report_bad_option(const char *variable, const char *value, const char *expected, const char *usual);

/* What happened in the whole process tree, for FORKSAFE_SUMMARY. Context: the end of the tree's first process. */
void fsafe_report_summary(void);

/* One line in plain words, for FORKSAFE_VERBOSE and for start-up trouble. */
void fsafe_report_note(const char *words);

/* With a number behind the words. */
void fsafe_report_note_number(const char *words, unsigned long number);
