#include "config.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/patterns.h"
#include "libc/modules.h"
#include "repair/policy.h"

enum { PLACES = 3 };

/* Mapped, because it is too much for the stack of a small thread. */
struct work {
    struct fsafe_mapping mappings[PLACES];
    struct fsafe_place places[PLACES];
};

static bool is_named(const struct work *work, const char *patterns)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (fsafe_patterns_match(patterns, work->places[i].module) ||
            fsafe_patterns_match(patterns, work->places[i].symbol))
            return true;
    return false;
}

const char *fsafe_policy_objection(const struct fsafe_event *event)
{
    const char *exclude = fsafe_options.exclude, *only = fsafe_options.only;
    if (exclude[0] == '\0' && only[0] == '\0')
        return NULL;
    struct work *work = fsafe_pages_map(sizeof *work);
    if (work == NULL)
        return "there is no memory to compare it with FORKSAFE_EXCLUDE and FORKSAFE_ONLY";
    work->mappings[0].address = event->address;
    work->mappings[1].address = event->wanted_at;
    work->mappings[2].address = event->holder.since;
    fsafe_maps_find(work->mappings, PLACES);
    for (unsigned i = 0; i < PLACES; i++)
        if (work->mappings[i].address != 0)
            fsafe_modules_place(&work->mappings[i], i != 0, &work->places[i]);
    const char *objection = NULL;
    if (exclude[0] != '\0' && is_named(work, exclude))
        objection = "FORKSAFE_EXCLUDE names it";
    else if (only[0] != '\0' && !is_named(work, only))
        objection = "FORKSAFE_ONLY does not name it";
    fsafe_pages_unmap(work, sizeof *work);
    return objection;
}
