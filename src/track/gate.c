/* track/gate: see gate.h. */
#include "config.h"

#include "base/sys.h"
#include "track/gate.h"

#include <stdatomic.h>

enum { NOTES = 4096 };
static struct {
    _Atomic pid_t pid;
    _Atomic unsigned inside[FSAFE_REGIONS];
} notes[NOTES];
static _Atomic unsigned count = 1;
static __thread unsigned mine __attribute__((tls_model("initial-exec")));

struct fsafe_visit fsafe_gate_enter(enum fsafe_region region, uintptr_t site)
{
    (void)site;
    if (mine == 0)
        mine = atomic_fetch_add(&count, 1) % NOTES;
    atomic_store(&notes[mine].pid, fsafe_sys_getpid());
    atomic_fetch_add(&notes[mine].inside[region], 1);
    return (struct fsafe_visit){.region = region};
}

void fsafe_gate_leave(const struct fsafe_visit *visit)
{
    atomic_fetch_sub(&notes[mine].inside[visit->region], 1);
}

bool fsafe_gate_vanished_inside(enum fsafe_region region)
{
    pid_t self = fsafe_sys_getpid();
    for (unsigned i = 1; i < NOTES && i < atomic_load(&count); i++)
        if (i != mine && atomic_load(&notes[i].inside[region]) != 0 && atomic_load(&notes[i].pid) != self)
            return true;
    return false;
}
