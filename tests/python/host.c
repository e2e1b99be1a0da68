/*
 * A C program that becomes a host of Python late, when it has threads already:
 *
 *     host LIBPYTHON CODE [LIVES]
 *
 * loads the library as a plugin (its names are nobody else's) and runs the code in it; LIVES: so often, each time in an
 * interpreter that is begun anew and finalized.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *idle(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *find(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL)
        fprintf(stderr, "host: no %s\n", name);
    return found;
}

int main(int count, char **arguments)
{
    pthread_t thread;
    if (count < 3 || pthread_create(&thread, NULL, idle, NULL) != 0)
        return 2;
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "host: %s\n", dlerror());
        return 77;
    }
    void (*initialize)(int);
    int (*run)(const char *, void *);
    int (*finalize)(void);
    void *found[] = {find(library, "Py_InitializeEx"), find(library, "PyRun_SimpleStringFlags"),
                     find(library, "Py_FinalizeEx")};
    if (found[0] == NULL || found[1] == NULL || found[2] == NULL)
        return 77;
    memcpy(&initialize, &found[0], sizeof initialize);
    memcpy(&run, &found[1], sizeof run);
    memcpy(&finalize, &found[2], sizeof finalize);
    int failed = 0;
    for (int lives = count > 3 ? atoi(arguments[3]) : 1; lives > 0; lives--) {
        initialize(0);
        failed |= run(arguments[2], NULL);
        if (count > 3)
            failed |= finalize();
    }
    return failed != 0;
}
