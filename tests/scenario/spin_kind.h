/* Spin locks and the calls that take them: one template for all spin_*.c. */
#ifndef SPIN_KIND_H
#define SPIN_KIND_H

#include "scenario.h"

#include <stdint.h>

static inline int spin_lock(void *spin)
{
    return pthread_spin_lock(spin);
}

static inline int spin_trylock(void *spin)
{
    return pthread_spin_trylock(spin);
}

static inline int spin_unlock(void *spin)
{
    return pthread_spin_unlock(spin);
}

enum { SPIN_ENTRIES = 2 };

static const struct scn_entry spin_entries[SPIN_ENTRIES] = {
    {"lock", spin_lock, "hangs"},
    {"trylock", spin_trylock, "fails EBUSY"},
};

static inline int spin_try_and_unlock(void *spin)
{
    const int error = pthread_spin_trylock(spin);
    if (error == 0)
        SCN_IS(pthread_spin_unlock(spin), 0);
    return error;
}

static inline void spin_check_free(pthread_spinlock_t *spin)
{
    SCN_IS(scn_elsewhere(spin_try_and_unlock, (void *)(uintptr_t)spin), 0);
}

static inline void spin_check_held(pthread_spinlock_t *spin)
{
    SCN_IS(scn_elsewhere(spin_try_and_unlock, (void *)(uintptr_t)spin), EBUSY);
}

static inline void spin_use(scn_call *take, pthread_spinlock_t *spin)
{
    SCN_IS(take((void *)(uintptr_t)spin), 0);
    SCN_IS(pthread_spin_trylock(spin), EBUSY);
    spin_check_held(spin);
    SCN_IS(pthread_spin_unlock(spin), 0);
    spin_check_free(spin);
    scn_exclusion(spin_lock, spin_unlock, (void *)(uintptr_t)spin, 4, 1000);
    spin_check_free(spin);
}

#define SPIN_TAKEN "^forksafe\\[\\d+\\.\\d+\\] child took over spin lock 0x[0-9a-f]+ "
#define SPIN_FROM_WORKER SPIN_TAKEN ".* for .* held at fork by \\d+ \"worker\" since .* fork 1 by"

#endif
