/*
 * wrap/wide: locales, and the calls that look for a locale's converters when they first need them: conversions and wide
 * streams. Rows of regions.def, and the variadic functions.
 *
 * Measured. Conversions (mbrtowc ...) take the locks of setlocale and iconv the first time that a locale is used, wide
 * streams when they become wide. So conversions are gated only once a process with threads has called setlocale or
 * newlocale; before that a row costs a load. In the case wide of storm/libc 4 of 60 children hang without the library,
 * 0 of 300 with it.
 */
#include "config.h"

/* If not, <wchar.h> defines some of these functions inline. */
#ifndef __NO_INLINE__
#define __NO_INLINE__ 1
#endif

#include "libc/late.h"
#include "wrap/call.h"
#include "wrap/descriptor.h"
#include "wrap/undeclared.h"

#include <stdatomic.h>
#include <string.h>

/*
 * Whether a process with threads has changed a locale. One that does so before its threads need not pay for
 * conversions.
 */
static _Atomic bool locales_move;

static void note_change(void)
{
    if (!FSAFE_SINGLE_THREADED())
        atomic_store_explicit(&locales_move, true, memory_order_relaxed);
}

FSAFE_EXPORT char *setlocale(int category, const char *locale)
{
    if (locale != NULL)
        note_change();
    FSAFE_RETURN_CALL(LOCALE, char *, setlocale, (category, locale));
}

FSAFE_EXPORT locale_t newlocale(int mask, const char *name, locale_t base)
{
    note_change();
    FSAFE_RETURN_CALL(LOCALE, locale_t, newlocale, (mask, name, base));
}

FSAFE_DEFINE_ALIAS(__newlocale, newlocale);

#define FSAFE_CALL(region, result, name, ...)
#define FSAFE_OTHER(name, of)

#define FSAFE_CONVERT(result, name, ...)                                                                              \
    FSAFE_EXPORT result name FSAFE_PARAMETERS(__VA_ARGS__)                                                            \
    {                                                                                                                 \
        if (FSAFE_LIKELY(!atomic_load_explicit(&locales_move, memory_order_relaxed) && fsafe_next.name != NULL))      \
            return fsafe_next.name FSAFE_ARGUMENTS(__VA_ARGS__);                                                      \
        FSAFE_RETURN_PASSED(fsafe_call_pass, FSAFE_CALL_OF(SELDOM, name), result, ##__VA_ARGS__);                     \
    }

static bool is_oriented(FILE *stream)
{
    return FSAFE_NEXT(fwide)(stream, 0) != 0;
}

/* Where a call has its stream, above the call's region: a parameter, or what stands for stdin and stdout. */
enum { STREAM_1, STREAM_2, STREAM_3, STREAM_4, STREAM_IN, STREAM_OUT, STREAM_SHIFT = 24 };
static _Atomic bool has_become_wide[2]; /* stdin, stdout */

static FSAFE_APART uint64_t to_stream(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, unsigned call, uintptr_t site)
{
    const uintptr_t words[] = {a, b, c, d};
    const unsigned stream = call >> STREAM_SHIFT, of_row = call & ((1u << STREAM_SHIFT) - 1);
    if (FSAFE_LIKELY(stream < STREAM_IN ? is_oriented((FILE *)words[stream]) : has_become_wide[stream - STREAM_IN]))
        return ((fsafe_call_of_four *)fsafe_next_of(of_row & 0xffff))(a, b, c, d);
    uint64_t answer = fsafe_call_pass(a, b, c, d, of_row, site);
    if (stream >= STREAM_IN)
        has_become_wide[stream - STREAM_IN] = true;
    return answer;
}
#define to_stream_ten NULL /* none has more than four arguments */

#define FSAFE_ORIENT(stream, result, name, ...)                                                                       \
    FSAFE_EXPORT result name FSAFE_PARAMETERS(__VA_ARGS__)                                                            \
    {                                                                                                                 \
        FSAFE_RETURN_PASSED(to_stream, FSAFE_CALL_OF(SELDOM, name) | STREAM_##stream << STREAM_SHIFT, result,         \
                            ##__VA_ARGS__);                                                                           \
    }

#include "wrap/regions.def"

FSAFE_DEFINE_ALIAS(__mbrtowc, mbrtowc);
FSAFE_DEFINE_ALIAS(__mbrlen, mbrlen);

/* --- Variadic: by their forms with a va_list, with the caller's place --------------------------------------------- */

#define VARIADIC(name, parameters, is_gated, with, arguments)                               \
    FSAFE_EXPORT int name parameters                                                        \
    {                                                                                       \
        va_list values;                                                                     \
        const bool gated = is_gated;                                                        \
        va_start(values, format);                                                           \
        int answer = (gated ? FSAFE_ENTER_CALL(SELDOM, with) : FSAFE_NEXT(with)) arguments; \
        va_end(values);                                                                     \
        if (gated)                                                                          \
            FSAFE_LEAVE_CALL(SELDOM);                                                    \
        return answer;                                                                      \
    }

VARIADIC(fwprintf, (FILE *stream, const wchar_t *format, ...), true, vfwprintf, (stream, format, values))
VARIADIC(wprintf, (const wchar_t *format, ...), true, vwprintf, (format, values))
VARIADIC(swprintf, (wchar_t *to, size_t most, const wchar_t *format, ...), true, vswprintf, (to, most, format, values))
VARIADIC(__fwprintf_chk, (FILE *stream, int flag, const wchar_t *format, ...), true, __vfwprintf_chk,
         (stream, flag, format, values))
VARIADIC(__wprintf_chk, (int flag, const wchar_t *format, ...), true, __vwprintf_chk, (flag, format, values))
VARIADIC(__swprintf_chk, (wchar_t *to, size_t most, int flag, size_t size, const wchar_t *format, ...), true,
         __vswprintf_chk, (to, most, flag, size, format, values))
/* <wchar.h> means these; the names without the prefix are for programs from before 2007. */
VARIADIC(__isoc99_swscanf, (const wchar_t *from, const wchar_t *format, ...), true, __isoc99_vswscanf,
         (from, format, values))
/* To read from a stream may take long: a fork waits for that only while the stream is new. */
VARIADIC(__isoc99_fwscanf, (FILE *stream, const wchar_t *format, ...), !is_oriented(stream), __isoc99_vfwscanf,
         (stream, format, values))
VARIADIC(__isoc99_wscanf, (const wchar_t *format, ...), !atomic_exchange(&has_become_wide[0], true), __isoc99_vwscanf,
         (format, values))

/* --- Streams that are opened for a character set, and freopen ---------------------------------------------------- */

static bool has_charset(const char *mode)
{
    return strstr(mode, "ccs=") != NULL;
}

#define OPENING(name)                                           \
    FSAFE_EXPORT FILE *name(const char *path, const char *mode) \
    {                                                           \
        if (FSAFE_LIKELY(!has_charset(mode)))                   \
            return FSAFE_NEXT(name)(path, mode);                \
        FSAFE_RETURN_CALL(SELDOM, FILE *, name, (path, mode));  \
    }
OPENING(fopen)
OPENING(fopen64)

#define REOPENING(name)                                                                                 \
    FSAFE_EXPORT FILE *name(const char *path, const char *mode, FILE *stream)                           \
    {                                                                                                   \
        const bool gated = FSAFE_UNLIKELY(is_oriented(stream) || has_charset(mode));                    \
        FILE *answer = (gated ? FSAFE_ENTER_CALL(SELDOM, name) : FSAFE_NEXT(name))(path, mode, stream); \
        if (gated)                                                                                      \
            FSAFE_LEAVE_CALL(SELDOM);                                                                \
        fsafe_descriptor_note(answer != NULL ? fileno(answer) : -1);                                    \
        return answer;                                                                                  \
    }
REOPENING(freopen)
REOPENING(freopen64)
