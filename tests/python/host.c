/*
 * A C program that becomes a host of Python late, when it has threads already:
 *
 *     host LIBPYTHON CODE [LIVES [unload]]
 *
 * loads the library as a plugin (its names are nobody else's) and runs the code in it; LIVES: so often, each time in an
 * interpreter that is begun anew and finalized; unload: the library is unloaded after that, and the host forks.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

static int live(void *library, const char *code, int finalizes)
{
    void (*initialize)(int);
    int (*run)(const char *, void *);
    int (*finalize)(void);
    void *found[] = {find(library, "Py_InitializeEx"), find(library, "PyRun_SimpleStringFlags"),
                     find(library, "Py_FinalizeEx")};
    if (found[0] == NULL || found[1] == NULL || found[2] == NULL)
        exit(77);
    memcpy(&initialize, &found[0], sizeof initialize);
    memcpy(&run, &found[1], sizeof run);
    memcpy(&finalize, &found[2], sizeof finalize);
    initialize(0);
    int failed = run(code, NULL);
    return failed | (finalizes ? finalize() : 0);
}

/* A thread that Python has joined may yet run in it for a moment (3.9: it crashes then, bare as well). */
static void await_joined_threads(void)
{
    enum { DIRECTORY = 2, OWN = 2 }; /* links of each directory; the first thread and idle */
    struct stat tasks;
    while (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > DIRECTORY + OWN)
        usleep(1000);
}

static int fork_once(void)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return waitpid(child, &status, 0) != child || status != 0;
}

int main(int count, char **arguments)
{
    pthread_t thread;
    if (count < 3 || pthread_create(&thread, NULL, idle, NULL) != 0)
        return 2;
    void *library = NULL;
    int failed = 0;
    for (int lives = count > 3 ? atoi(arguments[3]) : 1; lives > 0; lives--) {
        if (library == NULL && (library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL)) == NULL) {
            fprintf(stderr, "host: %s\n", dlerror());
            return 77;
        }
        failed |= live(library, arguments[2], count > 3);
        if (count > 4) {
            await_joined_threads();
            failed |= dlclose(library) | fork_once();
            library = NULL;
        }
    }
    return failed != 0;
}
