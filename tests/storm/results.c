/* What a gated call returns is what libc's own returns, errno and all. Run by ../scenario/run.
 *
 * Each call is made twice, by its name and by the address that libc itself exports, with the same arguments.
 */
#include "../scenario/scenario.h"

#include <fcntl.h>
#include <grp.h>
#include <iconv.h>
#include <libintl.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <regex.h>
#include <resolv.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uchar.h>
#include <utmp.h>
#include <wchar.h>

/* What FORTIFY_SOURCE, C99 and POSIX make of calls. */
int __xpg_strerror_r(int number, char *to, size_t most);
int __swprintf_chk(wchar_t *to, size_t most, int flag, size_t size, const wchar_t *format, ...);
int __fwprintf_chk(FILE *stream, int flag, const wchar_t *format, ...);
size_t __mbstowcs_chk(wchar_t *to, const char *from, size_t most, size_t size);
size_t __wcstombs_chk(char *to, const wchar_t *from, size_t most, size_t size);
int __isoc99_swscanf(const wchar_t *from, const wchar_t *format, ...);

static char out[2][512]; /* what the two calls write */

/* CALL once as it is and once with libc's own function; TO is where it writes, in both. */
#define BOTH(type, name, ...)                                                                                          \
    do {                                                                                                               \
        __typeof__(name) *const own = (__typeof__(name) *)scn_libc(#name);                                             \
        memset(out, '#', sizeof out);                                                                                  \
        char *to = out[0];                                                                                             \
        (void)to;                                                                                                      \
        errno = 4711;                                                                                                  \
        const type one = name(__VA_ARGS__);                                                                            \
        const int one_error = errno;                                                                                   \
        to = out[1];                                                                                                   \
        errno = 4711;                                                                                                  \
        const type two = own(__VA_ARGS__);                                                                             \
        const int two_error = errno;                                                                                   \
        if (memcmp(&one, &two, sizeof one) != 0 || one_error != two_error || memcmp(out[0], out[1], sizeof out[0]))    \
            scn_wrong(SCN_WHERE, #name "(" #__VA_ARGS__ ")");                                                          \
    } while (0)
#define WIDE ((wchar_t *)(void *)to)

static const time_t moment = 1700000000;
static const struct tm broken = {.tm_year = 123, .tm_mon = 10, .tm_mday = 14, .tm_hour = 23};

static void times(const struct scn_case *self)
{
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    struct tm tm = broken;
    tzset();
    BOTH(struct tm *, localtime, &moment);
    BOTH(struct tm *, gmtime, &moment);
    BOTH(bool, localtime_r, &moment, (struct tm *)(void *)to);
    BOTH(bool, gmtime_r, &moment, (struct tm *)(void *)to);
    const time_t never = (time_t)((uint64_t)1 << (sizeof(time_t) * 8 - 2)); /* EOVERFLOW, where a time has 64 bits */
    BOTH(struct tm *, localtime, &never);
    BOTH(char *, ctime, &moment);
    BOTH(bool, ctime_r, &moment, to);
    BOTH(time_t, mktime, &tm);
    BOTH(time_t, timegm, &tm);
    BOTH(size_t, strftime, to, 100, "%c %Z %s", &tm);
    BOTH(size_t, strftime, to, 3, "%c", &tm);
    BOTH(size_t, wcsftime, WIDE, 100, L"%c %Z", &tm);
    BOTH(char *, strptime, "2023-11-14", "%Y-%m-%d", (struct tm *)(void *)to);
}

static void texts(const struct scn_case *self)
{
    setlocale(LC_ALL, "C.UTF-8");
    BOTH(char *, setlocale, LC_ALL, NULL);
    setlocale(LC_ALL, "no such locale"); /* the first time errno says which file was not there */
    BOTH(char *, setlocale, LC_ALL, "no such locale");
    BOTH(char *, setlocale, LC_CTYPE, "C.UTF-8");
    newlocale(LC_ALL_MASK, "no such locale", (locale_t)0);
    BOTH(locale_t, newlocale, LC_ALL_MASK, "no such locale", (locale_t)0);
    BOTH(char *, strerror, ENOENT);
    BOTH(char *, strerror_r, ENOENT, to, 100);
    BOTH(int, __xpg_strerror_r, 99999, to, 100);
    BOTH(int, __xpg_strerror_r, ENOENT, to, 2);
    BOTH(char *, strsignal, SIGTERM);
    BOTH(char *, gai_strerror, EAI_AGAIN);
    BOTH(char *, hstrerror, HOST_NOT_FOUND);
    BOTH(char *, gettext, "nothing");
    BOTH(char *, dcngettext, "none", "one", "two", 2, LC_MESSAGES);
    BOTH(char *, textdomain, NULL);
    BOTH(char *, bindtextdomain, "none", NULL);
    regex_t pattern;
    SCN_IS(regcomp(&pattern, "b(.)d", REG_EXTENDED), 0);
    BOTH(int, regexec, &pattern, "abcde", 2, (regmatch_t *)(void *)to, 0);
    BOTH(size_t, regerror, REG_BADPAT, &pattern, to, 100);
    BOTH(iconv_t, iconv_open, "none", "UTF-8");
}

static void *ending_at_once_body(void *unused)
{
    return unused;
}

static void wide(const struct scn_case *self)
{
    if (self->number) { /* conversions are gated only where threads change locales */
        scn_join(scn_start(ending_at_once_body, NULL));
        newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    }
    setlocale(LC_ALL, "C.UTF-8");
    mbstate_t state = {0};
    const char *from = "\xc3\xa4\xe2\x82\xac", *text = from;
    const wchar_t *euro = L"\u20ac";
    BOTH(size_t, mbrtowc, WIDE, from, 5, &state);
    BOTH(size_t, mbrtowc, WIDE, "\xff", 1, &state); /* EILSEQ */
    memset(&state, 0, sizeof state);
    BOTH(size_t, mbrlen, from, 5, &state);
    BOTH(int, mbtowc, WIDE, from, 5);
    BOTH(int, mblen, from, 5);
    BOTH(size_t, mbstowcs, WIDE, from, 5);
    BOTH(size_t, mbsrtowcs, WIDE, (text = from, &text), 5, &state);
    BOTH(size_t, mbsnrtowcs, WIDE, (text = from, &text), 2, 5, &state);
    BOTH(size_t, wcrtomb, to, *euro, &state);
    BOTH(int, wctomb, to, *euro);
    BOTH(size_t, wcstombs, to, euro, 10);
    BOTH(wint_t, btowc, 'x');
    BOTH(wint_t, btowc, 0xff);
    BOTH(int, wctob, L'x');
    BOTH(size_t, mbrtoc32, (char32_t *)(void *)to, from, 5, &state);
    BOTH(size_t, c32rtomb, to, 0x20ac, &state);
    BOTH(size_t, __mbstowcs_chk, WIDE, from, 5, 100);
    BOTH(size_t, __wcstombs_chk, to, euro, 10, 100);
    BOTH(int, swprintf, WIDE, 50, L"%d %ls %.2f %s %c", 1, L"two", 3.0, "four", '5');
    BOTH(int, swprintf, WIDE, 2, L"%d", 100000);
    BOTH(int, __swprintf_chk, WIDE, 50, 1, 100, L"%d %g %d %d %d %d %d %d", 1, 2.0, 3, 4, 5, 6, 7, 8);
    BOTH(int, __isoc99_swscanf, L"1 two 3", L"%d %s %hhd", (int *)(void *)to, to + 8, to + 40);
    FILE *stream = tmpfile();
    SCN_CHECK(stream != NULL);
    BOTH(int, fwide, stream, 0);
    BOTH(int, fwprintf, stream, L"%d %s\n", 1, "two");
    BOTH(int, __fwprintf_chk, stream, 1, L"%d %s\n", 1, "two");
    BOTH(wint_t, fputwc, *euro, stream);
    BOTH(int, fputws, L"wide", stream);
    rewind(stream);
    BOTH(bool, fgetws, WIDE, 8, stream); /* the same line, twice */
    BOTH(FILE *, fopen, "/nonexistent", "r,ccs=UTF-8");
    BOTH(FILE *, freopen, "/nonexistent", "r,ccs=UTF-8", tmpfile());
    fclose(stream);
}

static void names(const struct scn_case *self)
{
    BOTH(struct passwd *, getpwnam, "root");
    BOTH(struct passwd *, getpwnam, "no such user");
    BOTH(struct group *, getgrgid, 0);
    BOTH(struct servent *, getservbyport, 1, "none");
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    BOTH(int, getaddrinfo, "not a number", NULL, &hints, &list);
    BOTH(int, __res_init);
    if (scn_glibc_since(34)) /* before, it is in a library of its own */
        BOTH(int, res_mkquery, 99, "a.example", 1, 1, NULL, 0, NULL, (unsigned char *)to, 4);
}

static void rest(const struct scn_case *self)
{
    BOTH(int, setenv, "", "x", 1);
    BOTH(int, unsetenv, "a=b");
    BOTH(int, system, "exit 7");
    BOTH(int, system, NULL);
    BOTH(int, utmpname, "/nonexistent");
    BOTH(struct utmp *, getutent);
    BOTH(FILE *, popen, "true", "nonsense");
    BOTH(sem_t *, sem_open, "/no/such", 0);
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct scn_case *self);
        long number;
    } all[] = {{"times", times, 0},         {"texts", texts, 0}, {"wide", wide, 0},
               {"wide-locales-move", wide, 1}, {"names", names, 0}, {"rest", rest, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = all[i].run, .number = all[i].number),
                "%s", all[i].name);
}
