/* libc loads what a call needs the first time it is made: a fork in the middle of that, in many young processes. */
#include "scenario.h"

#include <grp.h>
#include <netdb.h>
#include <pwd.h>

enum { PROCESSES = 60 };

static void user(void)
{
    struct passwd entry, *found;
    char buffer[4096];
    getpwnam_r("nobody-is-called-so", &entry, buffer, sizeof buffer, &found);
    SCN_CHECK(found == NULL);
}

static void group(void)
{
    struct group entry, *found;
    char buffer[4096];
    getgrgid_r(1234567, &entry, buffer, sizeof buffer, &found);
    SCN_CHECK(found == NULL);
}

static void service(void)
{
    struct servent entry, *found;
    char buffer[4096];
    getservbyname_r("nothing-is-called-so", "tcp", &entry, buffer, sizeof buffer, &found);
    SCN_CHECK(found == NULL);
}

static void (*call)(void);

static void *call_body(void *unused)
{
    call();
    return unused;
}

static void young_processes(const struct scn_case *self)
{
    call = (void (*)(void))self->entry;
    for (int i = 0; i < PROCESSES; i++) {
        SCN_IN_CHILD {
            const pthread_t caller = scn_start(call_body, NULL);
            for (volatile int spin = 0; spin < i * 300; spin++)
                ;
            SCN_IN_CHILD {
                call();
            }
            scn_join(caller);
        }
    }
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {{"getpwnam_r", user}, {"getgrgid_r", group}, {"getservbyname_r", service}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        scn_add(SCN_CASE(.bare = "hangs|fine|wrong|dies SIGSEGV", .says = SCN_SILENT, .run = young_processes,
                         .entry = (void *)calls[i].call), "%s", calls[i].name);
}
