/* A program in C loads a module in C++, and with it the C++ library, where nobody else looks for symbols
 * (RTLD_LOCAL), as Python does with its extensions. The module has a static local; a thread is inside its
 * initialiser at fork. */
#include "scenario.h"

#include <dlfcn.h>
#include <string.h>

static int (*value)(void (*initialiser)(void));
static int entered, leave;
static pid_t slow_in;
static atomic_int begun;

static void initialise(void)
{
    begun++;
    if (slow_in == getpid()) {
        scn_ring(entered);
        scn_await(leave);
    }
}

static void load(void)
{
    void *module = dlopen(CXX_MODULE, RTLD_NOW | RTLD_LOCAL);
    SCN_CHECK(module != NULL);
    SCN_CHECK(dlsym(RTLD_DEFAULT, "__cxa_throw") == NULL); /* the scene: no C++ library in the global scope */
    void *address = dlsym(module, "module_value");
    SCN_CHECK(address != NULL);
    memcpy(&value, &address, sizeof value);
}

static void *ask(void *unused)
{
    pthread_setname_np(pthread_self(), "worker");
    SCN_CHECK(value(initialise) == getpid());
    return unused;
}

static void no_fork(const struct scn_case *self)
{
    load();
    ask(NULL);
    ask(NULL);
    SCN_CHECK(begun == 1);
}

static void vanished(const struct scn_case *self)
{
    load();
    entered = scn_bell();
    leave = scn_bell();
    slow_in = getpid();
    const pthread_t worker = scn_start(ask, NULL);
    scn_await(entered);
    SCN_IN_CHILD {
        begun = 0;
        ask(NULL);
        scn_join(scn_start(ask, NULL));
        SCN_CHECK(begun == 1);
    }
    scn_ring(leave);
    scn_join(worker);
    SCN_CHECK(begun == 1);
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = no_fork), "no-fork");
    scn_add(SCN_CASE(.bare = "hangs", .says = "once:took over guard .*\\(static local\\) for module_value",
                     .run = vanished), "vanished");
}
