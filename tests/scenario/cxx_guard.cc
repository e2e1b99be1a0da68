/* Function-local statics of C++ whose initialiser runs in another thread, or in the forking one, at fork. */
#include "scenario.h"

#include <cstdint>
#include <sched.h>
#include <stdexcept>

namespace {

int entered, leave;           /* bells around the initialiser */
pid_t slow_in;                /* the process whose initialiser waits for `leave` */
bool forks_inside, throws;    /* what else it does */
pid_t forked;
std::atomic<int> begun, inside;
std::atomic<int> failures;

int initial_value()
{
    begun++;
    if (inside++ != 0)
        scn_wrong(SCN_WHERE, "two initialisers at once");
    if (slow_in == getpid()) {
        scn_ring(entered);
        scn_await(leave);
    }
    if (forks_inside) {
        forks_inside = false;
        forked = scn_fork();
        if (forked == 0)
            slow_in = 0;
    }
    inside--;
    if (throws) {
        throws = false;
        throw std::runtime_error("the initialiser's own");
    }
    return static_cast<int>(getpid());
}

int value()
{
    static const int once = initial_value();
    return once;
}

void *ask(void *)
{
    pthread_setname_np(pthread_self(), "worker");
    SCN_CHECK(value() == getpid());
    return nullptr;
}

void *ask_until_done(void *)
{
    for (;;) {
        try {
            SCN_CHECK(value() == getpid());
            return nullptr;
        } catch (const std::runtime_error &) {
            failures++;
        }
    }
}

void get_ready()
{
    entered = scn_bell();
    leave = scn_bell();
    slow_in = getpid();
}

/* In a child: as many threads as ask get one value, made once, and made here. */
void check_threads(int threads)
{
    pthread_t thread[8];
    begun = inside = 0;
    for (int i = 0; i < threads; i++)
        thread[i] = scn_start(ask_until_done, nullptr);
    for (int i = 0; i < threads; i++)
        scn_join(thread[i]);
    SCN_CHECK(value() == getpid());
}

/* A worker is inside at fork; then `in_child` runs in the child and ends it. */
void beside_worker(void (*in_child)(), bool somebody_waits)
{
    get_ready();
    const pthread_t worker = scn_start(ask, nullptr);
    scn_await(entered);
    pthread_t waiting[2];
    for (int i = 0; somebody_waits && i < 2; i++)
        waiting[i] = scn_start(ask, nullptr);
    if (somebody_waits)
        usleep(100000); /* they are asleep by now; if not, nothing is lost */
    SCN_IN_CHILD {
        begun = inside = 0;
        in_child();
    }
    scn_ring(leave);
    scn_join(worker);
    for (int i = 0; somebody_waits && i < 2; i++)
        scn_join(waiting[i]);
    SCN_CHECK(begun == 1 && value() == getpid());
}

void child_asks()
{
    SCN_CHECK(value() == getpid());
    SCN_CHECK(begun == 1);
    check_threads(4);
    SCN_CHECK(begun == 0);
}

void threads_ask()
{
    check_threads(8);
    SCN_CHECK(begun == 1);
}

void child_throws()
{
    throws = true;
    try {
        value();
        scn_wrong(SCN_WHERE, "the exception is gone");
    } catch (const std::runtime_error &) {
    }
    SCN_CHECK(value() == getpid() && begun == 2);
}

void threads_throw()
{
    throws = true;
    check_threads(8);
    SCN_CHECK(begun == 2 && failures == 1);
}

void grandchild_asks()
{
    for (int i = 0; i < 2; i++) {
        SCN_IN_CHILD {
            begun = 0;
            SCN_CHECK(value() == getpid() && begun == 1);
        }
    }
    child_asks();
}

/* The child's own initialiser forks: its child is inside, too, and finishes. */
void child_forks_inside()
{
    forks_inside = true;
    const pid_t me = getpid();
    const int got = value();
    if (forked == 0) {
        SCN_CHECK(got == getpid() && got != me);
        check_threads(4);
        scn_fine();
    }
    scn_reap(forked);
    SCN_CHECK(got == me);
    check_threads(4);
}

/* A living thread of the child has it: the others wait for that one. */
void child_waits()
{
    get_ready();
    const pthread_t slow = scn_start(ask, nullptr);
    scn_await(entered);
    const pthread_t other = scn_start(ask_until_done, nullptr);
    usleep(200000);
    SCN_CHECK(begun == 1);
    scn_ring(leave);
    scn_join(slow);
    scn_join(other);
    SCN_CHECK(begun == 1);
}

void vanished(const scn_case *self)
{
    beside_worker(reinterpret_cast<void (*)()>(const_cast<void *>(self->entry)), self->number != 0);
}

/* The forking thread is inside: in the child it still is, and its new threads wait until it has finished. */
std::atomic<int> asked;

pthread_t late;
int forking_value();

void *ask_late(void *)
{
    asked = 1;
    SCN_CHECK(forking_value() == getpid() && asked == 2);
    return nullptr;
}

int value_after_fork()
{
    forked = scn_fork();
    if (forked == 0) {
        late = scn_start(ask_late, nullptr);
        while (asked == 0)
            sched_yield();
        usleep(100000);
        asked = 2;
    }
    return static_cast<int>(getpid());
}

int forking_value()
{
    static const int once = value_after_fork();
    return once;
}

void forker(const scn_case *)
{
    const int got = forking_value();
    SCN_CHECK(got == getpid());
    if (forked == 0) {
        scn_join(late);
        scn_fine();
    }
    scn_reap(forked);
}

/* No fork at all: eight threads, the first initialiser throws. */
void plain_throw(const scn_case *)
{
    threads_throw();
}

/* Guards begun and given up again all the time, so that a fork meets every state of one. */
int never()
{
    static const int once = []() -> int {
        for (std::atomic<int> i = 0; i < 300; i++)
            continue;
        throw 1;
    }();
    return once;
}

std::atomic<bool> stop;

void *try_for_ever(void *)
{
    while (!stop) {
        try {
            never();
        } catch (int) {
        }
    }
    return nullptr;
}

int try_once(void *)
{
    for (int i = 0; i < 20; i++) {
        try {
            never();
        } catch (int) {
            continue;
        }
        scn_wrong(SCN_WHERE, "no exception");
    }
    return 0;
}

void storm(const scn_case *)
{
    pthread_t thread[3];
    for (pthread_t &one : thread)
        one = scn_start(try_for_ever, nullptr);
    for (int i = scn_often(150); i > 0; i--) {
        SCN_IN_CHILD {
            try_once(nullptr);
            SCN_IS(scn_elsewhere(try_once, nullptr), 0);
        }
    }
    stop = true;
    for (pthread_t one : thread)
        scn_join(one);
}

/* A program's own mistake keeps what it gets from the runtime. */
int again(int depth)
{
    static const int once = depth > 0 ? again(depth - 1) : 1;
    return once;
}

void recursion(const scn_case *self)
{
    const int bell = scn_bell();
    if (self->number != 0)
        scn_start([](void *of) -> void * { scn_await(*static_cast<int *>(of)); return nullptr; },
                  const_cast<int *>(&bell));
    SCN_IN_CHILD {
        again(1);
    }
}

} // namespace

#define TAKEN                                                                                                          \
    "^forksafe\\[\\d+\\.\\d+\\] child took over guard 0x[0-9a-f]+ .*\\(static local\\) for .* held at fork by "        \
    "\\d+ \"worker\" since .* fork "
#define WOULD_HANG "child would hang on guard 0x[0-9a-f]+ .*\\(static local\\) for .* held at fork by \\d+ \"worker\""

extern "C" void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*in_child)();
        const char *says;
    } rows[] = {
        {"child-asks", child_asks, "once:" TAKEN},
        {"threads-ask", threads_ask, "once:" TAKEN},
        {"initialiser-throws", child_throws, "once:" TAKEN},
        {"threads-throw", threads_throw, "once:" TAKEN},
        {"grandchild-asks", grandchild_asks, TAKEN},
        {"child-forks-inside", child_forks_inside, "once:" TAKEN},
        {"child-waits-for-living", child_waits, "once:" TAKEN},
    };
    for (const auto &row : rows)
        for (int waits = 0; waits < 2; waits++)
            scn_add({.bare = "hangs", .says = row.says, .run = vanished,
                     .entry = reinterpret_cast<const void *>(row.in_child), .number = waits},
                    "%s%s", row.name, waits ? "-waited-for" : "");
    const auto *asks = reinterpret_cast<const void *>(child_asks);
    scn_add({.bare = "hangs", .preloaded = "hangs", .says = WOULD_HANG " ;; " SCN_NEVER_TAKES,
             .env = "FORKSAFE_MODE=report", .run = vanished, .entry = asks}, "report");
    scn_add({.bare = "hangs", .preloaded = "dies SIGABRT", .says = WOULD_HANG, .env = "FORKSAFE_MODE=abort",
             .run = vanished, .entry = asks}, "abort");
    scn_add({.bare = "hangs", .preloaded = "hangs", .says = SCN_SILENT, .env = "FORKSAFE_MODE=off", .run = vanished,
             .entry = asks}, "off");
    scn_add({.bare = "fine", .says = SCN_SILENT, .run = forker}, "forker");
    scn_add({.bare = "fine", .says = SCN_SILENT, .run = plain_throw}, "no-fork-throws");
    scn_add({.bare = "hangs", .run = storm}, "storm");
    /* libstdc++ asks libc whether there are threads, since glibc 2.32. */
    if (scn_glibc_since(32))
        scn_add({.bare = "dies SIGABRT", .preloaded = "dies SIGABRT", .says = SCN_SILENT, .run = recursion},
                "recursion-single-threaded");
    for (long threads = scn_glibc_since(32); threads < 2; threads++)
        scn_add({.bare = "hangs", .preloaded = "hangs", .says = "once:child hangs in guard",
                 .env = "FORKSAFE_HANG_MS=200", .run = recursion, .number = threads},
                threads == 1 ? "recursion-threaded" : "recursion-single-threaded");
}
