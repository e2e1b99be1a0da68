/* libc/layout-unknown: see layout-unknown.h. */
#include "config.h"

#include "base/sys.h"
#include "libc/layout.h"

struct fsafe_layout fsafe_layout = {.in_place = -1};

void fsafe_layout_self_test(const struct fsafe_layout_calls *calls)
{
    (void)calls;
}

int fsafe_layout_probe_owner(const struct fsafe_layout_calls *calls)
{
    (void)calls;
    return fsafe_sys_gettid();
}
