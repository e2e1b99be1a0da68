/*
 * wrap/call: enters and leaves the region of a libc call. Out of line, because there are hundreds of such wrappers:
 * each says which row it is and gets the function to call.
 */
#pragma once

#include "track/region.h"
#include "wrap/next.h"

/* The row's index, and the region. */
#define FSAFE_CALL_OF(region, name) (FSAFE_ROW(name) | (unsigned)FSAFE_REGION_##region << 16)

/*
 * Enters the region of the call from `frame`, the wrapper's, and returns the function to call, never NULL. In a child
 * it warns if the call may hang, or gives the call a net.
 */
void *fsafe_call_enter(unsigned call, uintptr_t frame, uintptr_t site);

/* Enters the region of a call `what` that has a stand-in. Returns whether that has to do the work, not libc. */
bool fsafe_call_needs_standin(enum fsafe_region region, const char *what, uintptr_t frame, uintptr_t site);

/* Leaves the region that was entered from this frame, and takes the call's net away. Returns `answer`. */
uintptr_t fsafe_call_leave(uintptr_t answer, uintptr_t frame, enum fsafe_region region);

#define FSAFE_FRAME() ((uintptr_t)__builtin_frame_address(0))
#define FSAFE_NEEDS_STANDIN(region, what) \
    fsafe_call_needs_standin(FSAFE_REGION_##region, what, FSAFE_FRAME(), FSAFE_CALLER())
/* Returns the row's next definition. */
#define FSAFE_ENTER_CALL(region, name) \
    ((__typeof__(name) *)fsafe_call_enter(FSAFE_CALL_OF(region, name), FSAFE_FRAME(), FSAFE_CALLER()))
#define FSAFE_LEAVE_CALL(answer, region) fsafe_call_leave((uintptr_t)(answer), FSAFE_FRAME(), FSAFE_REGION_##region)

/*
 * The rest of a wrapper that does no more than make the call, inside the region. The answer goes through leave, because
 * a jump to that is shorter than a call; on 32 bits an answer of 64 does not.
 */
#define FSAFE_RETURN_CALL(region, result, name, arguments)              \
    do {                                                                \
        result answer = FSAFE_ENTER_CALL(region, name) arguments;       \
        uintptr_t passed = FSAFE_LEAVE_CALL(answer, region);            \
        return sizeof answer > sizeof passed ? answer : (result)passed; \
    } while (0)
