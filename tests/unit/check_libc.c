/*
 * Tests of src/libc: layout, modules, symbol. Linked with --export-dynamic: the symbols of this program that are
 * not hidden can be found by name.
 */
#include "unit.h"

#include "base/maps.h"
#include "base/sys.h"
#include "libc/modules.h"
#include "libc/unwind.h"
#include "libc/symbol.h"

#include <dlfcn.h>
#include <link.h>

/* --- layout: the self-test -------------------------------------------------------------------------- */

#ifdef FSAFE_LAYOUT_GLIBC

static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                            PTHREAD_MUTEX_ADAPTIVE_NP};
enum { TYPES = sizeof types / sizeof *types };

static void init_of_type(pthread_mutex_t *mutex, int type)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    ck_assert_int_eq(pthread_mutexattr_settype(&attributes, type), 0);
    ck_assert_int_eq(pthread_mutex_init(mutex, &attributes), 0);
}

UNIT_TEST(layout_is_silent_before_the_self_test)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    ck_assert(fsafe_layout_type(&mutex) != PTHREAD_MUTEX_NORMAL);
    ck_assert(!fsafe_layout_in_place(&mutex));
    ck_assert_int_eq(fsafe_layout_mutex_kind(&mutex), FSAFE_MUTEX_FOREIGN);
    ck_assert(!fsafe_layout.sem_bytes);
}

UNIT_TEST(layout_knows_this_libc)
{
    unit_start_layout();
    ck_assert(fsafe_layout.mutex_bytes);
    ck_assert_int_eq(fsafe_layout.in_place, 0);
    ck_assert(fsafe_layout.rwlock_bytes);
    ck_assert(fsafe_layout.sem_bytes);
    ck_assert_int_eq(fsafe_layout_probe_owner(), fsafe_sys_gettid());
}

/* Stand-ins for a libc whose bytes mean something else. `only` narrows the change down to one type of mutex. */
static int only = -1;

static bool is_meant(const pthread_mutex_t *mutex)
{
    return only == -1 || (mutex->__data.__kind & 3) == only;
}

static int lock_for_another_owner(pthread_mutex_t *mutex)
{
    int result = pthread_mutex_lock(mutex);
    if (is_meant(mutex))
        mutex->__data.__owner++;
    return result;
}

static int lock_without_owner(pthread_mutex_t *mutex)
{
    int result = pthread_mutex_lock(mutex);
    if (is_meant(mutex))
        mutex->__data.__owner = 0;
    return result;
}

static int lock_twice(pthread_mutex_t *mutex)
{
    int result = pthread_mutex_lock(mutex);
    if (is_meant(mutex) && (mutex->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE)
        mutex->__data.__count = 2;
    return result;
}

static int lock_elsewhere(pthread_mutex_t *mutex)
{
    int result = pthread_mutex_lock(mutex);
    if (is_meant(mutex))
        mutex->__data.__lock = 0;
    return result;
}

static int unlock_but_count(pthread_mutex_t *mutex)
{
    bool meant = is_meant(mutex);
    int result = pthread_mutex_unlock(mutex);
    if (meant)
        mutex->__data.__nusers = 1;
    return result;
}

static int init_with_a_flag(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    int result = pthread_mutex_init(mutex, attributes);
    if (is_meant(mutex))
        mutex->__data.__kind |= 0x400;
    return result;
}

static int destroy_nothing(pthread_mutex_t *mutex)
{
    return is_meant(mutex) ? EBUSY : 0;
}

/* Mutexes whose bytes are read rightly, but that libc treats in a way of its own. */
static int lock_and_note_it(pthread_mutex_t *mutex)
{
    int result = pthread_mutex_lock(mutex);
    if (is_meant(mutex))
        mutex->__data.__spins++;
    return result;
}

static int try_in_vain(pthread_mutex_t *mutex)
{
    return is_meant(mutex) ? EBUSY : pthread_mutex_trylock(mutex);
}

static pthread_mutex_t *locked_by_call;

static int lock_by_call(pthread_mutex_t *mutex)
{
    locked_by_call = mutex;
    return pthread_mutex_lock(mutex);
}

static int unlock_if_locked_by_call(pthread_mutex_t *mutex)
{
    if (is_meant(mutex) && locked_by_call != mutex)
        return EPERM;
    locked_by_call = NULL;
    return pthread_mutex_unlock(mutex);
}

struct broken_mutex {
    const char *name;
    __typeof__(pthread_mutex_init) *init;
    __typeof__(pthread_mutex_destroy) *destroy;
    __typeof__(pthread_mutex_lock) *lock;
    __typeof__(pthread_mutex_trylock) *trylock;
    __typeof__(pthread_mutex_unlock) *unlock;
    bool bytes_are_right;
    bool recursive_only;
};

static const struct broken_mutex broken_mutexes[] = {
    {.name = "another owner", .lock = lock_for_another_owner},
    {.name = "no owner", .lock = lock_without_owner},
    {.name = "depth 2", .lock = lock_twice, .recursive_only = true},
    {.name = "another lock word", .lock = lock_elsewhere},
    {.name = "a count left", .unlock = unlock_but_count},
    {.name = "an unknown flag", .init = init_with_a_flag},
    {.name = "destroy refused", .destroy = destroy_nothing},
    {.name = "a further byte", .lock = lock_and_note_it, .bytes_are_right = true},
    {.name = "trylock refused", .trylock = try_in_vain, .bytes_are_right = true},
    {.name = "our lock is not libc's",
     .lock = lock_by_call,
     .unlock = unlock_if_locked_by_call,
     .bytes_are_right = true},
};
enum { BROKEN_MUTEXES = sizeof broken_mutexes / sizeof *broken_mutexes };

static void break_mutex(const struct broken_mutex *broken)
{
    struct fsafe_layout_calls calls = unit_libc_calls();
    calls.mutex_init = broken->init != NULL ? broken->init : calls.mutex_init;
    calls.mutex_destroy = broken->destroy != NULL ? broken->destroy : calls.mutex_destroy;
    calls.mutex_lock = broken->lock != NULL ? broken->lock : calls.mutex_lock;
    calls.mutex_trylock = broken->trylock != NULL ? broken->trylock : calls.mutex_trylock;
    calls.mutex_unlock = broken->unlock != NULL ? broken->unlock : calls.mutex_unlock;
    fsafe_layout_self_test(&calls, getpid());
}

/* An rwlock whose bytes mean something else. */
static int rdlock_counts_elsewhere(pthread_rwlock_t *rwlock)
{
    int result = pthread_rwlock_rdlock(rwlock);
    if (result == 0)
        rwlock->__data.__readers += 1u << 3;
    return result;
}

static int wrlock_without_writer(pthread_rwlock_t *rwlock)
{
    int result = pthread_rwlock_wrlock(rwlock);
    rwlock->__data.__cur_writer = 0;
    return result;
}

static int unlock_but_a_waiter(pthread_rwlock_t *rwlock)
{
    int result = pthread_rwlock_unlock(rwlock);
    rwlock->__data.__writers = 1;
    return result;
}

static int rwlock_init_as_shared(pthread_rwlock_t *rwlock, const pthread_rwlockattr_t *attributes)
{
    int result = pthread_rwlock_init(rwlock, attributes);
    rwlock->__data.__shared = 1;
    return result;
}

UNIT_LOOP(layout_withdraws_rwlocks, 0, 4)
{
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    unit_start_layout();
    ck_assert(fsafe_layout_rwlock_is_private(&rwlock));
    struct fsafe_layout_calls calls = unit_libc_calls();
    switch (_i) {
    case 0:
        calls.rwlock_rdlock = rdlock_counts_elsewhere;
        break;
    case 1:
        calls.rwlock_wrlock = wrlock_without_writer;
        break;
    case 2:
        calls.rwlock_unlock = unlock_but_a_waiter;
        break;
    default:
        calls.rwlock_init = rwlock_init_as_shared;
    }
    fsafe_layout_self_test(&calls, getpid());
    ck_assert_msg(!fsafe_layout.rwlock_bytes, "case %d", _i);
    ck_assert(!fsafe_layout_rwlock_is_private(&rwlock));
    ck_assert(fsafe_layout.mutex_bytes);
}

UNIT_LOOP(layout_withdraws_what_does_not_hold, 0, BROKEN_MUTEXES)
{
    const struct broken_mutex *broken = &broken_mutexes[_i];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    unit_start_layout(); /* an earlier yes does not stand */
    break_mutex(broken);
    ck_assert_msg(fsafe_layout.mutex_bytes == broken->bytes_are_right, "%s", broken->name);
    ck_assert_msg(!fsafe_layout_in_place(&mutex), "%s", broken->name);
    ck_assert_msg(fsafe_layout_type(&mutex) != PTHREAD_MUTEX_NORMAL, "%s", broken->name);
    ck_assert_int_eq(fsafe_layout_mutex_kind(&mutex), broken->bytes_are_right ? FSAFE_MUTEX_NORMAL
                                                                              : FSAFE_MUTEX_FOREIGN);
    for (int i = 0; i < TYPES; i++) {
        init_of_type(&mutex, types[i]);
        ck_assert_msg(!fsafe_layout_in_place(&mutex), "%s, type %d", broken->name, types[i]);
    }
    ck_assert(fsafe_layout.sem_bytes); /* has nothing to do with mutexes */
}

/* One odd type is enough. */
UNIT_LOOP(layout_tests_each_type, 0, TYPES)
{
    for (int k = 0; k < BROKEN_MUTEXES; k++) {
        const struct broken_mutex *broken = &broken_mutexes[k];
        if (broken->recursive_only && types[_i] != PTHREAD_MUTEX_RECURSIVE)
            continue;
        only = types[_i];
        break_mutex(broken);
        ck_assert_msg(fsafe_layout.mutex_bytes == broken->bytes_are_right, "%s", broken->name);
        ck_assert_msg(fsafe_layout.in_place != 0, "%s", broken->name);
    }
}

static int sem_init_shifted(sem_t *semaphore, int process_shared, unsigned value)
{
    return sem_init(semaphore, process_shared, value << 1);
}

static int sem_trywait_over_all(sem_t *semaphore)
{
    int result = sem_trywait(semaphore);
    enum { OURS = sizeof *semaphore / 2 };
    memset((char *)semaphore + OURS, 0, sizeof *semaphore - OURS);
    return result;
}

static int sem_trywait_in_vain(sem_t *semaphore)
{
    (void)semaphore;
    return -1;
}

static int sem_trywait_elsewhere(sem_t *semaphore)
{
    (void)semaphore;
    return 0;
}

static int sem_post_elsewhere(sem_t *semaphore)
{
    (void)semaphore;
    return 0;
}

static int sem_destroy_by_zeroing(sem_t *semaphore)
{
    memset(semaphore, 0, sizeof *semaphore);
    return 0;
}

UNIT_LOOP(layout_withdraws_semaphores, 0, 6)
{
    struct fsafe_layout_calls calls = unit_libc_calls();
    unit_start_layout();
    switch (_i) {
    case 0:
        calls.semaphore_init = sem_init_shifted;
        break;
    case 1:
        calls.semaphore_trywait = sem_trywait_over_all;
        break;
    case 2:
        calls.semaphore_trywait = sem_trywait_in_vain;
        break;
    case 3:
        calls.semaphore_trywait = sem_trywait_elsewhere;
        break;
    case 4:
        calls.semaphore_post = sem_post_elsewhere;
        break;
    case 5:
        calls.semaphore_destroy = sem_destroy_by_zeroing;
        break;
    }
    fsafe_layout_self_test(&calls, getpid());
    ck_assert(!fsafe_layout.sem_bytes);
    ck_assert(fsafe_layout.mutex_bytes);
    ck_assert_int_eq(fsafe_layout.in_place, 0);
}

/* --- layout: mutexes -------------------------------------------------------------------------------- */

static void *do_nothing(void *argument)
{
    return argument;
}

/* Loop tests take a type of mutex, first in a process that never had a second thread, then in one that had. */
static int begin_with_type(pthread_mutex_t *mutex, int loop)
{
    unit_start_layout();
    if (loop >= TYPES)
        unit_run_thread(do_nothing, NULL);
    init_of_type(mutex, types[loop % TYPES]);
    return types[loop % TYPES];
}

UNIT_LOOP(mutex_in_place_is_libcs_own, 0, 2 * TYPES)
{
    pthread_mutex_t mutex, before;
    int type = begin_with_type(&mutex, _i);
    int self = fsafe_sys_gettid();
    bool recursive = type == PTHREAD_MUTEX_RECURSIVE;
    memcpy(&before, &mutex, sizeof mutex);
    ck_assert(fsafe_layout_in_place(&mutex));
    ck_assert_uint_eq(fsafe_layout_type(&mutex), (unsigned)type);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
    ck_assert_int_eq(fsafe_layout_mutex_owner(&mutex), 0);

    /* Ours, then libc's unlock. */
    ck_assert(fsafe_layout_lock_free(&mutex, self, fsafe_layout_type(&mutex)));
    ck_assert(fsafe_layout_mutex_locked(&mutex));
    ck_assert_int_eq(fsafe_layout_mutex_owner(&mutex), self);
    ck_assert_uint_eq(fsafe_layout_mutex_depth(&mutex), 1);
    ck_assert_int_eq(pthread_mutex_trylock(&mutex), recursive ? 0 : EBUSY);
    if (recursive)
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_mem_eq(&mutex, &before, sizeof mutex);

    /* libc's, then our unlock. */
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    pthread_mutex_t held = mutex;
    ck_assert(!fsafe_layout_lock_free(&mutex, self, fsafe_layout_type(&mutex)));
    ck_assert_mem_eq(&mutex, &held, sizeof mutex);
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, self, fsafe_layout_type(&mutex)), FSAFE_UNLOCKED);
    ck_assert_mem_eq(&mutex, &before, sizeof mutex);
}

UNIT_LOOP(mutex_plain_is_libcs_own, 0, 2)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, before = mutex;
    unit_start_layout();
    if (_i == 1)
        unit_run_thread(do_nothing, NULL);
    ck_assert_uint_eq(fsafe_layout_type(&mutex), PTHREAD_MUTEX_NORMAL);
    ck_assert(fsafe_layout_lock_free(&mutex, fsafe_sys_gettid(), PTHREAD_MUTEX_NORMAL));
    ck_assert(!fsafe_layout_lock_free(&mutex, fsafe_sys_gettid(), PTHREAD_MUTEX_NORMAL));
    ck_assert_int_eq(pthread_mutex_trylock(&mutex), EBUSY);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_mem_eq(&mutex, &before, sizeof mutex);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, 0, PTHREAD_MUTEX_NORMAL), FSAFE_UNLOCKED);
    ck_assert_mem_eq(&mutex, &before, sizeof mutex);
}

UNIT_LOOP(mutex_relock_is_for_its_owner, 0, 2 * TYPES)
{
    pthread_mutex_t mutex;
    int type = begin_with_type(&mutex, _i);
    int self = fsafe_sys_gettid();
    bool recursive = type == PTHREAD_MUTEX_RECURSIVE;
    ck_assert(!fsafe_layout_relock(&mutex, self, fsafe_layout_type(&mutex))); /* it is free */
    ck_assert(fsafe_layout_lock_free(&mutex, self, fsafe_layout_type(&mutex)));
    pthread_mutex_t held = mutex;
    ck_assert(!fsafe_layout_relock(&mutex, self + 1, fsafe_layout_type(&mutex)));
    ck_assert_mem_eq(&mutex, &held, sizeof mutex);
    ck_assert_int_eq(fsafe_layout_relock(&mutex, self, fsafe_layout_type(&mutex)), recursive);
    if (!recursive) {
        ck_assert_mem_eq(&mutex, &held, sizeof mutex);
        return;
    }
    ck_assert_uint_eq(fsafe_layout_mutex_depth(&mutex), 2);
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, self, fsafe_layout_type(&mutex)), FSAFE_UNLOCKED_ONCE);
    ck_assert_mem_eq(&mutex, &held, sizeof mutex);

    mutex.__data.__count = UINT_MAX; /* libc answers EAGAIN */
    ck_assert(!fsafe_layout_relock(&mutex, self, fsafe_layout_type(&mutex)));
    ck_assert_uint_eq(mutex.__data.__count, UINT_MAX);
}

UNIT_LOOP(mutex_unlock_leaves_errors_to_libc, 0, 2 * TYPES)
{
    pthread_mutex_t mutex;
    int type = begin_with_type(&mutex, _i);
    int self = fsafe_sys_gettid();
    if (type != PTHREAD_MUTEX_RECURSIVE && type != PTHREAD_MUTEX_ERRORCHECK)
        return; /* of the others libc asks nothing either */
    pthread_mutex_t free_one = mutex;
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, self, fsafe_layout_type(&mutex)), FSAFE_UNLOCK_LIBC);
    ck_assert_mem_eq(&mutex, &free_one, sizeof mutex);
    ck_assert(fsafe_layout_lock_free(&mutex, self + 1, fsafe_layout_type(&mutex)));
    pthread_mutex_t held = mutex;
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, self, fsafe_layout_type(&mutex)), FSAFE_UNLOCK_LIBC);
    ck_assert_mem_eq(&mutex, &held, sizeof mutex);
}

static void *lock_by_libc(void *mutex)
{
    ck_assert_int_eq(pthread_mutex_lock(mutex), 0);
    ck_assert_int_eq(pthread_mutex_unlock(mutex), 0);
    return NULL;
}

UNIT_LOOP(mutex_unlock_in_place_wakes_a_waiter, 0, TYPES)
{
    pthread_mutex_t mutex;
    pthread_t threads[3];
    begin_with_type(&mutex, TYPES + _i);
    ck_assert(fsafe_layout_lock_free(&mutex, fsafe_sys_gettid(), fsafe_layout_type(&mutex)));
    for (int i = 0; i < 3; i++)
        unit_start_thread(&threads[i], lock_by_libc, &mutex);
    UNIT_EVENTUALLY(__atomic_load_n(&mutex.__data.__lock, __ATOMIC_RELAXED) == 2);
    usleep(20000);
    ck_assert_int_eq(fsafe_layout_unlock(&mutex, fsafe_sys_gettid(), (unsigned)types[_i]), FSAFE_UNLOCKED_WAKE);
    fsafe_layout_mutex_wake(&mutex);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL); /* or the test's time runs out */
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
}

enum { COUNT_ROUNDS = 200000 };
static unsigned counted;

static void *count_in_place(void *argument)
{
    pthread_mutex_t *mutex = argument;
    int self = fsafe_sys_gettid();
    for (int i = 0; i < COUNT_ROUNDS; i++) {
        if (!fsafe_layout_lock_free(mutex, self, fsafe_layout_type(mutex)))
            pthread_mutex_lock(mutex);
        counted++;
        if (fsafe_layout_unlock(mutex, self, fsafe_layout_type(mutex)) == FSAFE_UNLOCKED_WAKE)
            fsafe_layout_mutex_wake(mutex);
    }
    return NULL;
}

static void *count_by_libc(void *mutex)
{
    for (int i = 0; i < COUNT_ROUNDS; i++) {
        pthread_mutex_lock(mutex);
        counted++;
        pthread_mutex_unlock(mutex);
    }
    return NULL;
}

UNIT_LOOP(mutex_in_place_excludes_and_is_excluded, 0, TYPES)
{
    pthread_mutex_t mutex;
    pthread_t threads[4];
    begin_with_type(&mutex, TYPES + _i);
    for (int i = 0; i < 4; i++)
        unit_start_thread(&threads[i], i % 2 == 0 ? count_in_place : count_by_libc, &mutex);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(counted, 4 * COUNT_ROUNDS);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
    ck_assert_uint_eq(mutex.__data.__nusers, 0);
}

UNIT_LOOP(mutex_reset_frees_what_a_dead_thread_held, 0, TYPES)
{
    pthread_mutex_t mutex;
    int type = begin_with_type(&mutex, _i);
    pthread_mutex_t before = mutex;
    int depth = type == PTHREAD_MUTEX_RECURSIVE ? 3 : 1;
    for (int i = 0; i < depth; i++)
        pthread_mutex_lock(&mutex);
    mutex.__data.__owner = fsafe_sys_gettid() + 1;
    mutex.__data.__lock = 2;
    fsafe_layout_mutex_reset(&mutex);
    ck_assert_mem_eq(&mutex, &before, sizeof mutex);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq(pthread_mutex_destroy(&mutex), 0);
}

UNIT_LOOP(mutex_new_owner_may_unlock, 0, TYPES)
{
    pthread_mutex_t mutex;
    begin_with_type(&mutex, _i);
    pthread_mutex_lock(&mutex);
    mutex.__data.__owner = fsafe_sys_gettid() + 1;
    fsafe_layout_mutex_set_owner(&mutex, fsafe_sys_gettid());
    ck_assert_int_eq(fsafe_layout_mutex_owner(&mutex), fsafe_sys_gettid());
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
}

UNIT_TEST(mutex_kinds)
{
    static const enum fsafe_mutex_kind kinds[TYPES] = {FSAFE_MUTEX_NORMAL, FSAFE_MUTEX_RECURSIVE,
                                                       FSAFE_MUTEX_ERRORCHECK, FSAFE_MUTEX_ADAPTIVE};
    pthread_mutex_t mutex;
    pthread_mutexattr_t attributes;
    unit_start_layout();
    for (int i = 0; i < TYPES; i++) {
        init_of_type(&mutex, types[i]);
        ck_assert_int_eq(fsafe_layout_mutex_kind(&mutex), kinds[i]);
        pthread_mutex_destroy(&mutex);
        ck_assert_int_eq(fsafe_layout_mutex_kind(&mutex), FSAFE_MUTEX_FOREIGN);
        ck_assert(!fsafe_layout_in_place(&mutex));

        /* Never in place, never ours alone. */
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, types[i]);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        ck_assert_int_eq(pthread_mutex_init(&mutex, &attributes), 0);
        ck_assert_int_eq(fsafe_layout_mutex_kind(&mutex), FSAFE_MUTEX_FOREIGN);
        ck_assert(!fsafe_layout_in_place(&mutex));
        ck_assert(fsafe_layout_type(&mutex) != PTHREAD_MUTEX_NORMAL);
    }
    static const pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    ck_assert_int_eq(fsafe_layout_mutex_kind(&recursive), FSAFE_MUTEX_RECURSIVE);
}

UNIT_LOOP(mutex_special_ones_are_not_done_in_place, 0, 3)
{
    pthread_mutex_t mutex;
    pthread_mutexattr_t attributes;
    unit_start_layout();
    for (int i = 0; i < TYPES; i++) {
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, types[i]);
        if (_i == 0)
            ck_assert_int_eq(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST), 0);
        else
            ck_assert_int_eq(pthread_mutexattr_setprotocol(&attributes,
                                                           _i == 1 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_PROTECT), 0);
        ck_assert_int_eq(pthread_mutex_init(&mutex, &attributes), 0);
        ck_assert(!fsafe_layout_in_place(&mutex));
        ck_assert(fsafe_layout_type(&mutex) != PTHREAD_MUTEX_NORMAL);
    }
}

/* --- layout: in place beside libc --------------------------------------------------------------------- */

enum { FEW_ROUNDS = COUNT_ROUNDS / 100 }; /* who spins for a thread that does not run loses a slice of time */
static pthread_rwlock_t shared_rwlock;
static long first_half, second_half; /* equal while no writer has it */
static _Atomic bool stop_reading;

static void *write_by_libc(void *unused)
{
    (void)unused;
    for (int i = 0; i < FEW_ROUNDS; i++) {
        pthread_rwlock_wrlock(&shared_rwlock);
        first_half++;
        if (i % 64 == 0)
            sched_yield();
        second_half++;
        pthread_rwlock_unlock(&shared_rwlock);
    }
    return NULL;
}

/* Each hold begins and ends in place or by libc. */
static void *read_in_place(void *unused)
{
    (void)unused;
    for (unsigned i = 0; !stop_reading; i++) {
        if (i % 3 == 0 || !fsafe_layout_rwlock_read(&shared_rwlock))
            pthread_rwlock_rdlock(&shared_rwlock);
        ck_assert_int_eq(first_half, second_half);
        if (i % 5 == 0 || !fsafe_layout_rwlock_unread(&shared_rwlock))
            pthread_rwlock_unlock(&shared_rwlock);
        usleep(20); /* readers that never all leave starve a writer, unless writers are preferred */
    }
    return NULL;
}

UNIT_LOOP(rwlock_read_in_place_keeps_writers_out,
          PTHREAD_RWLOCK_PREFER_READER_NP, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP + 1)
{
    pthread_t writers[2], readers[2];
    pthread_rwlockattr_t attributes;
    unit_start_layout();
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, _i);
    pthread_rwlock_init(&shared_rwlock, &attributes);
    for (int i = 0; i < 2; i++) {
        unit_start_thread(&readers[i], read_in_place, NULL);
        unit_start_thread(&writers[i], write_by_libc, NULL);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL); /* none of them sleeps for ever */
    stop_reading = true;
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    ck_assert_int_eq(first_half, 2 * FEW_ROUNDS);
    ck_assert_int_eq(pthread_rwlock_trywrlock(&shared_rwlock), 0); /* no hold was lost */
}

UNIT_TEST(rwlock_read_in_place_leaves_the_rest_to_libc)
{
    pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    unit_start_layout();
    errno = 77;
    ck_assert(!fsafe_layout_rwlock_unread(&rwlock)); /* nobody has it */
    ck_assert_int_eq(pthread_rwlock_wrlock(&rwlock), 0);
    ck_assert(!fsafe_layout_rwlock_read(&rwlock) && !fsafe_layout_rwlock_unread(&rwlock));
    ck_assert_int_eq(pthread_rwlock_unlock(&rwlock), 0);
    ck_assert(!fsafe_layout_rwlock_read(&rwlock)); /* the first reader after a writer changes the phase */
    ck_assert_int_eq(pthread_rwlock_rdlock(&rwlock), 0);
    ck_assert(fsafe_layout_rwlock_read(&rwlock));
    rwlock.__data.__readers |= 1u << 31; /* too many: libc answers EAGAIN */
    ck_assert(!fsafe_layout_rwlock_read(&rwlock));
    ck_assert_int_eq(errno, 77);
}

static pthread_spinlock_t turn_to_spin;

static void *count_by_spin(void *in_place)
{
    for (int i = 0; i < FEW_ROUNDS; i++) {
        if (in_place == NULL || !fsafe_layout_spin_try(&turn_to_spin))
            pthread_spin_lock(&turn_to_spin);
        counted++;
        if (in_place == NULL)
            pthread_spin_unlock(&turn_to_spin);
        else
            fsafe_layout_spin_unlock(&turn_to_spin);
    }
    return NULL;
}

UNIT_TEST(spin_in_place_excludes_and_is_excluded)
{
    pthread_t threads[4];
    unit_start_layout();
    ck_assert(fsafe_layout.spin_in_place);
    pthread_spin_init(&turn_to_spin, PTHREAD_PROCESS_PRIVATE);
    for (int i = 0; i < 4; i++)
        unit_start_thread(&threads[i], count_by_spin, i % 2 == 0 ? (void *)(uintptr_t)1 : NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(counted, 4 * FEW_ROUNDS);
    ck_assert_int_eq(pthread_spin_trylock(&turn_to_spin), 0);
    ck_assert(!fsafe_layout_spin_try(&turn_to_spin));
}

static int spin_trylock_always(pthread_spinlock_t *spin)
{
    (void)spin;
    return 0;
}

static int spin_unlock_never(pthread_spinlock_t *spin)
{
    (void)spin;
    return 0;
}

UNIT_LOOP(layout_withdraws_spin_locks, 0, 2)
{
    struct fsafe_layout_calls calls = unit_libc_calls();
    if (_i == 0)
        calls.spin_trylock = spin_trylock_always;
    else
        calls.spin_unlock = spin_unlock_never;
    fsafe_layout_self_test(&calls, getpid());
    ck_assert(!fsafe_layout.spin_in_place);
    ck_assert(fsafe_layout.mutex_bytes && fsafe_layout.rwlock_bytes);
}

/* --- layout: semaphores ----------------------------------------------------------------------------- */

UNIT_TEST(semaphore_in_place_is_libcs_own)
{
    sem_t semaphore;
    int value;
    unit_start_layout();
    ck_assert_int_eq(sem_init(&semaphore, 0, 2), 0);
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), 2);
    ck_assert(fsafe_layout_sem_try(&semaphore));
    sem_getvalue(&semaphore, &value);
    ck_assert_int_eq(value, 1);
    ck_assert(fsafe_layout_sem_try(&semaphore));
    ck_assert(!fsafe_layout_sem_try(&semaphore));
    ck_assert_int_eq(sem_trywait(&semaphore), -1);
    ck_assert_int_eq(fsafe_layout_sem_post(&semaphore), FSAFE_POSTED);
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), 1);
    ck_assert_int_eq(sem_trywait(&semaphore), 0);
    ck_assert_int_eq(sem_post(&semaphore), 0);
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), 1);

    ck_assert_int_eq(fsafe_layout_sem_post(&semaphore), FSAFE_POST_LIBC); /* no lock has two */
    sem_init(&semaphore, 0, SEM_VALUE_MAX); /* libc answers EOVERFLOW */
    ck_assert_int_eq(fsafe_layout_sem_post(&semaphore), FSAFE_POST_LIBC);
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), SEM_VALUE_MAX);
}

static void *wait_by_libc(void *semaphore)
{
    ck_assert_int_eq(sem_wait(semaphore), 0);
    return NULL;
}

UNIT_TEST(semaphore_post_in_place_wakes_a_waiter)
{
    sem_t semaphore;
    pthread_t threads[2];
    unit_start_layout();
    sem_init(&semaphore, 0, 0);
    for (int i = 0; i < 2; i++)
        unit_start_thread(&threads[i], wait_by_libc, &semaphore);
    const struct fsafe_glibc_sem *bytes = (const void *)&semaphore;
    UNIT_EVENTUALLY(fsafe_glibc_sem_is_waited(__atomic_load_n(&bytes->data, __ATOMIC_RELAXED)));
    ck_assert_int_eq(fsafe_layout_sem_post(&semaphore), FSAFE_POST_WAKE);
    fsafe_layout_sem_wake(&semaphore);
    while (fsafe_layout_sem_post(&semaphore) == FSAFE_POST_LIBC)
        usleep(1000);
    fsafe_layout_sem_wake(&semaphore);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL); /* or the test's time runs out */
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), 0);
}

static sem_t turn;

static void *count_by_semaphore(void *in_place)
{
    for (int i = 0; i < COUNT_ROUNDS; i++) {
        if (in_place == NULL || !fsafe_layout_sem_try(&turn))
            sem_wait(&turn);
        counted++;
        enum fsafe_posted posted = in_place == NULL ? FSAFE_POST_LIBC : fsafe_layout_sem_post(&turn);
        if (posted == FSAFE_POST_WAKE)
            fsafe_layout_sem_wake(&turn);
        else if (posted == FSAFE_POST_LIBC)
            sem_post(&turn);
    }
    return NULL;
}

UNIT_TEST(semaphore_in_place_excludes_and_is_excluded)
{
    pthread_t threads[4];
    unit_start_layout();
    sem_init(&turn, 0, 1);
    for (int i = 0; i < 4; i++)
        unit_start_thread(&threads[i], count_by_semaphore, i % 2 == 0 ? &turn : NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(counted, 4 * COUNT_ROUNDS);
    ck_assert_uint_eq(fsafe_layout_sem_value(&turn), 1);
}

UNIT_LOOP(semaphore_has_words_that_libc_leaves_alone, 0, 2)
{
    sem_t semaphore;
    struct timespec past = {0, 0};
    unit_start_layout();
    sem_init(&semaphore, _i, 1);
    struct fsafe_sem_words *words = fsafe_layout_sem_words_begin(&semaphore);
    ck_assert_ptr_nonnull(words);
    words->note = 0x12345678;
    words->owner = 0x23456789;
    words->site = 0x3456789a;
    sem_wait(&semaphore);
    sem_trywait(&semaphore);
    sem_timedwait(&semaphore, &past);
    sem_post(&semaphore);
    int value;
    sem_getvalue(&semaphore, &value);
    sem_destroy(&semaphore);
    ck_assert_ptr_eq(fsafe_layout_sem_words(&semaphore), words);
    ck_assert_uint_eq(words->note, 0x12345678);
    ck_assert_uint_eq(words->owner, 0x23456789);
    ck_assert_uint_eq(words->site, 0x3456789a);
}

/* Where they lie in a table: they are the semaphore's until it ends, and as many as there is room for have some. */
UNIT_TEST(semaphore_words_are_its_own)
{
    enum { MANY = 2000 };
    static sem_t all[MANY], copy;
    unit_start_layout();
    for (int i = 0; i < MANY; i++) {
        sem_init(&all[i], 0, 1);
        struct fsafe_sem_words *words = fsafe_layout_sem_words_begin(&all[i]);
        ck_assert_ptr_nonnull(words);
        words->owner = (uint32_t)i;
    }
    for (int i = 0; i < MANY; i++)
        ck_assert_uint_eq(fsafe_layout_sem_words(&all[i])->owner, (uint32_t)i);
    copy = all[7];
    ck_assert_ptr_ne(fsafe_layout_sem_words(&copy), fsafe_layout_sem_words(&all[7]));
    for (int round = 0; round < 200 * MANY; round++) { /* in the end each address had them many times over */
        sem_t *again = &all[round % MANY];
        fsafe_layout_sem_words_end(again);
        sem_init(again, 0, 1);
        ck_assert_ptr_nonnull(fsafe_layout_sem_words_begin(again));
    }
}

#endif

/* --- modules ---------------------------------------------------------------------------------------- */

/* What other modules could call, with names as long as C++ likes them. */
#define LONG_NAME(stem) stem##_a_name_of_thirty_characters
#define VISIBLE __attribute__((visibility("default")))

VISIBLE int unit_exported_function(int x);
VISIBLE int LONG_NAME(unit_exported_function_with_a_very_long_name_indeed_such_as_mangled_ones_are)(int x);
VISIBLE extern int unit_exported_variable[16];

int unit_exported_function(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 7 + i;
    return x;
}

int LONG_NAME(unit_exported_function_with_a_very_long_name_indeed_such_as_mangled_ones_are)(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 5 + i;
    return x;
}

int unit_exported_variable[16] = {1};

static int hidden_variable[16] = {1};

static __attribute__((noinline)) int hidden_function(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 3 + i;
    return x;
}

static struct fsafe_mapping find(uintptr_t address)
{
    struct fsafe_mapping mapping = {.address = address};
    ck_assert(fsafe_maps_find(&mapping, 1));
    return mapping;
}

static void assert_symbol(uintptr_t address, const char *expected, uintptr_t expected_offset)
{
    struct fsafe_mapping mapping = find(address);
    char name[256];
    uintptr_t offset = 4711;
    ck_assert_msg(fsafe_modules_symbol(&mapping, name, sizeof name, &offset), "no name for %s", expected);
    ck_assert_str_eq(name, expected);
    ck_assert_uint_eq(offset, expected_offset);
}

static void assert_no_symbol(uintptr_t address)
{
    struct fsafe_mapping mapping = find(address);
    char name[256] = "";
    uintptr_t offset;
    ck_assert_msg(!fsafe_modules_symbol(&mapping, name, sizeof name, &offset), "it is called %s", name);
}

UNIT_TEST(modules_name_what_is_exported)
{
    errno = 77;
    assert_symbol((uintptr_t)unit_exported_function, "unit_exported_function", 0);
    assert_symbol((uintptr_t)unit_exported_function + 3, "unit_exported_function", 3);
    assert_symbol((uintptr_t)unit_exported_variable, "unit_exported_variable", 0);
    assert_symbol((uintptr_t)(unit_exported_variable + 15), "unit_exported_variable", 15 * sizeof(int));
    ck_assert_int_eq(errno, 77);

    void *in_libc = dlsym(RTLD_DEFAULT, "qsort");
    ck_assert_ptr_nonnull(in_libc);
    assert_symbol((uintptr_t)in_libc + 1, "qsort", 1);
    in_libc = dlsym(RTLD_DEFAULT, "getaddrinfo");
    assert_symbol((uintptr_t)in_libc + 0x20, "getaddrinfo", 0x20);
}

UNIT_TEST(modules_name_nothing_else)
{
    assert_no_symbol((uintptr_t)hidden_function + (uintptr_t)(hidden_function(1) & 1));
    assert_no_symbol((uintptr_t)&hidden_variable[hidden_variable[0] & 1]);
    assert_no_symbol((uintptr_t)(unit_exported_variable + 16)); /* just behind it */
    void *heap = malloc(100);
    assert_no_symbol((uintptr_t)heap);
    free(heap);
    assert_no_symbol((uintptr_t)&heap);
    assert_no_symbol((uintptr_t)unit_map_island(1, MAP_PRIVATE));
    assert_no_symbol(16);
}

UNIT_TEST(modules_cut_long_names)
{
    struct fsafe_mapping mapping =
        find((uintptr_t)LONG_NAME(unit_exported_function_with_a_very_long_name_indeed_such_as_mangled_ones_are));
    char name[256];
    uintptr_t offset = 1;
    for (size_t bytes = 2; bytes <= 65; bytes++) {
        memset(name, '#', sizeof name);
        ck_assert(fsafe_modules_symbol(&mapping, name, bytes, &offset));
        ck_assert_uint_eq(offset, 0);
        ck_assert_uint_eq(strlen(name), bytes - 1);
        ck_assert_mem_eq(name, "unit_exported_function_with_a_very_long_name_indeed_such_as_mangled", bytes - 1);
        ck_assert_int_eq(name[bytes], '#');
    }
}

UNIT_TEST(modules_survive_a_module_that_is_gone)
{
    struct fsafe_mapping mapping = find((uintptr_t)unit_exported_function);
    char name[64];
    uintptr_t offset;
    char *gone = unit_map_island(2, MAP_PRIVATE);
    /* Its first page is still there, its tables are not. */
    memcpy(gone, (void *)mapping.base, unit_page());
    mapping.base = (uintptr_t)gone;
    mapping.address = (uintptr_t)gone + 100;
    munmap(gone + unit_page(), unit_page());
    ck_assert(!fsafe_modules_symbol(&mapping, name, sizeof name, &offset));
    memset(gone, 0xff, unit_page()); /* something else lies there now */
    ck_assert(!fsafe_modules_symbol(&mapping, name, sizeof name, &offset));
    munmap(gone, unit_page());
    ck_assert(!fsafe_modules_symbol(&mapping, name, sizeof name, &offset));
}

/* Every function of libc that the loader knows by one name is found by that name. */
UNIT_TEST(modules_agree_with_the_loader)
{
    static const char *const names[] = {"malloc", "abort", "strtol", "getenv", "pthread_create", "sem_open", "fwrite"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uintptr_t address = (uintptr_t)dlsym(RTLD_DEFAULT, names[i]);
        struct fsafe_mapping mapping = find(address);
        char name[64];
        uintptr_t offset;
        ck_assert(fsafe_modules_symbol(&mapping, name, sizeof name, &offset));
        ck_assert_uint_eq(offset, 0);
        ck_assert_uint_eq((uintptr_t)dlsym(RTLD_DEFAULT, name), address); /* perhaps by its other name */
    }
}

static __attribute__((noinline)) uintptr_t return_address(void)
{
    return (uintptr_t)__builtin_return_address(0);
}

/* Not the return: what stands before it is the call. */
UNIT_TEST(modules_place_names_the_call)
{
    uintptr_t returns_to = return_address();
    struct fsafe_mapping mapping = find(returns_to);
    struct fsafe_place place;
    Dl_info info;
    unsigned char id[FSAFE_BUILD_ID_BYTES];
    fsafe_modules_place(&mapping, true, &place);
    ck_assert_int_ne(dladdr((void *)returns_to, &info), 0);
    ck_assert_uint_lt(place.address, returns_to);
    ck_assert_uint_eq(place.in_module, place.address - (uintptr_t)info.dli_fbase);
#ifdef __x86_64__
    ck_assert_uint_eq(*(unsigned char *)place.address, 0xe8);
    ck_assert_uint_eq(place.address, returns_to - 5);
#endif
    fsafe_modules_place(&mapping, false, &place);
    ck_assert_uint_eq(place.address, returns_to);
    ck_assert_uint_ge(fsafe_modules_build_id(place.base, id), 8);
}

/* The kernel's map shows what a program maps right behind a module's last segment as it shows that segment's .bss. */
UNIT_TEST(modules_place_ends_with_the_module)
{
    extern char _end[];
    struct fsafe_mapping mapping = find((uintptr_t)_end - 1);
    struct fsafe_place place;
    fsafe_modules_place(&mapping, false, &place);
    ck_assert_str_eq(place.module, mapping.module);
    ck_assert_str_ne(place.module, "");
    mapping.address++;
    fsafe_modules_place(&mapping, false, &place);
    ck_assert_uint_eq(place.address, (uintptr_t)_end);
    ck_assert_str_eq(place.module, "");
}

/* As many segments of notes as are looked at, and one more. */
UNIT_TEST(modules_find_the_build_id_in_any_of_four_segments)
{
    enum { SEGMENTS = 5 };
    struct note {
        ElfW(Nhdr) header;
        char owner[4];
        unsigned char says[8];
    };
    static struct image {
        ElfW(Ehdr) elf;
        ElfW(Phdr) load, notes[SEGMENTS];
        struct note note[SEGMENTS];
    } image;
    for (unsigned with_id = 0; with_id < SEGMENTS; with_id++) {
        unsigned char id[FSAFE_BUILD_ID_BYTES] = {0};
        image = (struct image){.elf = {.e_ident = ELFMAG, .e_phentsize = sizeof(ElfW(Phdr)), .e_phnum = 1 + SEGMENTS,
                                       .e_phoff = offsetof(struct image, load)},
                               .load = {.p_type = PT_LOAD}};
        for (unsigned i = 0; i < SEGMENTS; i++) {
            image.notes[i] = (ElfW(Phdr)){.p_type = PT_NOTE, .p_align = 4, .p_memsz = sizeof(struct note),
                                          .p_vaddr = offsetof(struct image, note) + i * sizeof(struct note)};
            image.note[i] = (struct note){{sizeof image.note[i].owner, sizeof image.note[i].says,
                                           i == with_id ? NT_GNU_BUILD_ID : NT_GNU_ABI_TAG},
                                          "GNU", {(unsigned char)(0x40 + i)}};
        }
        size_t bytes = fsafe_modules_build_id((uintptr_t)&image, id);
        ck_assert_uint_eq(bytes, with_id < SEGMENTS - 1 ? sizeof image.note[0].says : 0);
        ck_assert_uint_eq(id[0], with_id < SEGMENTS - 1 ? 0x40 + with_id : 0);
    }
}

/* --- unwind ----------------------------------------------------------------------------------------- */

#ifdef FSAFE_CALLFRAME

#ifdef __clang__
#define SEPARATE __attribute__((noinline))
#else
#define SEPARATE __attribute__((noipa))
#endif

static struct fsafe_unwind unwind;
static uintptr_t frames[4];
static volatile unsigned frame_count;

static void assert_frame(unsigned index, const char *function)
{
    Dl_info info;
    ck_assert_uint_lt(index, frame_count);
    ck_assert_int_ne(dladdr((void *)(frames[index] - 1), &info), 0);
    ck_assert_str_eq(info.dli_sname, function);
}

VISIBLE int unit_asks(void);
VISIBLE int unit_calls_who_asks(int x);
VISIBLE int unit_calls_the_caller(int x);

/* As a wrapper does: the place is the call of itself. */
SEPARATE int unit_asks(void)
{
    frame_count = fsafe_unwind_here(&unwind, (uintptr_t)__builtin_return_address(0), frames, 4);
    return (int)frame_count;
}

SEPARATE int unit_calls_who_asks(int x)
{
    return unit_asks() + x;
}

SEPARATE int unit_calls_the_caller(int x)
{
    char room[200];
    memset(room, x, sizeof room);
    return unit_calls_who_asks(x) + room[x];
}

UNIT_TEST(unwind_names_the_callers)
{
    errno = 77;
    ck_assert_int_ne(unit_calls_the_caller(3), 0);
    ck_assert_int_eq(errno, 77);
    ck_assert_uint_eq(frame_count, 4);
    assert_frame(0, "unit_calls_the_caller");
    memset(frames, 0, sizeof frames);
    ck_assert_uint_eq(fsafe_unwind_here(&unwind, 0x1000, frames, 4), 0); /* no such caller */
}

/* The second instruction remembers four states (0x0a), the third one more; the second of the other restores none. */
extern const char unit_remembers[], unit_restores[];
__asm__(".text\n"
        "unit_remembers:\n\t.cfi_startproc\n\tnop\n\t.cfi_escape 0x0a, 0x0a, 0x0a, 0x0a\n\tnop\n\t.cfi_escape 0x0a\n\t"
        "nop\n\t.cfi_endproc\n"
        "unit_restores:\n\t.cfi_startproc\n\tnop\n\t.cfi_escape 0x0b\n\tnop\n\t.cfi_endproc\n");

UNIT_TEST(unwind_remembers_so_many_states)
{
    struct fsafe_callframe row;
    unit_asks(); /* finds the code in memory */
    ck_assert(fsafe_callframe_rules(&unwind, (uintptr_t)unit_remembers + 2, &row));
    ck_assert(!fsafe_callframe_rules(&unwind, (uintptr_t)unit_remembers + 3, &row));
    ck_assert(fsafe_callframe_rules(&unwind, (uintptr_t)unit_restores + 1, &row));
    ck_assert(!fsafe_callframe_rules(&unwind, (uintptr_t)unit_restores + 2, &row));
}

#ifdef __GLIBC__ /* of musl's own functions, where a thread's chain begins, there is no call frame information */
static _Atomic uintptr_t held_site, held_near;
static atomic_bool may_leave;

VISIBLE int unit_holds(int x);
VISIBLE int unit_holds_for_long(int x);

/* As a lock: notes where it was called. */
static SEPARATE void take(void)
{
    held_site = (uintptr_t)__builtin_return_address(0);
}

SEPARATE int unit_holds(int x)
{
    take();
    while (!may_leave)
        usleep(1000);
    return x + 1;
}

SEPARATE int unit_holds_for_long(int x)
{
    char room[300];
    memset(room, x, sizeof room);
    return unit_holds(x) + room[x];
}

static void *hold(void *argument)
{
    held_near = (uintptr_t)__builtin_frame_address(0);
    return unit_holds_for_long(5) != 0 ? argument : NULL;
}

UNIT_TEST(unwind_reads_the_stack_of_another)
{
    pthread_t thread;
    unit_start_thread(&thread, hold, NULL);
    UNIT_EVENTUALLY(held_site != 0);
    usleep(10000);
    frame_count = fsafe_unwind_vanished(&unwind, held_site, held_near, 0, frames, 4);
    assert_frame(0, "unit_holds_for_long");
    ck_assert_uint_ge(frame_count, 3); /* hold and libc's */
    /* No stack, or one that was reused for something else: nothing is made up. */
    ck_assert_uint_eq(fsafe_unwind_vanished(&unwind, held_site, 0, 0, frames, 4), 0);
    ck_assert_uint_eq(fsafe_unwind_vanished(&unwind, held_site, 0x1000, 0, frames, 4), 0);
    char *other = unit_map_island(32, MAP_PRIVATE);
    memset(other, 0x41, 32 * unit_page());
    ck_assert_uint_eq(fsafe_unwind_vanished(&unwind, held_site, (uintptr_t)other + 16 * unit_page(), 0, frames, 4),
                      0);
    ck_assert_uint_eq(fsafe_unwind_vanished(&unwind, (uintptr_t)other, held_near, 0, frames, 4), 0);
    /* What lies behind the end of the stack is no part of it. */
    enum { FRAMES = 8 << 10 };
    uintptr_t from = (held_near - FRAMES / 2) & ~(uintptr_t)15, most = (uintptr_t)thread - from;
    char *end = other + 16 * unit_page();
    memcpy(end, (const void *)from, most < FRAMES ? most : FRAMES);
    ck_assert_uint_gt(fsafe_unwind_vanished(&unwind, held_site, (uintptr_t)end - 64, 0, frames, 4), 0);
    ck_assert_uint_eq(fsafe_unwind_vanished(&unwind, held_site, (uintptr_t)end - 64, (uintptr_t)end, frames, 4), 0);
    may_leave = true;
    pthread_join(thread, NULL);
}
#endif

#endif

/* --- symbol ----------------------------------------------------------------------------------------- */

UNIT_TEST(symbol_finds_the_next_definition)
{
    errno = 77;
    ck_assert_ptr_eq(fsafe_symbol_next("qsort"), dlsym(RTLD_NEXT, "qsort"));
    ck_assert_ptr_nonnull(fsafe_symbol_next("qsort"));
    ck_assert_ptr_null(fsafe_symbol_next("no_such_function_anywhere"));
    ck_assert_ptr_null(fsafe_symbol_next("unit_exported_function")); /* ours, so not the next one */
    ck_assert_int_eq(errno, 77);
    dlerror();
}

UNIT_MAIN("libc", NULL, NULL)
