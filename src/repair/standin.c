/* repair/standin: see standin.h. */
#include "config.h"

#include "base/compiler.h"
#include "base/options.h"
#include "base/sys.h"
#include "repair/standin.h"
#include "report/report.h"
#include "track/lineage.h"

/* The generation in which the line was last written, for each region. */
static _Atomic uint32_t told[FSAFE_REGIONS];

static FSAFE_COLD void tell(enum fsafe_region region, const char *what, uintptr_t site)
{
    bool repairs = fsafe_options.mode == FSAFE_MODE_REPAIR;
    uint32_t now = fsafe_lineage_generation();
    if (atomic_exchange_explicit(&told[region], now, memory_order_relaxed) == now)
        return;
    fsafe_report_event(&(const struct fsafe_event){
        .deed = repairs ? FSAFE_WENT_ROUND : FSAFE_WOULD_HANG,
        .lock = "the C library's lock",
        .kind = what,
        .wanted_at = site,
        .fork = fsafe_lineage_fork_after(now - 1),
    });
    if (fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
}

bool fsafe_standin_is_needed(enum fsafe_region region, const char *what, uintptr_t site)
{
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || !fsafe_gate_vanished_inside(region))
        return false;
    tell(region, what, site);
    return fsafe_options.mode == FSAFE_MODE_REPAIR;
}
