/* wrap/row: how the types in a row of regions.def become parameters and arguments. */
#pragma once

/*
 * The parameters, "(int p1, char *p2)" or "(void)"; the arguments that pass them on, "(p1, p2)".
 */
#define FSAFE_PARAMETERS(...) \
    (FSAFE_COUNTED(FSAFE_TYPED_, ##__VA_ARGS__)(__VA_ARGS__))
#define FSAFE_ARGUMENTS(...) (FSAFE_GIVEN(__VA_ARGS__))
#define FSAFE_COUNTED(what, ...) FSAFE_BY_COUNT(what, ##__VA_ARGS__, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
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

/*
 * For a function that takes a call's arguments as words: returns what `with` returns, or its form with ten words if
 * there are more than four of them. A C function ignores arguments that it does not have. The pointer `pass` has the
 * types of the row, so that no argument and no result is converted: each is one word, of which the callee looks at what
 * it knows (on 32 bits a result may be two words, as that of `with` is).
 */
#define FSAFE_RETURN_PASSED(with, call, result, ...)                                                  \
    result (*pass)(__VA_ARGS__ FSAFE_FILL(long, ##__VA_ARGS__) unsigned, uintptr_t) =                 \
        FSAFE_COUNTED(, ##__VA_ARGS__) > 4 ? (void *)with##_ten : (void *)with; \
    return pass(FSAFE_GIVEN(__VA_ARGS__) FSAFE_FILL(0, ##__VA_ARGS__) call, FSAFE_CALLER())
#define FSAFE_GIVEN(...) FSAFE_COUNTED(FSAFE_PASSED_, ##__VA_ARGS__)
#define FSAFE_FILL(word, ...) FSAFE_COUNTED(FSAFE_FILL_, ##__VA_ARGS__)(word)
#define FSAFE_FILL_0(w) w, w, w, w,
#define FSAFE_FILL_1(w) , w, w, w,
#define FSAFE_FILL_2(w) , w, w,
#define FSAFE_FILL_3(w) , w,
#define FSAFE_FILL_4(w) ,
#define FSAFE_FILL_5(w) , w, w, w, w, w,
#define FSAFE_FILL_6(w) , w, w, w, w,
#define FSAFE_FILL_7(w) , w, w, w,
#define FSAFE_FILL_8(w) , w, w,
#define FSAFE_FILL_9(w) , w,
#define FSAFE_FILL_10(w) ,
