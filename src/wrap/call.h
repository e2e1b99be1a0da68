/*
 * wrap/call: a call of libc's that is made inside a region. Out of line, because there are hundreds of them: a wrapper
 * hands over which call it is, and gets back whom to call.
 */
#ifndef FSAFE_WRAP_CALL_H
#define FSAFE_WRAP_CALL_H

#include "track/gate.h"
#include "wrap/next.h"

#include <stddef.h>

/* A row's place among the rows, and the region. */
#define FSAFE_CALL_OF(region, name) \
    ((unsigned)(offsetof(struct fsafe_next, name) / sizeof(void *)) | (unsigned)FSAFE_REGION_##region << 16)

/*
 * Says so if the call may hang, and enters its region from `frame`, which belongs to the wrapper. Returns the row's
 * next definition, never NULL. Context: any thread.
 */
void *fsafe_call_enter(unsigned call, uintptr_t frame, uintptr_t site);

/* Leaves what was entered by the same call in the same frame. */
void fsafe_call_leave(unsigned call, uintptr_t frame);

#define FSAFE_ENTER_CALL(region, name)                                                                    \
    ((__typeof__(name) *)fsafe_call_enter(FSAFE_CALL_OF(region, name), (uintptr_t)__builtin_frame_address(0), \
                                          FSAFE_CALLER()))
#define FSAFE_LEAVE_CALL(region, name) \
    fsafe_call_leave(FSAFE_CALL_OF(region, name), (uintptr_t)__builtin_frame_address(0))

#endif
