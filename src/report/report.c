/*
 * report: looks up what is known of an event, and writes it in one of the two forms. See report.h.
 *
 * Measured. A report that looks a symbol up needs the most stack of all our code: less than 6 KiB, and 8 if it names
 * callers. A thread of PTHREAD_STACK_MIN can fork, and its child takes over a mutex, an rwlock and a semaphore.
 */
#include "config.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "libc/unwind.h"
#include "report/details.h"
#include "report/report.h"
#include "report/tally.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>

enum { EVENT_BYTES = 4096 /* what a pipe takes in one piece */ };

const struct fsafe_deed_row fsafe_deed_rows[FSAFE_DEEDS] = {
#define FSAFE_DEED(name, key, words, advice) {key, words, advice},
#include "report/deeds.def"
};

/* The thread's name now; "" if the kernel does not say. */
static void find_thread_name(pid_t pid, pid_t tid, char name[32])
{
    /* In a namespace /proc may be that of an outer one, in which the ids that we know are other threads'. */
    bool is_proc_ours = fsafe_tasks_read(0, fsafe_sys_gettid(), "comm", name, 32) >= 0;
    ssize_t got = pid != 0 && is_proc_ours ? fsafe_tasks_read(pid, tid, "comm", name, 32) : 0;
    name[got > 0 ? got - 1 : 0] = '\0'; /* the kernel ends it with a newline */
}

/* All that a report needs: too much for the stack of a small thread, so that pages are mapped for it. */
struct work {
    char buffer[EVENT_BYTES];
    char paths[FSAFE_PLACES][FSAFE_PATH_BYTES];
    struct fsafe_mapping mappings[FSAFE_PLACES];
    struct fsafe_details details;
    struct fsafe_unwind unwind;
};

static void find_places(struct work *work)
{
    const struct fsafe_event *event = work->details.event;
    struct fsafe_mapping *mappings = work->mappings;
    uintptr_t frames[FSAFE_FRAMES_MOST];
    mappings[FSAFE_LOCK_PLACE].address = event->address;
    mappings[FSAFE_WANTED_PLACE].address = event->wanted_at;
    mappings[FSAFE_SINCE_PLACE].address = event->holder.since;
    mappings[FSAFE_FORK_PLACE].address = event->fork.at;
    unsigned count =
        event->pid != 0 ? 0 : fsafe_unwind_here(&work->unwind, event->wanted_at, frames, fsafe_options.frames);
    for (unsigned i = 0; i < count; i++)
        mappings[FSAFE_WANTED_FRAMES + i].address = frames[i];
    count = fsafe_unwind_vanished(&work->unwind, event->holder.since, event->holder.stack, event->holder.stack_end,
                                  frames, fsafe_options.frames);
    for (unsigned i = 0; i < count; i++)
        mappings[FSAFE_SINCE_FRAMES + i].address = frames[i];
    for (unsigned i = 0; i < FSAFE_PLACES; i++)
        mappings[i].path = work->paths[i];
    fsafe_maps_find(mappings, FSAFE_PLACES);
    const struct fsafe_source *sources[FSAFE_PLACES] = {
        [FSAFE_WANTED_PLACE] = event->wanted_in,
        [FSAFE_SINCE_PLACE] = event->holder.source,
    };
    for (unsigned i = 0; i < FSAFE_PLACES; i++) {
        struct fsafe_place *place = &work->details.places[i];
        /* An interpreter's instruction lies in memory that the program writes: it has a source and no module. */
        if (sources[i] != NULL && mappings[i].found && mappings[i].writable)
            continue;
        fsafe_modules_place(&mappings[i], i != FSAFE_LOCK_PLACE, place);
        if (work->details.new_module_count < FSAFE_NEW_MODULES && place->module[0] != '\0' &&
            work->paths[i][0] == '/' && fsafe_tally_is_new_module(work->paths[i])) {
            struct fsafe_new_module *module = &work->details.new_modules[work->details.new_module_count++];
            module->name = place->module;
            module->path = work->paths[i];
            module->build_id_bytes = fsafe_modules_build_id(place->base, module->build_id);
        }
    }
}

static void put_json_again(struct fsafe_text *text, struct work *work)
{
    fsafe_text_begin(text, work->buffer, EVENT_BYTES - 1);
    fsafe_json_form(text, &work->details);
}

/* A line is one whole object: if it is too long it is made again without frames, then modules, then symbols. */
static void put_json(struct fsafe_text *text, struct work *work)
{
    fsafe_json_form(text, &work->details);
    if (text->cut) {
        for (unsigned i = FSAFE_FORK_PLACE + 1; i < FSAFE_PLACES; i++)
            work->details.places[i].address = 0;
        work->details.wanted_in[1].file[0] = work->details.held_in[1].file[0] = '\0';
        work->details.forked_in[1].file[0] = '\0';
        put_json_again(text, work);
    }
    if (text->cut) {
        work->details.new_module_count = 0;
        put_json_again(text, work);
    }
    if (text->cut) {
        for (unsigned i = 0; i < FSAFE_PLACES; i++)
            work->details.places[i].symbol[0] = '\0';
        put_json_again(text, work);
    }
    text->capacity++; /* for the newline */
}

static bool is_power_of_ten(uint64_t number)
{
    while (number % 10 == 0)
        number /= 10;
    return number == 1;
}

static void tell_without_memory(const struct fsafe_event *event)
{
    char buffer[FSAFE_NOTE_BYTES];
    struct fsafe_text line;
    fsafe_report_begin_note(&line, buffer);
    fsafe_text_put(&line, "%s%s 0x%zx (there is no memory to say more)", fsafe_deed_rows[event->deed].words,
                   event->lock, event->address);
    fsafe_report_end_note(&line);
}

static const struct fsafe_report_sources *_Atomic known_sources;

void fsafe_report_know_sources(const struct fsafe_report_sources *sources)
{
    atomic_store_explicit(&known_sources, sources, memory_order_release);
}

static void find_sources(struct fsafe_event *event, struct fsafe_source *wanted_in, struct fsafe_source *held_in)
{
    const struct fsafe_report_sources *known = atomic_load_explicit(&known_sources, memory_order_acquire);
    if (known == NULL || event->pid != 0)
        return;
    if (event->wanted_in == NULL && known->here(wanted_in, 1) != 0)
        event->wanted_in = wanted_in;
    if (event->holder.source == NULL && known->held(&event->holder, held_in, 1) != 0)
        event->holder.source = held_in;
}

static void find_callers(struct fsafe_details *details, struct fsafe_event *event, bool here, bool held)
{
    const struct fsafe_report_sources *known = atomic_load_explicit(&known_sources, memory_order_acquire);
    unsigned most = 1 + (fsafe_options.frames < FSAFE_CALLERS_MOST ? fsafe_options.frames : FSAFE_CALLERS_MOST);
    if (here)
        known->here(details->wanted_in, most);
    if (known != NULL && event->pid == 0)
        known->lock(event); /* not before: it is slow, and most events are only counted */
    if (known != NULL && event->fork.number != 0)
        known->forked(&event->fork, details->forked_in, most);
    if (held)
        known->held(&event->holder, details->held_in, most);
}

bool fsafe_report_is_new_place(uintptr_t site)
{
    enum { PLACES = 128 }; /* a daemon waits at the same few all day */
    static _Atomic uintptr_t places[PLACES];
    static _Atomic int whose; /* a child begins with a copy of what its parent has named, and names its own */
    static _Atomic bool said;
    int self = fsafe_sys_getpid();
    if (atomic_exchange(&whose, self) != self) {
        for (unsigned i = 0; i < PLACES; i++)
            atomic_store_explicit(&places[i], 0, memory_order_relaxed);
        atomic_store(&said, false);
    }
    const struct fsafe_report_sources *known = atomic_load_explicit(&known_sources, memory_order_acquire);
    if (known != NULL)
        site ^= known->number_here();
    for (unsigned i = 0; i < PLACES; i++) {
        uintptr_t seen = atomic_load_explicit(&places[i], memory_order_relaxed);
        if (seen == 0 && atomic_compare_exchange_strong(&places[i], &seen, site))
            return true;
        if (seen == site)
            return false;
    }
    if (!atomic_exchange(&said, true))
        fsafe_report_note_number("other waits that only a signal handler can end are not named: places named so far: ",
                                 PLACES);
    return false;
}

void fsafe_report_event(const struct fsafe_event *given)
{
    struct fsafe_source wanted_in, held_in;
    struct fsafe_event copy = *given, *event = &copy;
    find_sources(event, &wanted_in, &held_in);
    uint64_t times = fsafe_tally_count(event);
    /* Each child that hangs gets a line; with these settings each event does. */
    bool all = fsafe_options.verbose || fsafe_options.mode == FSAFE_MODE_ABORT ||
               event->deed >= FSAFE_HANGS || event->deed == FSAFE_WOULD_HANG;
    if (!all && !is_power_of_ten(times))
        return;
    struct work *work = fsafe_pages_map(sizeof *work);
    if (work == NULL) {
        tell_without_memory(event);
        return;
    }
    struct fsafe_details *details = &work->details;
    details->event = event;
    details->times = times;
    details->again = times > 1 && !all;
    details->pid = event->pid != 0 ? event->pid : fsafe_sys_getpid();
    details->tid = event->pid != 0 ? event->tid : fsafe_sys_gettid();
    fsafe_sys_clock(CLOCK_REALTIME, &details->when);
    details->fork_age_ms = (uint32_t)(fsafe_sys_now_ns() / 1000000) - event->fork.when_ms;
    details->colored = fsafe_options.colors && fsafe_report_is_on_terminal();
    find_callers(details, event, event->wanted_in == &wanted_in, event->holder.source == &held_in);
    find_places(work);
    FSAFE_SYS(SYS_prctl, PR_GET_NAME, details->own_name);
    /* The present name, if the thread still runs: programs usually name a thread after its first lock. */
    find_thread_name(event->holder.pid, event->holder.tid, details->holder_name);
    if (details->holder_name[0] == '\0')
        memcpy(details->holder_name, event->holder.name, sizeof event->holder.name);
    struct fsafe_text text;
    fsafe_text_begin(&text, work->buffer, EVENT_BYTES - 1);
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        put_json(&text, work);
    else
        fsafe_text_form(&text, details);
    fsafe_text_end_line(&text);
    fsafe_report_send(&text);
    fsafe_pages_unmap(work, sizeof *work);
}
