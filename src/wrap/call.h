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

/* Leaves the region that was entered from this frame, and takes the call's net away. */
void fsafe_call_leave(uintptr_t frame, enum fsafe_region region);

#define FSAFE_FRAME() ((uintptr_t)__builtin_frame_address(0))
#define FSAFE_NEEDS_STANDIN(region, what) \
    fsafe_call_needs_standin(FSAFE_REGION_##region, what, FSAFE_FRAME(), FSAFE_CALLER())
/* Returns the row's next definition. */
#define FSAFE_ENTER_CALL(region, name) \
    ((__typeof__(name) *)fsafe_call_enter(FSAFE_CALL_OF(region, name), FSAFE_FRAME(), FSAFE_CALLER()))
#define FSAFE_LEAVE_CALL(region) fsafe_call_leave(FSAFE_FRAME(), FSAFE_REGION_##region)

/* The rest of a wrapper that does no more than make the call, inside the region. */
#define FSAFE_RETURN_CALL(region, result, name, arguments)        \
    do {                                                          \
        result answer = FSAFE_ENTER_CALL(region, name) arguments; \
        FSAFE_LEAVE_CALL(region);                                 \
        return answer;                                            \
    } while (0)

/*
 * The same for FSAFE_RETURN_PASSED: makes the call inside its region. Returns what it returns, on 32 bits two words, of
 * which most calls set the first. A wrapper is no more than a jump to this.
 */
typedef uint64_t fsafe_call_of_four(uintptr_t, uintptr_t, uintptr_t, uintptr_t);
uint64_t fsafe_call_pass(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, unsigned call, uintptr_t site);
uint64_t fsafe_call_pass_ten(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f, uintptr_t g,
                             uintptr_t h, uintptr_t i, uintptr_t j, unsigned call, uintptr_t site);
