/*
 * The library that malloc is of, with fork handlers, as jemalloc has them: they take a lock of the allocator's. libc
 * does the work. The parent's then calls allocator_in_parent, if the program has set it.
 */
#include <pthread.h>
#include <stdlib.h>

void *__libc_malloc(size_t bytes);
pthread_mutex_t *allocator_lock(void);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void prepare(void)
{
    pthread_mutex_lock(&lock);
}

static void end(void)
{
    pthread_mutex_unlock(&lock);
}

extern void (*allocator_in_parent)(void);
void (*allocator_in_parent)(void);

static void end_in_parent(void)
{
    end();
    if (allocator_in_parent != NULL)
        allocator_in_parent();
}

__attribute__((constructor)) static void register_handlers(void)
{
    pthread_atfork(prepare, end_in_parent, end);
}

void *malloc(size_t bytes)
{
    return __libc_malloc(bytes);
}

pthread_mutex_t *allocator_lock(void)
{
    return &lock;
}
