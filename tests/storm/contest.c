/* Four threads fork while eight work: nobody may starve. The numbers are told, bare and under the library.
 *
 * The rows named *-rate have children that end at once, so that bare, too, none hangs and fork rates can be compared.
 */
#include "storm.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef const struct storm_seat *seat_t;
#define CALL(name) static bool name##_(seat_t seat __attribute__((unused)))

enum { LOCKS = 4 };

/* What each lock guards: two counts that only whoever holds the lock sees differ. */
static struct {
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    pthread_spinlock_t spin;
    volatile unsigned long before_mutex, after_mutex, before_rwlock, after_rwlock, before_spin, after_spin;
} guarded[LOCKS];

static const char *make_locks(void)
{
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&guarded[i].mutex, NULL);
        pthread_rwlock_init(&guarded[i].rwlock, NULL);
        pthread_spin_init(&guarded[i].spin, PTHREAD_PROCESS_PRIVATE);
    }
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    return NULL;
}

static unsigned pick(seat_t seat)
{
    return (unsigned)(seat->number + seat->round) % LOCKS;
}

/* Led out of the lock before the fork, or taken over from one who had half done: a child may find the counts apart
 * only where a lock was taken over. So nothing is demanded of them in a child. */
CALL(mutex)
{
    const unsigned i = pick(seat);
    STORM_CHECK(pthread_mutex_lock(&guarded[i].mutex) == 0);
    const bool is_even = guarded[i].before_mutex == guarded[i].after_mutex;
    guarded[i].before_mutex++;
    guarded[i].after_mutex = guarded[i].before_mutex;
    STORM_CHECK(pthread_mutex_unlock(&guarded[i].mutex) == 0);
    STORM_CHECK(is_even || seat->is_child);
    return true;
}

CALL(nested)
{
    STORM_CHECK(pthread_mutex_lock(&guarded[0].mutex) == 0);
    STORM_CHECK(pthread_mutex_lock(&guarded[1].mutex) == 0);
    STORM_CHECK(pthread_mutex_unlock(&guarded[1].mutex) == 0);
    STORM_CHECK(pthread_mutex_unlock(&guarded[0].mutex) == 0);
    return true;
}

/* The time zone's lock inside a mutex, as in perl. */
CALL(region_in_mutex)
{
    const time_t moment = 1700000000;
    struct tm tm;
    STORM_CHECK(pthread_mutex_lock(&guarded[2].mutex) == 0);
    STORM_CHECK(localtime_r(&moment, &tm) && tm.tm_hour == 23 && tm.tm_min == 13);
    STORM_CHECK(pthread_mutex_unlock(&guarded[2].mutex) == 0);
    return true;
}

CALL(rwlock_write)
{
    const unsigned i = pick(seat);
    STORM_CHECK(pthread_rwlock_wrlock(&guarded[i].rwlock) == 0);
    const bool is_even = guarded[i].before_rwlock == guarded[i].after_rwlock;
    guarded[i].before_rwlock++;
    guarded[i].after_rwlock = guarded[i].before_rwlock;
    STORM_CHECK(pthread_rwlock_unlock(&guarded[i].rwlock) == 0);
    STORM_CHECK(is_even || seat->is_child);
    return true;
}

CALL(rwlock_read)
{
    const unsigned i = pick(seat);
    STORM_CHECK(pthread_rwlock_rdlock(&guarded[i].rwlock) == 0);
    const bool is_even = guarded[i].before_rwlock == guarded[i].after_rwlock;
    STORM_CHECK(pthread_rwlock_unlock(&guarded[i].rwlock) == 0);
    STORM_CHECK(is_even || seat->is_child);
    return true;
}

CALL(spin)
{
    const unsigned i = pick(seat);
    STORM_CHECK(pthread_spin_lock(&guarded[i].spin) == 0);
    const bool is_even = guarded[i].before_spin == guarded[i].after_spin;
    guarded[i].before_spin++;
    if (!seat->is_child && seat->round % 8 == 0)
        sched_yield(); /* on a busy machine forks would meet threads that were stopped outside, all of them */
    guarded[i].after_spin = guarded[i].before_spin;
    STORM_CHECK(pthread_spin_unlock(&guarded[i].spin) == 0);
    STORM_CHECK(is_even || seat->is_child);
    return true;
}

CALL(localtime_r)
{
    const time_t moment = 1700000000;
    struct tm tm;
    STORM_CHECK(localtime_r(&moment, &tm) && tm.tm_hour == 23 && tm.tm_min == 13);
    return true;
}

CALL(random)
{
    STORM_CHECK(random() >= 0);
    return true;
}

CALL(setenv)
{
    STORM_CHECK(setenv("STORM_CONTEST", seat->round % 2 ? "odd" : "even", 1) == 0);
    return true;
}

/* The first worker takes a mutex and keeps it to the end, the others work with the rest: Python's way with locks. */
CALL(keep)
{
    static pthread_mutex_t kept = PTHREAD_MUTEX_INITIALIZER;
    static _Thread_local bool is_keeper;
    if (seat->number == 0 && !is_keeper) {
        STORM_CHECK(pthread_mutex_lock(&kept) == 0);
        is_keeper = true;
    }
    return is_keeper ? usleep(1000) == 0 : random_(seat);
}

CALL(leave)
{
    _exit(0);
}

static const struct storm_call mutexes[] = {{"mutex", mutex_, 0}, {"nested mutexes", nested_, 0}, {0}};
static const struct storm_call rwlocks[] = {{"wrlock", rwlock_write_, 0}, {"rdlock", rwlock_read_, 0}, {0}};
static const struct storm_call spins[] = {{"spin", spin_, 0}, {0}};
static const struct storm_call regions[] = {
    {"localtime_r", localtime_r_, 0}, {"random", random_, 0}, {"setenv", setenv_, 0}, {0}};
static const struct storm_call mixed[] = {{"mutex", mutex_, 0},
                                          {"nested mutexes", nested_, 0},
                                          {"localtime_r in a mutex", region_in_mutex_, 0},
                                          {"localtime_r", localtime_r_, 0},
                                          {"random", random_, 0},
                                          {"setenv", setenv_, 0},
                                          {0}};
static const struct storm_call mutexes_rate[] = {{"mutex", mutex_, STORM_WORKER},
                                                 {"nested mutexes", nested_, STORM_WORKER},
                                                 {"_exit", leave_, STORM_ENDS},
                                                 {0}};
static const struct storm_call regions_rate[] = {{"localtime_r", localtime_r_, STORM_WORKER},
                                                 {"random", random_, STORM_WORKER},
                                                 {"setenv", setenv_, STORM_WORKER},
                                                 {"_exit", leave_, STORM_ENDS},
                                                 {0}};
static const struct storm_call keep_rate[] = {
    {"keep", keep_, STORM_WORKER}, {"_exit", leave_, STORM_ENDS}, {0}};

const struct storm_row storm_rows[] = {
    {.name = "mutexes", .calls = mutexes, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "rwlocks", .calls = rwlocks, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "spins", .calls = spins, .prepare = make_locks, .threads = 2, .forkers = 4},
    {.name = "regions", .calls = regions, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "mixed", .calls = mixed, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "mutexes-rate", .calls = mutexes_rate, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "regions-rate", .calls = regions_rate, .prepare = make_locks, .threads = 8, .forkers = 4},
    {.name = "kept-rate", .calls = keep_rate, .prepare = make_locks, .threads = 4, .forkers = 1},
    {0}};
