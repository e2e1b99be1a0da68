/*
 * wrap/call: enters and leaves the region of a libc call. Out of line, because there are hundreds of such wrappers:
 * each says which row it is and gets the function to call.
 */
#pragma once

#include "track/region.h"
#include "wrap/next.h"

#include <stdbool.h>
#include <stddef.h>

/* The row's index, and the region. */
#define FSAFE_CALL_OF(region, name) \
    ((unsigned)(offsetof(struct fsafe_next, name) / sizeof(void *)) | (unsigned)FSAFE_REGION_##region << 16)

struct fsafe_call {
    void *next;   /* the function to call, never NULL */
    bool rescues; /* a rescue was begun: see repair/rescue.h */
};

/*
 * Enters the region of the call from `frame`, the wrapper's. In a child it warns if the call may hang, or gives the
 * call a net.
 */
struct fsafe_call fsafe_call_enter(unsigned call, uintptr_t frame, uintptr_t site);

/* Leaves the region that was entered from this frame. */
void fsafe_call_leave(enum fsafe_region region, uintptr_t frame, bool rescues);

#define FSAFE_FRAME() ((uintptr_t)__builtin_frame_address(0))
#define FSAFE_ENTER_CALL(region, name) fsafe_call_enter(FSAFE_CALL_OF(region, name), FSAFE_FRAME(), FSAFE_CALLER())
#define FSAFE_LEAVE_CALL(region, call) fsafe_call_leave(FSAFE_REGION_##region, FSAFE_FRAME(), (call).rescues)

/* The row's next definition inside a call that was entered. */
#define FSAFE_INSIDE(call, name) ((__typeof__(name) *)(call).next)

/* The rest of a wrapper that does no more than make the call, inside the region. */
#define FSAFE_RETURN_CALL(region, result, name, arguments)         \
    const struct fsafe_call call = FSAFE_ENTER_CALL(region, name); \
    result answer = FSAFE_INSIDE(call, name) arguments;            \
    FSAFE_LEAVE_CALL(region, call);                                \
    return answer

/* Binds all rows: for programs in which a checker watches all writes of threads. Context: start-up. */
void fsafe_call_bind_all(void);
