/* standin/names: see names.h. One row for each function. */
#include "config.h"

#include "base/latch.h"
#include "base/pages.h"
#include "standin/names.h"

#include <errno.h>
#include <pthread.h>

enum call {
    GETPWNAM,
    GETPWUID,
    GETGRNAM,
    GETGRGID,
    GETHOSTBYNAME,
    GETHOSTBYNAME2,
    GETHOSTBYADDR,
    GETSERVBYNAME,
    GETSERVBYPORT,
    GETPROTOBYNAME,
    GETPROTOBYNUMBER,
    GETNETBYNAME,
    GETNETBYADDR,
    GETRPCBYNAME,
    GETRPCBYNUMBER,
    GETSPNAM,
    GETSGNAM,
    GETALIASBYNAME,
    CALLS,
};

/* What a call's strings are kept in. */
static struct memory {
    struct fsafe_latch latch; /* its holder may sleep */
    char *buffer;
    size_t bytes;
} memories[CALLS];

/* Twice as much as before, which is given back. Returns whether there is memory. */
static bool grow(struct memory *memory)
{
    size_t bytes = memory->bytes != 0 ? 2 * memory->bytes : 4096;
    char *old = memory->buffer;
    memory->buffer = NULL;
    if (old != NULL)
        fsafe_pages_unmap(old, memory->bytes);
    memory->bytes = 0;
    memory->buffer = fsafe_pages_map(bytes);
    if (memory->buffer == NULL) {
        errno = ENOMEM;
        return false;
    }
    memory->bytes = bytes;
    return true;
}

static void release(void *memory)
{
    fsafe_latch_release_open(&((struct memory *)memory)->latch);
}

void fsafe_names_adopt(void)
{
    for (unsigned i = 0; i < CALLS; i++) {
        if (fsafe_latch_is_held(&memories[i].latch)) {
            /* Perhaps in the middle of growing. */
            memories[i].buffer = NULL;
            memories[i].bytes = 0;
        }
        fsafe_latch_reset(&memories[i].latch);
    }
}

/* ERANGE asks for more memory; where a call tells of hosts, only if `host_error` says that ours is meant. */
#define NAMES_CALL(call, type, function, parameters, asked, is_ours)                        \
    type *fsafe_names_##function parameters                                                 \
    {                                                                                       \
        static type result;                                                                 \
        struct memory *memory = &memories[call];                                            \
        type *found = NULL;                                                                 \
        int host_error = 0;                                                                 \
        fsafe_latch_acquire_open(&memory->latch);                                           \
        pthread_cleanup_push(release, memory);                                              \
        bool good = memory->buffer != NULL || grow(memory);                                 \
        while (good && (asked) == ERANGE && (is_ours))                                      \
            good = grow(memory);                                                            \
        if (!good)                                                                          \
            found = NULL;                                                                   \
        pthread_cleanup_pop(1);                                                             \
        if (host_error != 0)                                                                \
            h_errno = host_error;                                                           \
        return found;                                                                       \
    }

#define NAMES(call, type, function, parameters, ...) \
    NAMES_CALL(call, type, function, parameters,     \
               function##_r(__VA_ARGS__, &result, memory->buffer, memory->bytes, &found), true)

#define NAMES_OF_HOSTS(call, type, function, parameters, ...)                                            \
    NAMES_CALL(call, type, function, parameters,                                                         \
               function##_r(__VA_ARGS__, &result, memory->buffer, memory->bytes, &found, &host_error), \
               host_error == NETDB_INTERNAL)

NAMES(GETPWNAM, struct passwd, getpwnam, (const char *name), name)
NAMES(GETPWUID, struct passwd, getpwuid, (uid_t uid), uid)
NAMES(GETGRNAM, struct group, getgrnam, (const char *name), name)
NAMES(GETGRGID, struct group, getgrgid, (gid_t gid), gid)

#ifdef HAVE_GETPROTOBYNAME_R
NAMES_OF_HOSTS(GETHOSTBYNAME, struct hostent, gethostbyname, (const char *name), name)
NAMES_OF_HOSTS(GETHOSTBYNAME2, struct hostent, gethostbyname2, (const char *name, int family), name, family)
NAMES_OF_HOSTS(GETHOSTBYADDR, struct hostent, gethostbyaddr, (const void *address, socklen_t bytes, int family),
               address, bytes, family)
NAMES(GETSERVBYNAME, struct servent, getservbyname, (const char *name, const char *protocol), name, protocol)
NAMES(GETSERVBYPORT, struct servent, getservbyport, (int port, const char *protocol), port, protocol)
NAMES(GETPROTOBYNAME, struct protoent, getprotobyname, (const char *name), name)
NAMES(GETPROTOBYNUMBER, struct protoent, getprotobynumber, (int number), number)
NAMES_OF_HOSTS(GETNETBYNAME, struct netent, getnetbyname, (const char *name), name)
NAMES_OF_HOSTS(GETNETBYADDR, struct netent, getnetbyaddr, (uint32_t net, int family), net, family)
NAMES(GETRPCBYNAME, struct rpcent, getrpcbyname, (const char *name), name)
NAMES(GETRPCBYNUMBER, struct rpcent, getrpcbynumber, (int number), number)
NAMES(GETSPNAM, struct spwd, getspnam, (const char *name), name)
NAMES(GETSGNAM, struct sgrp, getsgnam, (const char *name), name)
NAMES(GETALIASBYNAME, struct aliasent, getaliasbyname, (const char *name), name)
#endif
