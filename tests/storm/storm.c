#include "storm.h"
#include "../names.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CALLS = 256,
    MAX_THREADS = 64,
    MAX_IN_FLIGHT = 1024,
    MAX_FORKERS = 8,
    SLOW_ONE_IN = 64,
    BACKSTOP_SECONDS = 3, /* so much later than its alarm a child is killed: it may have hung before it had one */
    JOIN_SECONDS = 60
};

/* A child's place in the memory that it shares with the parent. Index 0 of `at`: it has made no call yet. */
struct slot {
    pid_t pid; /* 0: free */
    int forker;
    double since;
    atomic_int at;
    char detail[160]; /* what was wrong, in words */
};

struct tally {
    unsigned long hung, wrong;
};

static const struct storm_row *row;
static unsigned long forks = 300, enough = -1ul;
static unsigned threads = 4, in_flight = 16;
static double limit = 5;

/* All calls of the row, in order; what children and workers pick is an index here. */
static const struct storm_call *calls[MAX_CALLS];
static const char *call_rows[MAX_CALLS];
static int call_count;

static struct slot *slots;
static struct tally by_call[MAX_CALLS + 1];
static atomic_ulong forks_begun, forks_done, hung_children, parent_wrong;
static atomic_bool stop;
static char parent_detail[160];
static double slowest_fork[MAX_FORKERS], slowest_child[MAX_FORKERS];
static struct {
    _Alignas(64) atomic_ulong rounds;
    atomic_int at;
} work[MAX_THREADS];
static __thread char *detail_here;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void nap(long us)
{
    const struct timespec brief = {0, us * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &brief, NULL);
}

static _Noreturn void give_up(const char *what)
{
    dprintf(STDOUT_FILENO, "Bail out! %s: %s: %s\n", row ? row->name : "storm", what, error_name(errno));
    _exit(2);
}

unsigned long storm_forks(void)
{
    return atomic_load_explicit(&forks_begun, memory_order_relaxed);
}

bool storm_is_wrong(const char *condition, int line)
{
    const char *error = error_name(errno); /* takes no lock, unlike strerror */
    if (detail_here && !detail_here[0])
        snprintf(detail_here, sizeof parent_detail, "line %d: %s (%s)", line, condition, error ? error : "?");
    return false;
}

const char *storm_needs_etc(void)
{
    return access(STORM_ETC, F_OK) == 0 ? NULL
                                        : "no /etc of its own, which tests/surroundings/apart makes where it may";
}

/* --- Workers ------------------------------------------------------------------------------------------------------ */

static bool is_all(void)
{
    return row->calls == NULL;
}

static bool is_for_worker(int index)
{
    const unsigned flags = calls[index]->flags;
    return !(flags & (STORM_CHILD | STORM_ENDS)) && !(is_all() && (flags & STORM_APART));
}

static void *worker_body(void *raw)
{
    const unsigned number = (unsigned)(size_t)raw;
    static __thread char detail[sizeof parent_detail];
    detail_here = detail;
    struct storm_seat seat = {.number = number};
    int index = (int)(number * (unsigned)call_count / threads);
    for (unsigned long turn = 0; !atomic_load_explicit(&stop, memory_order_relaxed); turn++) {
        index = (index + 1) % call_count;
        if (!is_for_worker(index))
            continue;
        if (is_all() && (calls[index]->flags & STORM_SLOW) && (turn / (unsigned)call_count + number) % SLOW_ONE_IN)
            continue;
        atomic_store_explicit(&work[number].at, index + 1, memory_order_relaxed);
        if (!calls[index]->make(&seat)) {
            if (atomic_fetch_add(&parent_wrong, 1) == 0)
                snprintf(parent_detail, sizeof parent_detail, "%.60s: %.90s", calls[index]->name, detail);
        }
        seat.round++;
        atomic_store_explicit(&work[number].rounds, seat.round, memory_order_relaxed);
    }
    atomic_store(&work[number].at, 0);
    return NULL;
}

/* --- Children ----------------------------------------------------------------------------------------------------- */

static void arm(void)
{
    signal(SIGALRM, SIG_DFL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const struct itimerval timer = {.it_value = {(time_t)limit, (suseconds_t)((limit - (double)(time_t)limit) * 1e6)}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void make_in_child(struct slot *slot, const struct storm_seat *seat, int index)
{
    atomic_store(&slot->at, index + 1);
    if (!calls[index]->make(seat))
        _exit(1);
}

/* The first of the calls [FROM, TO) that SEAT's number chooses and whose flags have, or have not, ENDS. -1: none */
static int choose(const struct storm_seat *seat, int from, int to, bool ends)
{
    for (int i = 0; i < to - from; i++) {
        const int index = from + (int)((seat->number + (unsigned)i) % (unsigned)(to - from));
        const unsigned flags = calls[index]->flags;
        if (!(flags & STORM_WORKER) && !(is_all() && (flags & STORM_APART)) && !(flags & STORM_ENDS) == !ends)
            return index;
    }
    return -1;
}

static _Noreturn void child(struct slot *slot, unsigned number)
{
    arm();
    detail_here = slot->detail;
    const struct storm_seat seat = {.is_child = true, .number = number};
    if (is_all()) {
        /* One call of each row; which row is the first differs from child to child. */
        int starts[MAX_CALLS + 1], rows = 0;
        for (int i = 0; i < call_count; i++)
            if (i == 0 || call_rows[i] != call_rows[i - 1])
                starts[rows++] = i;
        starts[rows] = call_count;
        for (int i = 0; i < rows; i++) {
            const int which = (int)((number + (unsigned)i) % (unsigned)rows);
            const int index = choose(&seat, starts[which], starts[which + 1], false);
            if (index >= 0)
                make_in_child(slot, &seat, index);
        }
    } else {
        for (int i = 0; i < call_count; i++) {
            const int index = (int)((number + (unsigned)i) % (unsigned)call_count);
            if (!(calls[index]->flags & (STORM_WORKER | STORM_ENDS)))
                make_in_child(slot, &seat, index);
        }
    }
    const int last = choose(&seat, 0, call_count, true);
    if (last >= 0)
        make_in_child(slot, &seat, last);
    _exit(0);
}

static void reap(struct slot *slot, int forker)
{
    int status;
    const pid_t got = waitpid(slot->pid, &status, WNOHANG);
    const double age = now() - slot->since;
    if (got == 0) {
        if (age > limit + BACKSTOP_SECONDS)
            kill(slot->pid, SIGKILL);
        return;
    }
    if (got != slot->pid)
        give_up("waitpid");
    slot->pid = 0;
    struct tally *tally = &by_call[atomic_load(&slot->at)];
    const int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (sig == SIGALRM || sig == SIGKILL) {
        __atomic_add_fetch(&tally->hung, 1, __ATOMIC_RELAXED);
        atomic_fetch_add(&hung_children, 1);
    } else {
        if (age > slowest_child[forker])
            slowest_child[forker] = age;
        if (sig || WEXITSTATUS(status)) {
            const unsigned long before = __atomic_fetch_add(&tally->wrong, 1, __ATOMIC_RELAXED);
            if (before < 3) {
                const int at = atomic_load(&slot->at);
                dprintf(STDOUT_FILENO, "# child, in %s: %s%s\n", at ? calls[at - 1]->name : "fork",
                        sig ? "died of SIG" : slot->detail, sig ? signal_name(sig) : "");
            }
        }
    }
}

static bool reap_all(int forker, unsigned from, unsigned to)
{
    bool is_one_left = false;
    for (unsigned i = from; i < to; i++)
        if (slots[i].pid) {
            reap(&slots[i], forker);
            is_one_left = is_one_left || slots[i].pid;
        }
    return is_one_left;
}

/* Forks until all forkers together have done so often enough. Each has its own share of the slots. */
static void *forker_body(void *raw)
{
    const int forker = (int)(size_t)raw;
    const unsigned count = row->forkers ? row->forkers : 1;
    const unsigned share = in_flight / count;
    const unsigned from = (unsigned)forker * share, to = from + share;
    for (;;) {
        const unsigned long number = atomic_fetch_add(&forks_begun, 1);
        if (number >= forks || atomic_load(&hung_children) >= enough)
            break;
        unsigned i;
        for (;;) {
            reap_all(forker, from, to);
            for (i = from; i < to && slots[i].pid; i++)
                ;
            if (i < to)
                break;
            nap(500);
        }
        if (!row->forkers && number < forks / 3)
            nap(1000); /* forks in close order meet threads that the last one stopped, these meet them at work */
        struct slot *slot = &slots[i];
        atomic_store(&slot->at, 0);
        slot->detail[0] = '\0';
        slot->since = now();
        const pid_t pid = fork();
        if (pid < 0)
            give_up("fork");
        if (pid == 0)
            child(slot, (unsigned)number);
        slot->pid = pid;
        const double took = now() - slot->since;
        if (took > slowest_fork[forker])
            slowest_fork[forker] = took;
        atomic_fetch_add(&forks_done, 1);
    }
    while (reap_all(forker, from, to))
        nap(500);
    return NULL;
}

/* --- The storm ---------------------------------------------------------------------------------------------------- */

static void collect(void)
{
    for (const struct storm_row *other = is_all() ? storm_rows : row; other->name; other++) {
        if (other->calls && !(is_all() && other->is_apart)) {
            if (is_all() && other->prepare) {
                const char *reason = other->prepare();
                if (reason) {
                    dprintf(STDOUT_FILENO, "# without %s: %s\n", other->name, reason);
                    continue;
                }
            }
            for (const struct storm_call *call = other->calls; call->name; call++) {
                if (call_count == MAX_CALLS)
                    abort();
                call_rows[call_count] = other->name;
                calls[call_count++] = call;
            }
        }
        if (!is_all())
            break;
    }
}

static unsigned long total_rounds(void)
{
    unsigned long total = 0;
    for (unsigned i = 0; i < threads; i++)
        total += atomic_load(&work[i].rounds);
    return total;
}

/* All threads of the parent end, none has done nothing. */
static bool join_workers(const pthread_t *worker)
{
    bool is_well = true;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += JOIN_SECONDS;
    atomic_store(&stop, true);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_timedjoin_np(worker[i], NULL, &until) != 0) {
            const int at = atomic_load(&work[i].at);
            dprintf(STDOUT_FILENO, "# parent: thread %u does not end, it is in %s\n", i,
                    at ? calls[at - 1]->name : "no call");
            is_well = false;
        } else if (atomic_load(&work[i].rounds) == 0) {
            dprintf(STDOUT_FILENO, "# parent: thread %u made no call to its end\n", i);
            is_well = false;
        }
    }
    return is_well;
}

static double largest(const double *values)
{
    double most = 0;
    for (int i = 0; i < MAX_FORKERS; i++)
        if (values[i] > most)
            most = values[i];
    return most;
}

static void tell(double seconds, unsigned long rounds, unsigned long *hung, unsigned long *wrong)
{
    for (int i = 0; i <= call_count; i++) {
        *hung += by_call[i].hung;
        *wrong += by_call[i].wrong;
        if (by_call[i].hung || by_call[i].wrong)
            dprintf(STDOUT_FILENO, "# %s: %lu hung, %lu wrong\n", i ? calls[i - 1]->name : "fork", by_call[i].hung,
                    by_call[i].wrong);
    }
    const unsigned long bad = atomic_load(&parent_wrong);
    if (bad)
        dprintf(STDOUT_FILENO, "# parent: %lu wrong, the first one in %s\n", bad, parent_detail);
    *wrong += bad;
    dprintf(STDOUT_FILENO,
            "# %.1f s, %.0f forks/s, %.0f calls/s in %u threads, slowest fork %.1f ms, slowest child %.0f ms\n",
            seconds, (double)atomic_load(&forks_done) / seconds, (double)rounds / seconds, threads,
            largest(slowest_fork) * 1e3, largest(slowest_child) * 1e3);
}

static int run_row(void)
{
    const char *reason = row->prepare ? row->prepare() : NULL;
    if (!reason)
        collect();
    if (reason || !call_count) {
        dprintf(STDOUT_FILENO, "%s: skipped: %s\n", row->name, reason ? reason : "nothing can run here");
        return 77;
    }
    if (row->threads)
        threads = row->threads;
    slots = mmap(NULL, in_flight * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED)
        give_up("mmap");

    pthread_t worker[MAX_THREADS], forker[MAX_FORKERS];
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&worker[i], NULL, worker_body, (void *)(size_t)i) != 0)
            give_up("pthread_create");
    /* A storm, not a start: each has made a call. One may sleep on purpose, so that has an end. */
    const double begun = now();
    for (unsigned i = 0; i < threads; i++)
        while (!atomic_load(&work[i].rounds) && now() - begun < 5)
            sched_yield();

    const double start = now();
    const unsigned long before = total_rounds();
    if (row->forkers) {
        for (unsigned i = 0; i < row->forkers; i++)
            if (pthread_create(&forker[i], NULL, forker_body, (void *)(size_t)i) != 0)
                give_up("pthread_create");
        for (unsigned i = 0; i < row->forkers; i++)
            pthread_join(forker[i], NULL);
    } else {
        forker_body(NULL);
    }
    const double seconds = now() - start;
    const unsigned long rounds = total_rounds() - before;

    const bool is_well = join_workers(worker);
    for (const struct storm_row *one = storm_rows; one->name; one++)
        if (one->end && (one == row || is_all()))
            one->end();
    unsigned long hung = 0, wrong = 0;
    tell(seconds, rounds, &hung, &wrong);
    if (!is_well)
        wrong++;
    dprintf(STDOUT_FILENO, "%s: %lu hung, %lu wrong of %lu\n", row->name, hung, wrong, atomic_load(&forks_done));
    if (!is_well)
        _exit(1); /* exit() would wait for nobody, but a thread may be inside it */
    return hung || wrong;
}

int main(int argc, char **argv)
{
    const char *name = NULL;
    bool is_bad = false;
    for (int i = 1; i < argc && !is_bad; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--list") == 0) {
            for (const struct storm_row *one = storm_rows; one->name; one++)
                puts(one->name);
            return 0;
        }
        if (argv[i][0] != '-') {
            is_bad = name != NULL;
            name = argv[i];
            continue;
        }
        if (!value)
            is_bad = true;
        else if (strcmp(argv[i], "--forks") == 0)
            forks = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--enough") == 0) /* hung children: no more are forked then */
            enough = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--threads") == 0)
            threads = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--in-flight") == 0)
            in_flight = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--limit") == 0)
            limit = strtod(value, NULL);
        else
            is_bad = true;
        i++;
    }
    for (const struct storm_row *one = storm_rows; name && one->name; one++)
        if (strcmp(one->name, name) == 0)
            row = one;
    if (is_bad || !row || threads < 1 || threads > MAX_THREADS || in_flight < MAX_FORKERS ||
        in_flight > MAX_IN_FLIGHT || !(limit > 0)) {
        fprintf(stderr,
                "usage: %s --list | [--forks N] [--enough N] [--threads N] [--in-flight N] [--limit SECONDS] ROW\n",
                argv[0]);
        return 2;
    }
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    return run_row();
}
