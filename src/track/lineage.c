/*
 * Measured. Chromium's zygote makes its children by clone() past the handlers and a longjmp. A child writes its new id
 * into libc's thread descriptor and then asks libc, by a recursive mutex, who it is. With an owner remembered from
 * before, every child ended in a CHECK. Its sandbox traps newfstatat (its handler says EPERM) and ends a process that
 * calls unshare. A SIGSYS that is blocked when a filter raises it ends the process, except, under strace, the first
 * process of a namespace.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/pages.h"
#include "base/sys.h"
#include "track/lineage.h"

_Atomic uint32_t fsafe_generation FSAFE_FORK_STATE = 1;

static _Atomic uint32_t not_wiped = FSAFE_ADOPTED;
_Atomic uint32_t *fsafe_adopted = &not_wiped;

static pid_t pid FSAFE_FORK_STATE;

/* The latest forks, by the generation they ended. */
enum { KEEP_FORKS = 16 };
static struct {
    uint32_t generation;
    struct fsafe_fork fork;
} forks[KEEP_FORKS] FSAFE_FORK_STATE;

void fsafe_lineage_start(pid_t self)
{
    pid = self;
    bool emulated;
    _Atomic uint32_t *wiped = fsafe_pages_map_wiped(&emulated);
    if (emulated) {
        not_wiped = FSAFE_UNKNOWABLE;
        fsafe_sys_know_emulator();
    }
    if (wiped != NULL) {
        atomic_store_explicit(wiped, FSAFE_ADOPTED, memory_order_relaxed);
        fsafe_adopted = wiped;
    }
}

pid_t fsafe_lineage_pid(void)
{
    return pid;
}

bool fsafe_lineage_has(uint64_t thread)
{
    return thread >> 32 == fsafe_lineage_generation() && fsafe_sys_thread_alive(pid, (pid_t)(uint32_t)thread);
}

bool fsafe_lineage_is_new(void)
{
    return atomic_load_explicit(fsafe_adopted, memory_order_relaxed) != FSAFE_UNKNOWABLE || fsafe_sys_getpid() != pid;
}

bool fsafe_lineage_is_guest(void)
{
    return fsafe_adopted != &not_wiped && !fsafe_lineage_is_unadopted() && fsafe_sys_getpid() != pid;
}

bool fsafe_lineage_begin_adoption(void)
{
    /* Not read before it is written: in a child that would be two page faults. */
    if (fsafe_adopted == &not_wiped)
        return fsafe_lineage_is_new();
    if (atomic_exchange_explicit(fsafe_adopted, FSAFE_ADOPTING, memory_order_relaxed) != FSAFE_ADOPTED)
        return true;
    atomic_store_explicit(fsafe_adopted, FSAFE_ADOPTED, memory_order_relaxed);
    return false;
}

void fsafe_lineage_adopted(const struct fsafe_fork *fork)
{
    pid = fsafe_sys_getpid();
    uint32_t ended = fsafe_lineage_generation() - 1;
    forks[ended % KEEP_FORKS].generation = ended;
    forks[ended % KEEP_FORKS].fork = *fork;
    if (fsafe_adopted != &not_wiped)
        atomic_store_explicit(fsafe_adopted, FSAFE_ADOPTED, memory_order_relaxed);
}

struct fsafe_fork fsafe_lineage_fork_after(uint32_t generation)
{
    return forks[generation % KEEP_FORKS].generation == generation ? forks[generation % KEEP_FORKS].fork
                                                                   : (struct fsafe_fork){.number = 0};
}

struct fsafe_fork fsafe_lineage_latest_fork(void)
{
    return fsafe_lineage_fork_after(fsafe_lineage_generation() - 1);
}
