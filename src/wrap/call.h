/*
 * wrap/call: a call of libc's that is made inside a region. Out of line, because there are hundreds of them: a wrapper
 * says which call it is and gets the function to call.
 */
#pragma once

#include "track/region.h"
#include "wrap/next.h"

#include <stdbool.h>
#include <stddef.h>

/* A row's place among the rows, and the region. */
#define FSAFE_CALL_OF(region, name) \
    ((unsigned)(offsetof(struct fsafe_next, name) / sizeof(void *)) | (unsigned)FSAFE_REGION_##region << 16)

struct fsafe_call {
    void *next;   /* the function to call, never NULL */
    bool rescues; /* a rescue was begun: see repair/rescue.h */
};

/* Says so if the call may hang, and enters its region from `frame`, which belongs to the wrapper. */
struct fsafe_call fsafe_call_enter(unsigned call, uintptr_t frame, uintptr_t site);

/* Leaves what was entered in the same frame. */
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

/*
 * What a row of regions.def says in types: the parameters, "(int p1, char *p2)" or "(void)"; the arguments that pass
 * them on, "(p1, p2)"; one of them, by its number.
 */
#define FSAFE_PARAMETERS(...) \
    (FSAFE_BY_COUNT(FSAFE_TYPED_, ##__VA_ARGS__, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)(__VA_ARGS__))
#define FSAFE_ARGUMENTS(...) (FSAFE_BY_COUNT(FSAFE_PASSED_, ##__VA_ARGS__, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
#define FSAFE_PARAMETER(number) p##number
#define FSAFE_BY_COUNT(what, a, b, c, d, e, f, g, h, i, j, count, ...) what##count
#define FSAFE_TYPED_0() void
#define FSAFE_TYPED_1(a) a p1
#define FSAFE_TYPED_2(a, b) FSAFE_TYPED_1(a), b p2
#define FSAFE_TYPED_3(a, b, c) FSAFE_TYPED_2(a, b), c p3
#define FSAFE_TYPED_4(a, b, c, d) FSAFE_TYPED_3(a, b, c), d p4
#define FSAFE_TYPED_5(a, b, c, d, e) FSAFE_TYPED_4(a, b, c, d), e p5
#define FSAFE_TYPED_6(a, b, c, d, e, f) FSAFE_TYPED_5(a, b, c, d, e), f p6
#define FSAFE_TYPED_7(a, b, c, d, e, f, g) FSAFE_TYPED_6(a, b, c, d, e, f), g p7
#define FSAFE_TYPED_8(a, b, c, d, e, f, g, h) FSAFE_TYPED_7(a, b, c, d, e, f, g), h p8
#define FSAFE_TYPED_9(a, b, c, d, e, f, g, h, i) FSAFE_TYPED_8(a, b, c, d, e, f, g, h), i p9
#define FSAFE_TYPED_10(a, b, c, d, e, f, g, h, i, j) FSAFE_TYPED_9(a, b, c, d, e, f, g, h, i), j p10
#define FSAFE_PASSED_0
#define FSAFE_PASSED_1 p1
#define FSAFE_PASSED_2 FSAFE_PASSED_1, p2
#define FSAFE_PASSED_3 FSAFE_PASSED_2, p3
#define FSAFE_PASSED_4 FSAFE_PASSED_3, p4
#define FSAFE_PASSED_5 FSAFE_PASSED_4, p5
#define FSAFE_PASSED_6 FSAFE_PASSED_5, p6
#define FSAFE_PASSED_7 FSAFE_PASSED_6, p7
#define FSAFE_PASSED_8 FSAFE_PASSED_7, p8
#define FSAFE_PASSED_9 FSAFE_PASSED_8, p9
#define FSAFE_PASSED_10 FSAFE_PASSED_9, p10

/* Binds every row now: for programs in which a checker watches all that threads write. Context: start-up. */
void fsafe_call_bind_all(void);
