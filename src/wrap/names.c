/*
 * wrap/names: getpwnam & co, which hold a lock while they ask. libc does the work, except in a child in which a
 * vanished thread may hold that lock.
 */
#include "config.h"

#include "wrap/call.h"

#define FSAFE_NAMES(type, function, parameters, ...)                                            \
    FSAFE_EXPORT type *function parameters                                                      \
    {                                                                                           \
        type *found = FSAFE_NEEDS_STANDIN(NSS, #function) ? fsafe_names_##function(__VA_ARGS__) \
                                                          : FSAFE_NEXT(function)(__VA_ARGS__);  \
        FSAFE_LEAVE_CALL(NSS);                                                                  \
        return found;                                                                           \
    }

#include "standin/names.def"
