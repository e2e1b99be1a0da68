/* A module whose constructor and destructor do what the victim that loads it says, and which has fork handlers. */
#include <pthread.h>

extern void (*loader_hook)(void);

static int forks;
static void count(void)
{
    forks++;
}

__attribute__((constructor)) static void construct(void)
{
    pthread_atfork(count, count, count);
    if (loader_hook)
        loader_hook();
}

__attribute__((destructor)) static void destruct(void)
{
    if (loader_hook)
        loader_hook();
}
