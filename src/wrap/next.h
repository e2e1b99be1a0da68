/*
 * wrap/next: the definitions that the program would call without us, one typed pointer for each row of symbols.def. A
 * row is bound at its first call, by any thread, by a look into symbol tables (libc/symbol); with another libc than
 * glibc in the constructor, or at an earlier call.
 */
#pragma once

#include "base/compiler.h"

#include "wrap/time64.h"

#include "standin/names.h"
#ifdef FSAFE_LIBC_GLIBC
#include "wrap/prototypes.h"
#include <aio.h>
#endif

#include <dlfcn.h>
#include <grp.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <pwd.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#ifdef HAVE_THREADS_H
#include <threads.h>
#endif
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#ifdef HAVE___VSYSLOG_CHK
/* Programs that are built with _FORTIFY_SOURCE call these; no header declares them to others. */
extern void __syslog_chk(int priority, int flag, const char *format, ...) __attribute__((format(printf, 3, 4)));
extern void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
#endif

struct fsafe_next {
#define FSAFE_SYMBOL(name) __typeof__(name) *name;
#include "wrap/symbols.def"
};

extern FSAFE_HIDDEN struct fsafe_next fsafe_next;

/* Makes binding possible. Returns whether the process has libc's functions for threads. Context: start-up. */
bool fsafe_next_start(void);

#define FSAFE_ROW(name) ((unsigned)(offsetof(struct fsafe_next, name) / sizeof(void *)))

const char *fsafe_next_name(unsigned row);

/* Binds one row and returns its function; ends the process if libc has none, because no result would be right. */
void *fsafe_next_bind(unsigned row);

/* Binds all rows, but for those of which libc has none. Context: start-up. */
void fsafe_next_bind_all(void);

static inline void *fsafe_next_of(unsigned row)
{
    void *next = __atomic_load_n((void **)&fsafe_next + row, __ATOMIC_RELAXED);
    return FSAFE_LIKELY(next != NULL) ? next : fsafe_next_bind(row);
}

#define FSAFE_NEXT(name) \
    (FSAFE_LIKELY(fsafe_next.name != NULL) ? fsafe_next.name : (__typeof__(name) *)fsafe_next_bind(FSAFE_ROW(name)))
