/*
 * standin/names: getpwnam & co without the lock that glibc keeps for each of them, for a child in which a vanished
 * thread may hold it: through the function's _r form, into memory of ours that the next such call overwrites.
 *
 * Results, errno and h_errno are those of the real functions. Each function has its own lock, held while it asks (a
 * slow server, perhaps); adopt makes free what a fork in that moment copied locked. Context: child.
 */
#pragma once

#include "base/compiler.h"

#ifdef HAVE_GETPROTOBYNAME_R
#include <aliases.h>
#include <gshadow.h>
#include <shadow.h>
#endif
#include <grp.h>
#include <netdb.h>
#include <pwd.h>

struct passwd *fsafe_names_getpwnam(const char *name);
struct passwd *fsafe_names_getpwuid(uid_t uid);
struct group *fsafe_names_getgrnam(const char *name);
struct group *fsafe_names_getgrgid(gid_t gid);
#ifdef HAVE_GETPROTOBYNAME_R
struct hostent *fsafe_names_gethostbyname(const char *name);
struct hostent *fsafe_names_gethostbyname2(const char *name, int family);
struct hostent *fsafe_names_gethostbyaddr(const void *address, socklen_t bytes, int family);
struct servent *fsafe_names_getservbyname(const char *name, const char *protocol);
struct servent *fsafe_names_getservbyport(int port, const char *protocol);
struct protoent *fsafe_names_getprotobyname(const char *name);
struct protoent *fsafe_names_getprotobynumber(int number);
struct netent *fsafe_names_getnetbyname(const char *name);
struct netent *fsafe_names_getnetbyaddr(uint32_t net, int family);
struct rpcent *fsafe_names_getrpcbyname(const char *name);
struct rpcent *fsafe_names_getrpcbynumber(int number);
struct spwd *fsafe_names_getspnam(const char *name);
struct sgrp *fsafe_names_getsgnam(const char *name);
struct aliasent *fsafe_names_getaliasbyname(const char *name);
#endif

/* Makes the room ready whatever its state. Context: child, alone. */
FSAFE_AT_FORK void fsafe_names_adopt(void);
