/*
 * wrap/regions: the headers that declare what regions.def names, and prototypes that none of them has.
 */
#ifndef FSAFE_WRAP_REGIONS_H
#define FSAFE_WRAP_REGIONS_H

#include <aliases.h>
#include <dirent.h>
#include <err.h>
#include <grp.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <regex.h>
#include <semaphore.h>
#include <shadow.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>
#include <wchar.h>

/* With optimisation <libintl.h> says some of them in terms of others. */
#undef gettext
#undef dgettext
#undef dcgettext
#undef ngettext
#undef dngettext
#undef dcngettext

int __cxa_atexit(void (*function)(void *), void *argument, void *object);
void __cxa_finalize(void *object);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);
int __cxa_at_quick_exit(void (*function)(void *), void *object);

#endif
