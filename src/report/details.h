/* report/details: an event with all its addresses looked up, and the forms of its line. For files of report only. */
#pragma once

#include "base/text.h"
#include "libc/modules.h"
#include "report/event.h"

#include <time.h>

enum { FSAFE_FRAMES_MOST = 16, FSAFE_CALLERS_MOST = 3, FSAFE_NEW_MODULES = 8 };

/* Frames are the callers of the wanted and the since place, the nearest first; address 0 ends them. */
enum {
    FSAFE_LOCK_PLACE,
    FSAFE_WANTED_PLACE,
    FSAFE_SINCE_PLACE,
    FSAFE_FORK_PLACE,
    FSAFE_WANTED_FRAMES,
    FSAFE_SINCE_FRAMES = FSAFE_WANTED_FRAMES + FSAFE_FRAMES_MOST,
    FSAFE_PLACES = FSAFE_SINCE_FRAMES + FSAFE_FRAMES_MOST,
};

/* A module that is named for the first time in the process tree. */
struct fsafe_new_module {
    const char *name, *path;
    unsigned char build_id[FSAFE_BUILD_ID_BYTES];
    size_t build_id_bytes;
};

struct fsafe_details {
    const struct fsafe_event *event;
    uint64_t times; /* how many events of its kind there were, with this one */
    bool again;     /* an earlier line has said all but that number */
    struct timespec when; /* CLOCK_REALTIME */
    uint32_t fork_age_ms;
    bool colored;
    pid_t pid, tid;
    char own_name[32];    /* of the thread that wants the lock */
    char holder_name[32];
    struct fsafe_place places[FSAFE_PLACES];
    /*
     * The interpreter's functions that want and hold the lock, and forked, each followed by its callers; an empty file
     * ends them.
     */
    struct fsafe_source wanted_in[1 + FSAFE_CALLERS_MOST + 1], held_in[1 + FSAFE_CALLERS_MOST + 1],
        forked_in[1 + FSAFE_CALLERS_MOST + 1];
    struct fsafe_new_module new_modules[FSAFE_NEW_MODULES];
    unsigned new_module_count;
};

/* For people: a line, and indented lines that say more. The caller adds the last newline. */
void fsafe_text_form(struct fsafe_text *text, const struct fsafe_details *details);

/* For machines: one JSON object, its keys as in libforksafe(7). */
void fsafe_json_form(struct fsafe_text *text, const struct fsafe_details *details);

/* Puts symbol+0xoffset in module+0xaddress, as far as they are known. */
void fsafe_text_place(struct fsafe_text *text, const struct fsafe_place *place);

/* Begin and end a line in plain words, in either form. Between the two calls the caller puts clean text. */
enum { FSAFE_NOTE_BYTES = 1024 };
void fsafe_report_begin_note(struct fsafe_text *line, char buffer[FSAFE_NOTE_BYTES]);
void fsafe_report_end_note(struct fsafe_text *line);

/* Whether lines go to a terminal. */
bool fsafe_report_is_on_terminal(void);

/* Writes `text`, which ends in a newline, to where FORKSAFE_LOG says. */
void fsafe_report_send(const struct fsafe_text *text);

/* The words of deeds.def, by deed. */
extern const struct fsafe_deed_row fsafe_deed_rows[FSAFE_DEEDS];
