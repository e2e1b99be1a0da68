/*
 * Random programs: threads that take locks of all kinds in random ways, wait in a condition variable and meet at a
 * barrier, some cancelled; forks at random moments, by a thread that may hold a lock; children that go on with all of
 * it, with threads and children of their own. Each program follows from its number but for the scheduler. It is right
 * by construction: never two inside, nothing left over at the end.
 *
 * PROGRAMS in the environment: how many for each case; `make soak` asks for more.
 */

/*
 * Measured, on glibc 2.36 and x86-64 where nothing else is said.
 *
 * Random programs over all kinds of locks (tests/scenario/random_programs.c): 0 of 1,350 wrong. At first some were by
 * their own fault: fflush(NULL) while a lock was held, and _Fork, after which a child of a process with threads may
 * not even call malloc: libc's lock of arenas stays taken.
 */
#include "c11_kind.h"
#include "condvar_kind.h"
#include "mutex_kind.h"
#include "rwlock_kind.h"
#include "semaphore_kind.h"
#include "spin_kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dice {
    uint64_t state;
};

static unsigned roll(struct dice *dice, unsigned sides)
{
    dice->state = dice->state * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(dice->state >> 33) % sides;
}

static void dawdle(struct dice *dice)
{
    switch (roll(dice, 8)) {
    case 0:
        sched_yield();
        break;
    case 1:
        usleep(roll(dice, 60));
        break;
    default:
        for (volatile unsigned i = roll(dice, 200); i > 0; i--)
            ;
    }
}

/* --- Locks ------------------------------------------------------------------------------------------------------ */

enum family { MUTEX, C11, RWLOCK, SPIN, SEMAPHORE, STREAM };

struct kind {
    enum family family;
    int type; /* or preference */
    int protocol, robust;
};

static const struct kind kinds[] = {
    {MUTEX, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {MUTEX, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {MUTEX, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {MUTEX, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST},
    {C11, mtx_timed, 0, 0},
    {C11, mtx_timed | mtx_recursive, 0, 0},
    {RWLOCK, PTHREAD_RWLOCK_PREFER_READER_NP, 0, 0},
    {RWLOCK, PTHREAD_RWLOCK_PREFER_WRITER_NP, 0, 0},
    {RWLOCK, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, 0, 0},
    {SPIN, 0, 0, 0},
    {SEMAPHORE, 0, 0, 0},
    {SEMAPHORE, 0, 0, 0}, /* twice as likely */
    {STREAM, 0, 0, 0},
};
enum { ALL_KINDS = sizeof kinds / sizeof kinds[0], MUTEX_ONLY = 9 };

struct object {
    const struct kind *kind;
    union {
        pthread_mutex_t mutex;
        mtx_t c11;
        pthread_rwlock_t rwlock;
        pthread_spinlock_t spin;
        sem_t semaphore;
    } lock;
    FILE *stream;
    atomic_int writers, readers; /* inside */
};

static int stream_lock(void *stream)
{
    flockfile(stream);
    return 0;
}

static int stream_trylock(void *stream)
{
    return ftrylockfile(stream) == 0 ? 0 : EBUSY;
}

static const struct scn_entry stream_entries[] = {{"lock", stream_lock, "hangs"},
                                                  {"trylock", stream_trylock, "fails EBUSY"}};

static const struct {
    const struct scn_entry *entries;
    unsigned count;
} ways_in[] = {
    [MUTEX] = {mutex_entries, MUTEX_ENTRIES},
    [C11] = {c11_entries, C11_ENTRIES},
    [RWLOCK] = {rwlock_entries, RWLOCK_ENTRIES},
    [SPIN] = {spin_entries, SPIN_ENTRIES},
    [SEMAPHORE] = {semaphore_entries, SEMAPHORE_ENTRIES},
    [STREAM] = {stream_entries, 2},
};

static void make_mutex(const struct kind *kind, pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, kind->type), 0);
    SCN_IS(pthread_mutexattr_setprotocol(&attributes, kind->protocol), 0);
    SCN_IS(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    SCN_IS(pthread_mutex_init(mutex, &attributes), 0);
}

static void make(struct object *object, const struct kind *kind)
{
    memset(object, 0, sizeof *object);
    object->kind = kind;
    switch (kind->family) {
    case MUTEX:
        make_mutex(kind, &object->lock.mutex);
        break;
    case C11:
        SCN_IS(c11_error(mtx_init(&object->lock.c11, kind->type)), 0);
        break;
    case RWLOCK:
        rwlock_make_shared(&(const struct rwlock_kind){.preference = kind->type}, PTHREAD_PROCESS_PRIVATE,
                           &object->lock.rwlock);
        break;
    case SPIN:
        SCN_IS(pthread_spin_init(&object->lock.spin, PTHREAD_PROCESS_PRIVATE), 0);
        break;
    case SEMAPHORE:
        semaphore_make(&object->lock.semaphore, 1);
        break;
    case STREAM:
        object->stream = fopen("/dev/null", "w");
        SCN_CHECK(object->stream != NULL);
    }
}

static bool is_recursive(const struct kind *kind)
{
    return kind->family == STREAM || (kind->family == C11 && (kind->type & mtx_recursive) != 0) ||
           (kind->family == MUTEX && kind->type == PTHREAD_MUTEX_RECURSIVE);
}

static void *lock_of(struct object *object)
{
    return object->kind->family == STREAM ? (void *)object->stream : (void *)&object->lock;
}

static void go_in(struct object *object, bool reads)
{
    SCN_CHECK(atomic_load(&object->writers) == 0);
    SCN_CHECK(reads || atomic_load(&object->readers) == 0);
    atomic_fetch_add(reads ? &object->readers : &object->writers, 1);
}

/* What a lock of a vanished owner says, whose books are over. */
static int recover(struct object *object, int error)
{
    if (error != EOWNERDEAD || object->kind->robust != PTHREAD_MUTEX_ROBUST)
        return error;
    atomic_store(&object->writers, 0);
    return pthread_mutex_consistent(&object->lock.mutex);
}

static unsigned any_way(const struct object *object, struct dice *dice)
{
    /* No clock but the real one for inheriting mutexes. */
    return roll(dice, ways_in[object->kind->family].count - (object->kind->protocol == PTHREAD_PRIO_INHERIT));
}

/* Returns whether it could be had. *reads: shared with others. */
static bool take(struct object *object, unsigned way, bool *reads)
{
    const int error = recover(object, ways_in[object->kind->family].entries[way].take(lock_of(object)));
    if (way != 0 && (error == EBUSY || error == EAGAIN || error == ETIMEDOUT))
        return false;
    SCN_IS(error, 0);
    *reads = object->kind->family == RWLOCK && way >= RWLOCK_WRITES;
    go_in(object, *reads);
    return true;
}

static int release(struct object *object)
{
    switch (object->kind->family) {
    case MUTEX:
        return pthread_mutex_unlock(&object->lock.mutex);
    case C11:
        return c11_unlock(&object->lock.c11);
    case RWLOCK:
        return pthread_rwlock_unlock(&object->lock.rwlock);
    case SPIN:
        return pthread_spin_unlock(&object->lock.spin);
    case SEMAPHORE:
        return semaphore_post(&object->lock.semaphore);
    default:
        funlockfile(object->stream);
        return 0;
    }
}

static void give(struct object *object, bool reads)
{
    atomic_fetch_sub(reads ? &object->readers : &object->writers, 1);
    SCN_IS(release(object), 0);
}

/* What only the holder may do. */
static void use(struct object *object, bool reads, struct dice *dice)
{
    if (object->kind->family != SPIN)
        dawdle(dice);
    if (reads || roll(dice, 3) != 0)
        return;
    if (is_recursive(object->kind)) {
        SCN_IS(ways_in[object->kind->family].entries[0].take(lock_of(object)), 0);
        SCN_IS(release(object), 0);
    } else if (object->kind->family == MUTEX && object->kind->type == PTHREAD_MUTEX_ERRORCHECK) {
        SCN_IS(pthread_mutex_lock(&object->lock.mutex), EDEADLK);
    }
    if (object->kind->family == STREAM)
        SCN_CHECK(fputc('x', object->stream) == 'x');
}

/* --- The program ----------------------------------------------------------------------------------------------- */

enum { OBJECTS = 6, ONCES = 64, WORKERS = 4, WAITERS = 4, CHILDREN = 3 };

static struct object objects[OBJECTS];
static pthread_once_t onces[ONCES];
static struct object post; /* a mutex, and what threads wait for with it */
static pthread_cond_t condvar;
static int condvar_clock;
static pthread_barrier_t barrier; /* for two */
static int generations; /* that may come after the first process */

static void initialise(void)
{
    for (volatile int i = 0; i < 300; i++)
        ;
}

/* A lock, mostly, and sometimes a later one inside it. */
static void step(struct dice *dice)
{
    const unsigned outer = roll(dice, OBJECTS), inner = outer + 1 + roll(dice, OBJECTS);
    bool reads, inner_reads;
    if (roll(dice, 4) == 0)
        SCN_IS(pthread_once(&onces[roll(dice, ONCES)], initialise), 0);
    if (!take(&objects[outer], any_way(&objects[outer], dice), &reads))
        return;
    if (inner < OBJECTS && objects[outer].kind->family != SPIN &&
        take(&objects[inner], any_way(&objects[inner], dice), &inner_reads)) {
        use(&objects[inner], inner_reads, dice);
        give(&objects[inner], inner_reads);
    }
    use(&objects[outer], reads, dice);
    give(&objects[outer], reads);
}

struct actor {
    pthread_t thread;
    bool is_there, was_cancelled;
    struct dice dice;
    unsigned rounds;
    bool go; /* under the post */
};

static void start(struct actor *actor, void *(*body)(void *), struct dice *dice, unsigned rounds)
{
    if (actor->is_there)
        return;
    *actor = (struct actor){.is_there = true, .rounds = rounds, .dice.state = roll(dice, 1u << 31)};
    actor->thread = scn_start(body, actor);
}

static void finish(struct actor *actor)
{
    void *result;
    if (!actor->is_there)
        return;
    SCN_IS(pthread_join(actor->thread, &result), 0);
    SCN_CHECK(result == NULL || (actor->was_cancelled && result == PTHREAD_CANCELED));
    actor->is_there = false;
}

static void *work(void *raw)
{
    struct actor *self = raw;
    while (self->rounds-- > 0)
        step(&self->dice);
    return NULL;
}

static void *meet(void *raw)
{
    struct actor *self = raw;
    while (self->rounds-- > 0) {
        const int result = pthread_barrier_wait(&barrier);
        SCN_CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
    }
    return NULL;
}

/* libc's cleanup of a cancelled wait takes the mutex again and says nothing. */
static void leave_post(void *unused)
{
    go_in(&post, false);
    give(&post, false);
}

static int wait_once(struct dice *dice)
{
    const struct condvar_kind kind = {.clock = condvar_clock};
    if (roll(dice, 4) != 0)
        return condvar_entries[roll(dice, CONDVAR_ENTRIES)].wait(&kind, &condvar, &post.lock.mutex, CONDVAR_LONG_MS);
    const int error = condvar_timed(&kind, &condvar, &post.lock.mutex, 1);
    return error == ETIMEDOUT ? 0 : error;
}

static void *wait_for_post(void *raw)
{
    struct actor *self = raw;
    bool reads;
    take(&post, 0, &reads);
    pthread_cleanup_push(leave_post, NULL);
    while (!self->go) {
        atomic_store(&post.writers, 0);
        SCN_IS(recover(&post, wait_once(&self->dice)), 0);
        go_in(&post, false);
    }
    pthread_cleanup_pop(0);
    give(&post, false);
    return NULL;
}

static void let_go(struct actor *waiters, unsigned count, bool inside)
{
    bool reads;
    take(&post, 0, &reads);
    for (unsigned i = 0; i < count; i++)
        waiters[i].go = true;
    if (inside)
        SCN_IS(pthread_cond_broadcast(&condvar), 0);
    give(&post, false);
    if (!inside)
        SCN_IS(pthread_cond_broadcast(&condvar), 0);
}

static void make_all(struct dice *dice)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        make(&objects[i], &kinds[roll(dice, ALL_KINDS)]);
    for (unsigned i = 0; i < ONCES; i++)
        onces[i] = (pthread_once_t)PTHREAD_ONCE_INIT;
    make(&post, &kinds[roll(dice, MUTEX_ONLY)]);
    condvar_clock = roll(dice, 2) ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    condvar_make_shared(&(const struct condvar_kind){.clock = condvar_clock}, PTHREAD_PROCESS_PRIVATE, &condvar);
    SCN_IS(pthread_barrier_init(&barrier, NULL, 2), 0);
}

/* Everything is free and can be destroyed. */
static void check_all(void)
{
    bool reads;
    for (unsigned i = 0; i < OBJECTS; i++) {
        take(&objects[i], 0, &reads);
        give(&objects[i], reads);
        SCN_CHECK(atomic_load(&objects[i].writers) == 0 && atomic_load(&objects[i].readers) == 0);
        if (objects[i].kind->family == SEMAPHORE)
            SCN_CHECK(semaphore_value(&objects[i].lock.semaphore) == 1);
        if (objects[i].kind->family == MUTEX)
            SCN_IS(pthread_mutex_destroy(&objects[i].lock.mutex), 0);
    }
    SCN_IS(pthread_cond_destroy(&condvar), 0);
    SCN_IS(pthread_mutex_destroy(&post.lock.mutex), 0);
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
}

static void play(struct dice *dice, int depth, struct object *held, bool reads);

/* A child that goes on, perhaps inside a lock that its thread has. */
static pid_t fork_one(struct dice *dice, int depth)
{
    struct object *held = roll(dice, 3) == 0 ? &objects[roll(dice, OBJECTS)] : NULL;
    struct dice childs = {roll(dice, 1u << 31)};
    bool reads = false;
    if (held != NULL)
        take(held, 0, &reads);
    const pid_t child = scn_fork(); /* (After _Fork() a child may not even call malloc.) */
    if (child == 0) {
        /* Who else was inside has vanished. */
        for (struct object *other = objects; other < objects + OBJECTS; other++) {
            atomic_store(&other->writers, other == held && !reads);
            atomic_store(&other->readers, other == held && reads);
        }
        atomic_store(&post.writers, 0);
        play(&childs, depth + 1, held, reads);
        scn_fine();
    }
    if (held != NULL)
        give(held, reads);
    return child;
}

static void play(struct dice *dice, int depth, struct object *held, bool reads)
{
    struct actor workers[WORKERS] = {0}, waiters[WAITERS] = {0}, pair[2] = {0};
    pid_t children[CHILDREN];
    unsigned born = 0;
    if (held != NULL) {
        use(held, reads, dice);
        give(held, reads);
    }
    for (unsigned left = depth > 0 ? roll(dice, 16) : 10 + roll(dice, 30); left > 0; left--) {
        const unsigned who = roll(dice, WORKERS), meetings = 1 + roll(dice, 100);
        switch (roll(dice, 9)) {
        case 0:
        case 1:
            start(&workers[who], work, dice, 1 + roll(dice, depth > 0 ? 60 : 400));
            break;
        case 2:
            if (roll(dice, 3) == 0)
                finish(&workers[who]);
            break;
        case 3:
            if (depth < generations && born < CHILDREN)
                children[born++] = fork_one(dice, depth);
            break;
        case 4:
            start(&waiters[who], wait_for_post, dice, 0);
            break;
        case 5:
            if (waiters[who].is_there)
                let_go(&waiters[who], 1, roll(dice, 2));
            break;
        case 6:
            SCN_IS(pthread_cond_signal(&condvar), 0); /* for nothing */
            if (waiters[who].is_there && !waiters[who].was_cancelled) {
                waiters[who].was_cancelled = true;
                const int error = pthread_cancel(waiters[who].thread);
                SCN_CHECK(error == 0 || error == ESRCH); /* before glibc 2.34: of one that has ended */
            }
            break;
        case 7:
            if (!pair[0].is_there)
                for (unsigned i = 0; i < 2; i++)
                    start(&pair[i], meet, dice, meetings);
            break;
        default:
            step(dice);
        }
        dawdle(dice);
    }
    let_go(waiters, WAITERS, true);
    for (unsigned i = 0; i < WORKERS; i++)
        finish(&workers[i]);
    for (unsigned i = 0; i < WAITERS; i++)
        finish(&waiters[i]);
    for (unsigned i = 0; i < 2; i++)
        finish(&pair[i]);
    check_all();
    while (born > 0)
        scn_reap(children[--born]);
}

static void programs(const struct scn_case *self)
{
    const char *asked = getenv("PROGRAMS");
    const long count = asked != NULL ? atol(asked) : 12;
    generations = self->number > 0 ? 2 : 0;
    for (long i = 0; i < count; i++) {
        SCN_IN_CHILD {
            struct dice dice = {(unsigned long)(self->number * 100000 + i) * 2654435761UL};
            for (int throw_away = 0; throw_away < 5; throw_away++)
                roll(&dice, 2);
            make_all(&dice);
            play(&dice, 0, NULL, false);
        }
    }
}

void scn_cases(void)
{
    /* Without forks they are right; which of the many things that children do wrong bare is the first is chance. */
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = programs), "without-forks");
    for (long i = 1; i < 4; i++)
        scn_add(SCN_CASE(.bare = "hangs|wrong|fails EPERM|fails EBUSY|fails EDEADLK|dies SIGABRT", .run = programs,
                         .number = i), "from-%ld", i * 100000);
}
