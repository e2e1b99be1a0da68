/* report/summary: what happened in the whole process tree, when its first process ends. */
#include "config.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "report/details.h"
#include "report/report.h"
#include "report/tally.h"

enum { SUMMARY_BYTES = 4096, TOP = 5 };

static const struct {
    const char *key, *words;
} totals[FSAFE_TOTALS] = {
#define FSAFE_TOTAL(name, key, words) {key, words},
#include "report/tally.def"
};

/* The kind at `rank` when kinds are sorted by count, or NULL. */
static const struct fsafe_kind *find_frequent(unsigned rank)
{
    uint64_t below = UINT64_MAX;
    size_t last = 0; /* of kinds with the count `below`, those up to this index have a smaller rank */
    const struct fsafe_kind *best = NULL;
    for (unsigned i = 0; i <= rank; i++) {
        best = NULL;
        for (size_t at = 0; at < FSAFE_KINDS; at++) {
            const struct fsafe_kind *kind = &fsafe_tally->kinds[at];
            bool had = kind->count > below || (kind->count == below && at <= last);
            if (kind->count > 0 && !had && (best == NULL || kind->count > best->count))
                best = kind;
        }
        if (best == NULL)
            return NULL;
        below = best->count;
        last = (size_t)(best - fsafe_tally->kinds);
    }
    return best;
}

static void put_place(struct fsafe_text *text, const char *source, const struct fsafe_mapping *mapping)
{
    struct fsafe_place place;
    if (source[0] != '\0') {
        fsafe_text_string(text, source);
        return;
    }
    fsafe_modules_place(mapping, true, &place);
    fsafe_text_place(text, &place);
}

static void put_text(struct fsafe_text *text)
{
    fsafe_text_put(text, "forksafe[%d] in all:", fsafe_sys_getpid());
    for (unsigned i = 0; i < FSAFE_TOTALS; i++)
        fsafe_text_put(text, "%s%lu %s", i == 0 ? " " : ", ", (unsigned long)fsafe_tally->totals[i], totals[i].words);
    for (unsigned i = 0; i < FSAFE_DEEDS; i++)
        if (fsafe_tally->deeds[i] != 0)
            fsafe_text_put(text, ", %lu %s", (unsigned long)fsafe_tally->deeds[i], fsafe_deed_rows[i].key);
    for (unsigned i = 0; i < TOP; i++) {
        const struct fsafe_kind *kind = find_frequent(i);
        if (kind == NULL)
            return;
        struct fsafe_mapping mappings[] = {{.address = kind->wanted_at}, {.address = kind->since}};
        fsafe_maps_find(mappings, 2);
        fsafe_text_put(text, "\n    %lu times %s, wanted in ", (unsigned long)kind->count,
                       fsafe_deed_rows[kind->deed].key);
        put_place(text, kind->wanted_in, &mappings[0]);
        if (kind->since == 0)
            continue;
        fsafe_text_string(text, ", held since ");
        put_place(text, kind->held_in, &mappings[1]);
    }
}

static void put_json(struct fsafe_text *text)
{
    fsafe_text_put(text, "{\"event\":\"summary\",\"pid\":%d", fsafe_sys_getpid());
    for (unsigned i = 0; i < FSAFE_TOTALS; i++)
        fsafe_text_put(text, ",\"%s\":%lu", totals[i].key, (unsigned long)fsafe_tally->totals[i]);
    for (unsigned i = 0; i < FSAFE_DEEDS; i++)
        fsafe_text_put(text, ",\"%s\":%lu", fsafe_deed_rows[i].key, (unsigned long)fsafe_tally->deeds[i]);
    fsafe_text_char(text, '}');
}

void fsafe_report_summary(void)
{
    char *buffer = fsafe_pages_map(SUMMARY_BYTES);
    struct fsafe_text text;
    if (buffer == NULL)
        return;
    fsafe_text_begin(&text, buffer, SUMMARY_BYTES);
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        put_json(&text);
    else
        put_text(&text);
    fsafe_text_end_line(&text);
    fsafe_report_send(&text);
    fsafe_pages_unmap(buffer, SUMMARY_BYTES);
}
