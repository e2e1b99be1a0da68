/* wrap/prototypes: the headers that declare what regions.def names, and prototypes that none of them has. */
#pragma once

#include <aliases.h>
#include <dirent.h>
#include <fmtmsg.h>
#include <grp.h>
#include <gshadow.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <regex.h>
#include <resolv.h>
#include <semaphore.h>
#include <shadow.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uchar.h>
#include <unistd.h>
#include <utmp.h> /* login_tty, too */
#include <utmpx.h>
#include <wchar.h>

/* readdir_r is deprecated, and takes its lock all the same. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* With optimisation <libintl.h> says some of them in terms of others. */
#undef gettext
#undef dgettext
#undef dcgettext
#undef ngettext
#undef dngettext
#undef dcngettext

/* Under other names in a header, or in none: what FORTIFY_SOURCE, C99 and POSIX make of calls. */
int __xpg_strerror_r(int number, char *to, size_t most);
int __getlogin_r_chk(char *name, size_t bytes, size_t size);
size_t __mbstowcs_chk(wchar_t *to, const char *from, size_t most, size_t size);
size_t __mbsrtowcs_chk(wchar_t *to, const char **from, size_t most, mbstate_t *state, size_t size);
size_t __mbsnrtowcs_chk(wchar_t *to, const char **from, size_t bytes, size_t most, mbstate_t *state, size_t size);
size_t __wcrtomb_chk(char *to, wchar_t from, mbstate_t *state, size_t size);
int __wctomb_chk(char *to, wchar_t from, size_t size);
size_t __wcstombs_chk(char *to, const wchar_t *from, size_t most, size_t size);
size_t __wcsrtombs_chk(char *to, const wchar_t **from, size_t most, mbstate_t *state, size_t size);
size_t __wcsnrtombs_chk(char *to, const wchar_t **from, size_t count, size_t most, mbstate_t *state, size_t size);
wchar_t *__fgetws_chk(wchar_t *to, size_t size, int most, FILE *stream);
wchar_t *__fgetws_unlocked_chk(wchar_t *to, size_t size, int most, FILE *stream);
int __fwprintf_chk(FILE *stream, int flag, const wchar_t *format, ...);
int __vfwprintf_chk(FILE *stream, int flag, const wchar_t *format, va_list values);
int __wprintf_chk(int flag, const wchar_t *format, ...);
int __vwprintf_chk(int flag, const wchar_t *format, va_list values);
int __swprintf_chk(wchar_t *to, size_t most, int flag, size_t size, const wchar_t *format, ...);
int __vswprintf_chk(wchar_t *to, size_t most, int flag, size_t size, const wchar_t *format, va_list values);
int __isoc99_fwscanf(FILE *stream, const wchar_t *format, ...);
int __isoc99_vfwscanf(FILE *stream, const wchar_t *format, va_list values);
int __isoc99_wscanf(const wchar_t *format, ...);
int __isoc99_vwscanf(const wchar_t *format, va_list values);
int __isoc99_swscanf(const wchar_t *from, const wchar_t *format, ...);
int __isoc99_vswscanf(const wchar_t *from, const wchar_t *format, va_list values);

typedef void fsafe_exit_function(void *argument);
typedef void fsafe_on_exit_function(int status, void *argument);
typedef int fsafe_phdr_function(struct dl_phdr_info *object, size_t bytes, void *data);
int __cxa_atexit(fsafe_exit_function *function, void *argument, void *object);
void __cxa_finalize(void *object);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);
int __cxa_at_quick_exit(fsafe_exit_function *function, void *object);
