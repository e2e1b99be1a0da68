/* Scenarios: small victims that fork while threads hold locks.
 *
 * A victim is a table of cases (scn_cases). `run` starts each case bare, where it must end exactly as `bare` says,
 * and again under the library. A victim never knows which of the two it is: what it demands is what a correct
 * program demands.
 *
 * Everything here keeps away from the locks under test: threads and processes meet on bells (eventfds), outcomes
 * travel through a shared page, and each forked process carries an alarm that ends it when it hangs.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <errno.h>
#include <pthread.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* What runs a case is given the case, and a thread an argument: not every one asks for it. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
/* A row need not fill in all of its members. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* Victims may be C++; the harness itself is C. */
#ifdef __cplusplus
#include <atomic>
using std::atomic_int;
#define _Noreturn [[noreturn]]
extern "C" {
#endif

/* --- Cases ------------------------------------------------------------------------------------------------ */

/*
 * How a case may end: "fine", "hangs", "fails EBUSY" (a call returned that error), "dies SIGABRT", "wrong"; bare "a|b":
 * either.
 */
struct scn_case {
    const char *bare;      /* how it ends without the library */
    const char *preloaded; /* how it ends with it; NULL: "fine" */
    const char *says;      /* demands on the library's lines, joined by " ;; "; NULL: none. A demand is a regular
                              expression that some line matches; "once:" exactly one line, "never:" none */
    const char *env;       /* settings for both runs, separated by blanks; @TMP@ is a fresh directory */
    void (*run)(const struct scn_case *self);
    const void *kind;  /* for the victim's own use, like the next three */
    const void *entry;
    long number;
    void (*body)(void);
    char name[64];
};

/* A case with these members. */
#define SCN_CASE(...) ((struct scn_case){__VA_ARGS__})

#define SCN_SILENT "never:^forksafe"
#define SCN_NEVER_TAKES "never:took over"

/* Each victim defines this; it calls scn_add for every case. */
void scn_cases(void);
void scn_add(struct scn_case added, const char *name_format, ...) __attribute__((format(printf, 2, 3)));

/* A row of cases that have the other members in common. */
struct scn_row {
    const char *name;
    void (*run)(const struct scn_case *self);
    long number;
    const char *says, *bare;
};
/* Adds each row with the other members of `rest`, also those that a row leaves NULL, as "NAME" or "NAME-SUFFIX". */
void scn_add_rows(const struct scn_row *rows, size_t count, struct scn_case rest, const char *suffix);
#define SCN_ROWS(rows) (rows), sizeof(rows) / sizeof *(rows)

/* --- Ends: any process, any thread; the first to end decides ------------------------------------------------ */

_Noreturn void scn_fine(void);
_Noreturn void scn_fails(int error, const char *where, const char *what);
_Noreturn void scn_wrong(const char *where, const char *what);
/* For the victim's own process, bare as under the library: this machine lacks what the case is about. */
_Noreturn void scn_skip(const char *reason);

#define SCN_TEXT_(x) #x
#define SCN_TEXT(x) SCN_TEXT_(x)
#define SCN_WHERE __FILE__ ":" SCN_TEXT(__LINE__)

/* CALL returns 0 or an error number and must give EXPECTED. */
#define SCN_IS(call, expected)                                                                                         \
    do {                                                                                                               \
        const int scn_got = (call);                                                                                    \
        if (scn_got != (expected)) {                                                                                   \
            if (scn_got > 0)                                                                                           \
                scn_fails(scn_got, SCN_WHERE, #call);                                                                  \
            scn_wrong(SCN_WHERE, #call " is not " #expected);                                                          \
        }                                                                                                              \
    } while (0)

#define SCN_CHECK(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            scn_wrong(SCN_WHERE, #condition);                                                                          \
    } while (0)

/* --- Processes ---------------------------------------------------------------------------------------------- */

/* fork(); the child carries its own alarm and dies with its parent. A child leaves by scn_fine() & co. */
pid_t scn_fork(void);
/* How often a storm forks that should fork COUNT times: a quick run makes a part of it, a long one more. */
int scn_often(int count);
/* Gives up the memory that a child of scn_fork shares with other processes: it can only hang from here on. */
void scn_give_up_board(void);
/* What scn_fork does in the child; for atfork handlers that may hang before fork() returns. */
void scn_arm(void);
/* Waits for CHILD. One that did not end fine ends this process in the same way. */
void scn_reap(pid_t child);
/* The block that follows runs in a child of scn_fork(), which ends fine behind it; the parent goes on after that. */
#define SCN_IN_CHILD SCN_IN_CHILD_(scn_child_, __LINE__)
#define SCN_IN_CHILD_(name, line) SCN_IN_CHILD__(name, line)
#define SCN_IN_CHILD__(name, line)                                                                                     \
    for (const pid_t name##line = scn_fork(); name##line == 0 || (scn_reap(name##line), false); scn_fine())

/* Skips where /proc does not say in which system call of this program's a thread is: an emulator has its own. */
void scn_needs_calls(void);

/* --- Threads ------------------------------------------------------------------------------------------------ */

pthread_t scn_start(void *(*body)(void *), void *argument);
void scn_join(pthread_t thread);
/* Runs BODY in a thread of its own and returns what it returned. */
int scn_elsewhere(int (*body)(void *), void *argument);

/* A bell counts its rings; an await takes one. Works across threads and processes. */
int scn_bell(void);
void scn_ring(int bell);
void scn_await(int bell);

/* The body of a thread that does nothing but wait for a ring of *BELL, an int. */
void *scn_stay(void *bell);

/* Returns when the thread or process TID sleeps in the kernel, or *INSTEAD has become non-zero (NULL: never). */
void scn_await_asleep(pid_t tid, const atomic_int *instead);
/* Returns when a thread has stored its id in *TID, and sleeps. */
void scn_await_sleeper(const atomic_int *tid);

/* --- Locks of any kind: calls that return 0 or an error number ------------------------------------------------ */

typedef int scn_call(void *lock);

struct scn_entry {
    const char *name;
    scn_call *take;
    const char *bare; /* how a child ends that uses it on a vanished thread's lock */
};

/* A thread named "worker" that takes LOCK depth times and keeps it until told to let go. */
struct scn_holder {
    scn_call *take, *give;
    void *lock;
    int depth;
    int held, leave;
    pthread_t thread;
};
/* Returns when the lock is held. */
void scn_hold(struct scn_holder *holder, scn_call *take, scn_call *give, void *lock, int depth);
/* HOLDER, a struct scn_holder, gives the lock back, which must succeed, and ends. */
void scn_let_go(void *holder);
/* The statement that follows runs while such a thread has LOCK, or the block in a child that is forked meanwhile. */
#define SCN_WHILE_HELD(take, give, lock) SCN_WHILE_HELD_(scn_holder_, __LINE__, take, give, lock)
#define SCN_WHILE_HELD_(name, line, take, give, lock) SCN_WHILE_HELD__(name, line, take, give, lock)
#define SCN_WHILE_HELD__(name, line, take, give, lock)                                                                 \
    for (struct scn_holder name##line, *name##is##line = (scn_hold(&name##line, take, give, lock, 1), &name##line);    \
         name##is##line != NULL; scn_let_go(&name##line), name##is##line = NULL)
#define SCN_IN_CHILD_WHILE_HELD(take, give, lock) SCN_WHILE_HELD(take, give, lock) SCN_IN_CHILD

/* A thread that waits for LOCK; scn_want returns when it sleeps in there. */
struct scn_waiter {
    scn_call *take, *give;
    void *lock;
    atomic_int tid, got;
    pthread_t thread;
};
void scn_want(struct scn_waiter *waiter, scn_call *take, scn_call *give, void *lock);

/* Threads that take and give LOCK in a tight loop. */
struct scn_hammer {
    scn_call *take, *give;
    void *lock;
    int threads;
    atomic_int stop, started;
    pthread_t thread[8];
};
void scn_hammer_start(struct scn_hammer *hammer, scn_call *take, scn_call *give, void *lock, int threads);
void scn_hammer_stop(struct scn_hammer *hammer);

/* THREADS threads take and give LOCK ROUNDS times each: never two inside, and the count adds up. */
void scn_exclusion(scn_call *take, scn_call *give, void *lock, int threads, int rounds);

/* Somebody in this process holds LOCK: a new thread that takes it must sleep until RELEASE(argument) was called. */
void scn_must_wait(scn_call *take, scn_call *give, void *lock, void (*release)(void *), void *argument);

/* --- Odds and ends -------------------------------------------------------------------------------------------- */

/* libc's own definition of NAME, past everything that interposes it. */
void *scn_libc(const char *name);
/* Whether this is glibc 2.MINOR or later, which decides over some of what happens bare. */
bool scn_glibc_since(int minor);
/* Whether an atfork handler may fork, load and register: glibc before 2.36 runs it with the lock that these need. */
bool scn_handlers_may_fork(void);
/* Now plus MS milliseconds. */
struct timespec scn_in_ms(clockid_t clock, long ms);
/* Resident memory of this process. */
long scn_resident_kib(void);

#ifdef __cplusplus
#undef _Noreturn
}
#endif

#endif
