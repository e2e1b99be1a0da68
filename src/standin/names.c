#include "config.h"

#include "base/latch.h"
#include "base/pages.h"
#include "standin/names.h"

#include <errno.h>
#include <pthread.h>

#define FSAFE_NAMES(type, function, parameters, ...) OF_##function,
enum call {
#include "standin/names.def"
    CALLS,
};

/* Memory for the strings of one function's result. */
static struct memory {
    struct fsafe_latch latch; /* its holder may sleep */
    char *buffer;
    size_t bytes;
} memories[CALLS];

/* Maps twice as much as before, and gives the old pages back. Returns whether there is memory. */
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
            /* A vanished thread was perhaps in the middle of grow(). */
            memories[i].buffer = NULL;
            memories[i].bytes = 0;
        }
        fsafe_latch_reset(&memories[i].latch);
    }
}

/* ERANGE asks for more memory; from a function for hosts only together with NETDB_INTERNAL. */
#define CALL(type, function, parameters, asked, is_ours)     \
    type *fsafe_names_##function parameters                  \
    {                                                        \
        static type result;                                  \
        struct memory *memory = &memories[OF_##function];    \
        type *found = NULL;                                  \
        int host_error = 0;                                  \
        fsafe_latch_acquire_open(&memory->latch);            \
        pthread_cleanup_push(release, memory);               \
        bool good = memory->buffer != NULL || grow(memory);  \
        while (good && (asked) == ERANGE && (is_ours))       \
            good = grow(memory);                             \
        if (!good)                                           \
            found = NULL;                                    \
        pthread_cleanup_pop(1);                              \
        if (host_error != 0)                                 \
            h_errno = host_error;                            \
        return found;                                        \
    }

#define FSAFE_NAMES(type, function, parameters, ...) \
    CALL(type, function, parameters,                 \
         function##_r(__VA_ARGS__, &result, memory->buffer, memory->bytes, &found), true)

#define FSAFE_NAMES_OF_HOSTS(type, function, parameters, ...)                                      \
    CALL(type, function, parameters,                                                               \
         function##_r(__VA_ARGS__, &result, memory->buffer, memory->bytes, &found, &host_error), \
         host_error == NETDB_INTERNAL)

#include "standin/names.def"
