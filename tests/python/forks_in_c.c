/*
 * A C program whose threads run Python, take the GIL and leave it, and which forks past os.fork:
 *
 *     forks_in_c LIBPYTHON told|held|free FORKS SECONDS
 *
 * told: the forking thread has the GIL and tells the interpreter of the fork, as the C API asks; held: it has the GIL
 * and tells nobody; free: it has not got the GIL. A thread of Python's own makes children by os.fork meanwhile. Prints
 * how many children there were, hung (longer than SECONDS), were killed, found data half changed, were wrong.
 */
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUNCTIONS(row)                                                                                                \
    row(void, Py_InitializeEx, (int))                                                                                 \
    row(int, PyRun_SimpleStringFlags, (const char *, void *))                                                         \
    row(int, PyGILState_Ensure, (void))                                                                               \
    row(void, PyGILState_Release, (int))                                                                              \
    row(void *, PyEval_SaveThread, (void))                                                                            \
    row(void, PyEval_RestoreThread, (void *))                                                                         \
    row(void, PyOS_BeforeFork, (void))                                                                                \
    row(void, PyOS_AfterFork_Parent, (void))                                                                          \
    row(void, PyOS_AfterFork_Child, (void))

#define POINTER(result, name, parameters) static result(*name) parameters;
FUNCTIONS(POINTER)

/* What the threads share, what each does with it, and what a child does: exit status 0, or 5 where it finds it half
 * changed. */
static const char program[] =
    "import os, random, signal, sys, threading, time, warnings\n"
    "warnings.simplefilter('ignore')\n"
    "def failed(args): sys.__excepthook__(*args[:3]); os._exit(6)\n"
    "threading.excepthook = failed\n"
    "lock, rlock = threading.Lock(), threading.RLock()\n"
    "numbers, stop = [0, 0], False\n"
    "def turn():\n"
    "    with lock, rlock:\n"
    "        numbers[0] += 1\n"
    "        time.sleep(random.random() * 0.0005)\n"
    "        numbers[1] += 1\n"
    "def child(again):\n"
    "    signal.alarm(60)\n"
    "    with lock, rlock:\n"
    "        half = numbers[0] != numbers[1]\n"
    "        numbers[:] = 0, 0\n"
    "    thread = threading.Thread(target=turn); thread.start(); turn(); thread.join()\n"
    "    import colorsys\n"
    "    if again:\n"
    "        pid = os.fork()\n"
    "        if pid == 0: child(False)\n"
    "        half |= os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0\n"
    "    os._exit(5 if half else 0)\n"
    "def fork():\n"
    "    while not stop:\n"
    "        pid = os.fork()\n"
    "        if pid == 0:\n"
    "            child(False)\n"
    "        if os.waitpid(pid, 0)[1] not in (0, 5 << 8): os._exit(9)\n"
    "        time.sleep(0.02)\n"
    "def begin():\n"
    "    threading.Thread(target=fork, daemon=True).start()\n";

static void run(const char *code)
{
    if (PyRun_SimpleStringFlags(code, NULL) != 0)
        _exit(8);
}

static atomic_bool stop;

static void *work(void *unused)
{
    while (!stop) {
        int state = PyGILState_Ensure();
        run("turn()");
        PyGILState_Release(state);
        poll(NULL, 0, 1);
    }
    return unused;
}

static pid_t make_child(const char *how)
{
    bool has_gil = strcmp(how, "free") != 0, tells = strcmp(how, "told") == 0;
    int state = has_gil ? PyGILState_Ensure() : 0;
    if (tells)
        PyOS_BeforeFork();
    pid_t pid = fork();
    if (pid == 0) {
        if (tells)
            PyOS_AfterFork_Child();
        if (!has_gil)
            PyGILState_Ensure();
        run("child(True)");
        _exit(7);
    }
    if (tells)
        PyOS_AfterFork_Parent();
    if (has_gil)
        PyGILState_Release(state);
    return pid;
}

/* The child's status, or -1: it hung, and is gone. */
static int await(pid_t pid, double seconds)
{
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int status;
    do {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        poll(NULL, 0, 2);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - end.tv_sec) + (double)(now.tv_nsec - end.tv_nsec) / 1e9 < seconds);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
}

int main(int count, char **arguments)
{
    void *library = count == 5 ? dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
    if (library == NULL)
        return 77;
#define FIND(result, name, parameters)                                                                                \
    {                                                                                                                 \
        void *found = dlsym(library, #name);                                                                          \
        if (found == NULL)                                                                                            \
            return 77;                                                                                                \
        memcpy(&name, &found, sizeof name);                                                                           \
    }
    FUNCTIONS(FIND)
    Py_InitializeEx(0);
    run(program);
    run("begin()");
    PyEval_SaveThread();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            return 2;
    int forks = atoi(arguments[3]), hung = 0, killed = 0, half = 0, wrong = 0;
    for (int i = 0; i < forks; i++) {
        poll(NULL, 0, 3);
        int status = await(make_child(arguments[2]), atof(arguments[4]));
        hung += status == -1;
        killed += status != -1 && WIFSIGNALED(status);
        half += status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 5;
        wrong += status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 5;
    }
    printf("%d forks: %d hung, %d killed, %d half changed, %d wrong\n", forks, hung, killed, half, wrong);
    fflush(stdout);
    _exit(0);
}
