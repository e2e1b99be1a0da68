#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "repair/loader.h"
#include "standin/standin.h"
#include "report/report.h"
#include "report/tally.h"
#include "track/handle.h"
#include "track/thread.h"

/*
 * In which regions a thread may have a lock that a call of this region needs; 0: in this region only. syslog puts the
 * local time into a message and may translate a %m. A thread that reads messages (gettext) holds up a change of the
 * locale, and holds up other readers only while it loads a catalogue; after a drain only such a reader may be inside.
 */
static const uint32_t needs[FSAFE_REGIONS] = {
    [FSAFE_REGION_SYSLOG] = FSAFE_REGION_BIT(FSAFE_REGION_SYSLOG) | FSAFE_REGION_BIT(FSAFE_REGION_TIME_ZONE) |
                            FSAFE_REGION_BIT(FSAFE_REGION_LOCALE),
    [FSAFE_REGION_LOCALE] = FSAFE_REGION_BIT(FSAFE_REGION_LOCALE) | FSAFE_REGION_BIT(FSAFE_REGION_GETTEXT),
    [FSAFE_REGION_GETTEXT] = FSAFE_REGION_BIT(FSAFE_REGION_LOCALE),
    [FSAFE_REGION_SELDOM] = FSAFE_REGION_BIT(FSAFE_REGION_LOCALE),
};

/* For each region, the generation of the latest line about a stand-in. */
static _Atomic uint32_t told[FSAFE_REGIONS];

static uint32_t vanished_inside(enum fsafe_region region)
{
    uint32_t own = FSAFE_REGION_BIT(region);
    bool with_own = needs[region] == 0 || fsafe_options.mode == FSAFE_MODE_REPAIR;
    uint32_t asked = needs[region] | (with_own ? own : 0);
    return fsafe_region_vanished_inside() & asked;
}

static void tell(enum fsafe_deed deed, uint32_t regions, const char *what, uintptr_t site)
{
    struct fsafe_event event = {
        .deed = deed, .lock = "the C library's lock", .kind = what, .in_use = true, .wanted_at = site};
    fsafe_region_name_vanished(regions, &event);
    fsafe_report_event(&event);
}

static FSAFE_COLD void tell_of_standin(enum fsafe_region region, const char *what, uintptr_t site)
{
    uint32_t now = fsafe_lineage_generation();
    if (atomic_exchange_explicit(&told[region], now, memory_order_relaxed) == now)
        return;
    tell(fsafe_options.mode == FSAFE_MODE_REPAIR ? FSAFE_WENT_ROUND : FSAFE_WOULD_HANG, vanished_inside(region), what,
         site);
    if (fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
}

bool fsafe_standin_is_needed(enum fsafe_region region, const char *what, uintptr_t site)
{
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || FSAFE_LIKELY(vanished_inside(region) == 0))
        return false;
    tell_of_standin(region, what, site);
    return fsafe_options.mode == FSAFE_MODE_REPAIR;
}

static FSAFE_COLD void warn(enum fsafe_region region, const char *what, uintptr_t site)
{
    bool mostly_free = region >= FSAFE_REGION_MOSTLY_FREE;
    bool ends = fsafe_options.mode == FSAFE_MODE_ABORT && !mostly_free;
    /* After a drain only a thread that sleeps or works for long is inside: in these regions probably without a lock. */
    if (region == FSAFE_REGION_SELDOM || (mostly_free && fsafe_options.mode == FSAFE_MODE_REPAIR))
        return;
    bool again = (atomic_fetch_or_explicit(&fsafe_tally->warned, FSAFE_REGION_BIT(region), memory_order_relaxed) &
                  FSAFE_REGION_BIT(region)) != 0;
    if (!again || ends)
        tell(ends ? FSAFE_WOULD_HANG : FSAFE_MAY_HANG, vanished_inside(region), what, site);
    if (ends)
        fsafe_sys_abort();
}

/*
 * Whether the call needs a lock that threads take without a record. A thread of libc's own takes the lock of timers
 * when a timer expires; a thread that prints a %m, or calls error(), takes the lock of the locale.
 */
static bool may_wait_for_the_unrecorded(enum fsafe_region region)
{
    return region == FSAFE_REGION_TIMER || (region == FSAFE_REGION_LOCALE && fsafe_handle_was_any_created());
}

void fsafe_standin_warn(enum fsafe_region region, const char *what, uintptr_t site, uintptr_t frame)
{
    uint32_t inside = vanished_inside(region);
    if ((FSAFE_LIKELY(inside == 0) && !may_wait_for_the_unrecorded(region)) ||
        (region == FSAFE_REGION_LOADER && fsafe_loader_is_free()))
        return;
    const struct fsafe_rescued call = {
        .region = region, .regions = inside, .what = what, .site = site, .frame = frame};
    if (!fsafe_rescue_begin(&call) && inside != 0)
        warn(region, what, site);
}
