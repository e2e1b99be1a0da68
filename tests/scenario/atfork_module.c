/*
 * A module with fork handlers, as PROJ and p11-kit have them: the child's locks what a thread of the module may hold.
 */
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int prepared, in_child;

static void count_prepare(void)
{
    prepared++;
}

static void use_in_child(void)
{
    pthread_mutex_lock(&lock);
    in_child++;
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void register_handlers(void)
{
    pthread_atfork(count_prepare, NULL, use_in_child);
}

__attribute__((visibility("default"))) pthread_mutex_t *module_lock(void);
pthread_mutex_t *module_lock(void)
{
    return &lock;
}

__attribute__((visibility("default"))) int module_count_in_child(void);
int module_count_in_child(void)
{
    return in_child == prepared ? in_child : -1;
}
