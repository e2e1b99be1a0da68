/*
 * wrap/names: getpwnam & co, which keep a lock while they ask. libc does the work, except in a child in which a
 * vanished thread may hold that lock. One row for each function.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "standin/names.h"
#include "standin/standin.h"
#include "wrap/next.h"

#define NAMES(type, function, parameters, ...)                                   \
    FSAFE_EXPORT type *function parameters                                       \
    {                                                                            \
        uintptr_t site = FSAFE_CALLER();                                         \
        fsafe_region_enter(FSAFE_REGION_NSS, site);                              \
        fsafe_fork_notice();                                                     \
        type *found = fsafe_standin_is_needed(FSAFE_REGION_NSS, #function, site) \
                          ? fsafe_names_##function(__VA_ARGS__)                  \
                          : FSAFE_NEXT(function)(__VA_ARGS__);                   \
        fsafe_region_leave(FSAFE_REGION_NSS);                                    \
        return found;                                                            \
    }

NAMES(struct passwd, getpwnam, (const char *name), name)
NAMES(struct passwd, getpwuid, (uid_t uid), uid)
NAMES(struct group, getgrnam, (const char *name), name)
NAMES(struct group, getgrgid, (gid_t gid), gid)

#ifdef HAVE_GETPROTOBYNAME_R
NAMES(struct hostent, gethostbyname, (const char *name), name)
NAMES(struct hostent, gethostbyname2, (const char *name, int family), name, family)
NAMES(struct hostent, gethostbyaddr, (const void *address, socklen_t bytes, int family), address, bytes, family)
NAMES(struct servent, getservbyname, (const char *name, const char *protocol), name, protocol)
NAMES(struct servent, getservbyport, (int port, const char *protocol), port, protocol)
NAMES(struct protoent, getprotobyname, (const char *name), name)
NAMES(struct protoent, getprotobynumber, (int number), number)
NAMES(struct netent, getnetbyname, (const char *name), name)
NAMES(struct netent, getnetbyaddr, (uint32_t net, int family), net, family)
NAMES(struct rpcent, getrpcbyname, (const char *name), name)
NAMES(struct rpcent, getrpcbynumber, (int number), number)
NAMES(struct spwd, getspnam, (const char *name), name)
NAMES(struct sgrp, getsgnam, (const char *name), name)
NAMES(struct aliasent, getaliasbyname, (const char *name), name)
#endif
