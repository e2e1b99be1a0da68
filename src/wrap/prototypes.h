/* wrap/prototypes: the headers that declare what regions.def names, and prototypes that none of them has. */
#pragma once

#include "wrap/row.h"

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
#include <poll.h>
#include <printf.h>
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
#include <sys/socket.h>
#include <time.h>
#include <uchar.h>
#include <unistd.h>
#include <utmp.h> /* login_tty, too */
#include <utmpx.h>
#include <wchar.h>

/* readdir_r is deprecated, but takes its lock. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* With optimisation <libintl.h> defines some of these by others. */
#undef gettext
#undef dgettext
#undef dcgettext
#undef ngettext
#undef dngettext
#undef dcngettext

/* No header declares these names, which _FORTIFY_SOURCE and the versions of ISO C give to calls. */
ssize_t __read_chk(int descriptor, void *to, size_t bytes, size_t room);
ssize_t __recv_chk(int descriptor, void *to, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int descriptor, void *to, size_t bytes, size_t room, int flags, __SOCKADDR_ARG from,
                       socklen_t *size);
int __poll_chk(struct pollfd *entries, nfds_t count, int limit_ms, size_t room);
int __ppoll_chk(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask, size_t room);
int __fwprintf_chk(FILE *stream, int flag, const wchar_t *format, ...);
int __wprintf_chk(int flag, const wchar_t *format, ...);
int __swprintf_chk(wchar_t *to, size_t most, int flag, size_t size, const wchar_t *format, ...);
int __isoc99_fwscanf(FILE *stream, const wchar_t *format, ...);
int __isoc99_wscanf(const wchar_t *format, ...);
int __isoc99_swscanf(const wchar_t *from, const wchar_t *format, ...);

typedef void fsafe_exit_function(void *argument);
typedef void fsafe_on_exit_function(int status, void *argument);
typedef int fsafe_phdr_function(struct dl_phdr_info *object, size_t bytes, void *data);
void __cxa_finalize(void *object);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);

/* Each row as a prototype: the compiler compares it with the header that declares the function, if one does. */
#define FSAFE_CALL(region, result, name, ...) result name FSAFE_PARAMETERS(__VA_ARGS__);
#define FSAFE_CONVERT(result, name, ...) result name FSAFE_PARAMETERS(__VA_ARGS__);
#define FSAFE_ORIENT(stream, result, name, ...) result name FSAFE_PARAMETERS(__VA_ARGS__);
#define FSAFE_OTHER(name, of)
#include "wrap/regions.def"
