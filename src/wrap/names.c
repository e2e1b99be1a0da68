/*
 * wrap/names: getpwnam & co, which hold a lock while they ask. libc does the work, except in a child in which a
 * vanished thread may hold that lock.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "standin/names.h"
#include "standin/standin.h"
#include "wrap/next.h"

#define FSAFE_NAMES(type, function, parameters, ...)                             \
    FSAFE_EXPORT type *function parameters                                       \
    {                                                                            \
        uintptr_t site = FSAFE_CALLER();                                         \
        fsafe_region_enter(FSAFE_REGION_NSS, site);                              \
        fsafe_fork_notice();                                                     \
        type *found = fsafe_standin_is_needed(FSAFE_REGION_NSS, #function, site) \
                          ? fsafe_names_##function(__VA_ARGS__)                  \
                          : FSAFE_NEXT(function)(__VA_ARGS__);                   \
        fsafe_region_leave(FSAFE_REGION_NSS);                                    \
        return found;                                                            \
    }

#include "standin/names.def"
