/* Tests of src/repair: takeover, mutex, semaphore. */
#include "track/join.h"
#include "track/slots.h"
#include "track/thread.h"
#include "unit.h"

#include "base/options.h"
#include "base/sys.h"
#include "fork/contended.h"
#include "repair/futex.h"
#include "repair/mutex.h"
#include "repair/unnamed.h"
#include "repair/verdict.h"
#include "repair/rwlock.h"
#include "repair/semaphore.h"
#include "repair/takeover.h"
#include "track/lineage.h"
#include "wrap/acquire.h"

/* --- A registry with threads that never were --------------------------------------------------------- */

static int probe_owner(void)
{
    return fsafe_sys_gettid();
}

static bool leave(struct fsafe_thread *self)
{
    return fsafe_ledger_depth(fsafe_thread_locks(self)) > 0;
}

static char directory[PATH_MAX];
static struct fsafe_thread *self;

/* Lines go to a file of the test's. */
/* A second thread brings the slots that make_thread fills in. */
static void *join_too(void *unused)
{
    return fsafe_thread_join() != NULL ? unused : NULL;
}

static void set_up(void)
{
    static const struct fsafe_thread_calls calls = {
        .probe_owner = probe_owner, .leave = leave, .is_stale = fsafe_mutex_is_stale,
        .clear_stale = fsafe_mutex_clear_stale};
    unit_make_directory(directory);
    memset(&fsafe_options, 0, sizeof fsafe_options);
    snprintf(fsafe_options.log, sizeof fsafe_options.log, "%.500s/log", directory);
    unit_start_layout();
    fsafe_lineage_start(getpid());
    ck_assert(fsafe_thread_start(&calls));
    self = fsafe_thread_join();
    ck_assert_ptr_nonnull(self);
    unit_run_thread(join_too, self);
}

static void tear_down(void)
{
    unit_remove_directory(directory);
}

/* Returns what was written to the log since the last time, each event on one line. */
static const char *told(void)
{
    static char *text;
    free(text);
    text = unit_read_file(fsafe_options.log);
    unlink(fsafe_options.log);
    unit_join_lines(text);
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

/* The process becomes a child, as far as the registry can tell. */
static void begin_generation(void)
{
    fsafe_thread_adopt(self, false);
    fsafe_lineage_adopted(&(const struct fsafe_fork){.number = 3, .tid = 815});
}

/* Fills in a free slot, as a thread of `generation` would have. `index` counts from the end, away from `self`. */
static struct fsafe_thread *make_thread(uint32_t index, uint32_t generation)
{
    struct fsafe_thread *thread = fsafe_thread_slot(fsafe_thread_slots() - 1 - index);
    ck_assert_ptr_ne(thread, self);
    ck_assert_uint_eq(fsafe_thread_generation(thread), 0);
    fsafe_ledger_begin(&thread->ledgers[FSAFE_LOCKS], &thread->first_locks,
                       sizeof thread->first_locks.record / sizeof *thread->first_locks.record);
    fsafe_ledger_begin(&thread->ledgers[FSAFE_SPINS], &thread->first[FSAFE_SPINS - 1],
                       sizeof thread->first[0].record / sizeof *thread->first[0].record);
    thread->tid = thread->owner = (int)(INT_MAX - 100 + index); /* of nobody who lives */
    thread->ticket = 1u << 22 | (fsafe_thread_slots() - 1 - index);
    strcpy(thread->name, "made up");
    thread->generation = generation;
    return thread;
}

static void record(struct fsafe_thread *thread, enum fsafe_ledger_of of, const volatile void *lock,
                   enum fsafe_stage stage, uintptr_t site)
{
    ck_assert(fsafe_ledger_push(&thread->ledgers[of], (uintptr_t)lock | stage, site));
}

static struct fsafe_claims claims_of(enum fsafe_ledger_of of, const volatile void *lock)
{
    return fsafe_takeover_claims(self, of, (uintptr_t)lock, 0);
}

static long long some_lock[8], other_lock[8]; /* memory for any kind */

/* --- takeover: claims -------------------------------------------------------------------------------- */

UNIT_TEST(claims_of_nobody)
{
    begin_generation();
    make_thread(0, 1);
    record(make_thread(1, 1), FSAFE_LOCKS, other_lock, FSAFE_WANTED, 1);
    record(self, FSAFE_LOCKS, some_lock, FSAFE_WANTED, 1); /* the asker itself is left out */
    record(self, FSAFE_SPINS, some_lock, FSAFE_HELD, 1);
    struct fsafe_thread *gone = make_thread(2, 1);
    record(gone, FSAFE_LOCKS, some_lock, FSAFE_HELD, 1);
    gone->generation = 0; /* a free slot says nothing */
    struct fsafe_claims none;
    memset(&none, 0, sizeof none);
    struct fsafe_claims claims = claims_of(FSAFE_LOCKS, some_lock);
    ck_assert_mem_eq(&claims, &none, sizeof none);
    claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert_mem_eq(&claims, &none, sizeof none);
}

UNIT_LOOP(claims_of_a_vanished_thread, 0, 3)
{
    static const enum fsafe_stage stages[] = {FSAFE_WANTED, FSAFE_HELD, FSAFE_READING};
    begin_generation();
    struct fsafe_thread *vanished = make_thread(0, 1);
    record(vanished, FSAFE_SPINS, other_lock, FSAFE_WANTED, 10);
    record(vanished, FSAFE_SPINS, some_lock, stages[_i], 11);
    struct fsafe_claims claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert_ptr_eq(claims.vanished, vanished);
    ck_assert_uint_eq(claims.since, 11);
    ck_assert_int_eq(claims.vanished_held, stages[_i] == FSAFE_HELD);
    ck_assert(!claims.living_is_at_it && !claims.living_was_owner && !claims.died_with_it);
    /* Each ledger is about its own kinds. */
    ck_assert_ptr_null(claims_of(FSAFE_LOCKS, some_lock).vanished);
}

UNIT_LOOP(claims_prefer_the_holder, 0, 3)
{
    begin_generation();
    struct fsafe_thread *threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        threads[i] = make_thread(i, 1);
        record(threads[i], FSAFE_SPINS, some_lock, i == (uint32_t)_i ? FSAFE_HELD : FSAFE_WANTED, 10 + i);
    }
    struct fsafe_claims claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert_ptr_eq(claims.vanished, threads[_i]);
    ck_assert_uint_eq(claims.since, 10 + (uintptr_t)_i);
    ck_assert(claims.vanished_held);
}

/* The bytes of a mutex name its owner: its record says only "wanted", as those of all who waited. */
UNIT_LOOP(claims_prefer_the_owner, 0, 3)
{
    begin_generation();
    struct fsafe_thread *threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        threads[i] = make_thread(i, 1);
        record(threads[i], FSAFE_LOCKS, some_lock, FSAFE_WANTED, 10 + i);
    }
    struct fsafe_claims claims =
        fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)some_lock, threads[_i]->owner);
    ck_assert_ptr_eq(claims.vanished, threads[_i]);
    ck_assert_uint_eq(claims.since, 10 + (uintptr_t)_i);
}

UNIT_LOOP(claims_prefer_the_younger_generation, 0, 3)
{
    for (int i = 0; i < 3; i++)
        begin_generation(); /* now 4 */
    struct fsafe_thread *threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        threads[i] = make_thread(i, i == (uint32_t)_i ? 3 : 1 + i % 2);
        record(threads[i], FSAFE_SPINS, some_lock, i == (uint32_t)_i ? FSAFE_WANTED : FSAFE_HELD, 10 + i);
    }
    ck_assert_ptr_eq(claims_of(FSAFE_SPINS, some_lock).vanished, threads[_i]);
}

UNIT_TEST(claims_of_the_living)
{
    begin_generation();
    struct fsafe_thread *living = make_thread(0, 2);
    record(living, FSAFE_SPINS, some_lock, FSAFE_WANTED, 1);
    struct fsafe_claims claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert(claims.living_is_at_it && claims.vanished == NULL);

    /* Who asks, like us, has it not. */
    living->asking = (uintptr_t)some_lock;
    claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert(!claims.living_is_at_it && claims.vanished == NULL);
    living->asking = (uintptr_t)other_lock;
    ck_assert(claims_of(FSAFE_SPINS, some_lock).living_is_at_it);
    living->asking = 0;

    /* Beside one that vanished. */
    struct fsafe_thread *vanished = make_thread(1, 1);
    record(vanished, FSAFE_SPINS, some_lock, FSAFE_HELD, 1);
    claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert(claims.living_is_at_it && claims.vanished_held);
    ck_assert_ptr_eq(claims.vanished, vanished);
}

UNIT_TEST(claims_look_at_the_latest_record)
{
    begin_generation();
    struct fsafe_thread *vanished = make_thread(0, 1);
    record(vanished, FSAFE_SPINS, some_lock, FSAFE_HELD, 1);
    record(vanished, FSAFE_SPINS, some_lock, FSAFE_WANTED, 2);
    struct fsafe_claims claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert(claims.vanished == vanished && !claims.vanished_held && claims.since == 2);
    fsafe_ledger_clear(&vanished->ledgers[FSAFE_SPINS], 2, (uintptr_t)some_lock);
    claims = claims_of(FSAFE_SPINS, some_lock);
    ck_assert(claims.vanished == vanished && claims.vanished_held && claims.since == 1);
}

UNIT_TEST(claims_of_the_ended)
{
    begin_generation();
    struct fsafe_thread *ended = make_thread(0, 2);
    ended->ended = true;
    record(ended, FSAFE_LOCKS, some_lock, FSAFE_WANTED, 1);
    struct fsafe_claims claims = claims_of(FSAFE_LOCKS, some_lock);
    ck_assert(claims.died_with_it && claims.vanished == NULL);
    ck_assert(!claims.living_is_at_it && !claims.vanished_held);

    /* In an earlier process: it is orphaned all the same. */
    begin_generation();
    claims = claims_of(FSAFE_LOCKS, some_lock);
    ck_assert(!claims.died_with_it);
    ck_assert_ptr_eq(claims.vanished, ended);
}

UNIT_TEST(claims_of_who_forked_with_it)
{
    begin_generation();
    struct fsafe_thread *living = make_thread(0, 2);
    living->former_owners[2] = 4711;
    ck_assert(fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)some_lock, 4711).living_was_owner);
    ck_assert(!fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)some_lock, 4712).living_was_owner);
    ck_assert(!fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)some_lock, 0).living_was_owner);
    living->generation = 1; /* vanished */
    ck_assert(!fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)some_lock, 4711).living_was_owner);
}

/* --- takeover: deciding, telling, patience ----------------------------------------------------------- */

UNIT_TEST(takeover_knows_shared_memory)
{
    char *shared = unit_map_island(1, MAP_SHARED), *private = unit_map_island(1, MAP_PRIVATE);
    ck_assert(fsafe_takeover_is_shared((uintptr_t)shared + 64));
    ck_assert(!fsafe_takeover_is_shared((uintptr_t)private + 64));
    ck_assert(!fsafe_takeover_is_shared((uintptr_t)some_lock));
    ck_assert(!fsafe_takeover_is_shared((uintptr_t)&shared));
}

UNIT_TEST(takeover_decides_by_mode_and_memory)
{
    static const struct {
        int mode;
        bool shared, would_wait, may_take;
        enum fsafe_deed deed;
        bool worth_a_line;
    } cases[] = {
        {FSAFE_MODE_REPAIR, false, true, true, FSAFE_TOOK_OVER, true},
        {FSAFE_MODE_REPAIR, false, false, true, FSAFE_TOOK_OVER, true},
        {FSAFE_MODE_REPORT, false, true, false, FSAFE_WOULD_HANG, true},
        {FSAFE_MODE_REPORT, false, false, false, FSAFE_WOULD_HANG, false},
        {FSAFE_MODE_ABORT, false, true, false, FSAFE_WOULD_HANG, true},
        {FSAFE_MODE_ABORT, false, false, false, FSAFE_WOULD_HANG, false},
        {FSAFE_MODE_REPAIR, true, true, false, FSAFE_REFUSED, true},
        {FSAFE_MODE_REPAIR, true, false, false, FSAFE_REFUSED, false},
        {FSAFE_MODE_REPORT, true, true, false, FSAFE_REFUSED, true},
    };
    char *shared = unit_map_island(1, MAP_SHARED);
    begin_generation();
    struct fsafe_thread *vanished = make_thread(0, 1);
    vanished->pid = 99;
    record(vanished, FSAFE_LOCKS, some_lock, FSAFE_WANTED, 11);
    struct fsafe_claims claims = claims_of(FSAFE_LOCKS, some_lock);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fsafe_event event = {.address = cases[i].shared ? (uintptr_t)shared : (uintptr_t)some_lock};
        fsafe_options.mode = cases[i].mode;
        ck_assert_int_eq(fsafe_takeover_decide(&event, &claims, cases[i].would_wait), cases[i].may_take);
        ck_assert_int_eq(event.deed, cases[i].deed);
        ck_assert_int_eq(event.worth_a_line, cases[i].worth_a_line);
        ck_assert_int_eq(event.why != NULL, cases[i].deed == FSAFE_REFUSED);
        ck_assert_int_eq(event.holder.tid, vanished->tid);
        ck_assert_int_eq(event.holder.pid, 99);
        ck_assert_uint_eq(event.holder.since, 11);
        ck_assert_str_eq(event.holder.name, "made up");
        ck_assert_uint_eq(event.fork.number, 3);
        ck_assert_int_eq(event.fork.tid, 815);
    }
}

UNIT_TEST(takeover_tells_what_is_worth_a_line)
{
    struct fsafe_event event = {.deed = FSAFE_TOOK_OVER, .lock = "mutex", .kind = "normal", .address = 0x1000};
    fsafe_takeover_tell(&event);
    ck_assert_str_eq(told(), "");
    event.worth_a_line = true;
    fsafe_takeover_tell(&event);
    event.address += 8;
    fsafe_takeover_tell(&event);
    ck_assert_uint_eq(count_lines(told()), 2);

    event.deed = FSAFE_REFUSED; /* may be contended all day */
    for (int i = 0; i < 10; i++)
        fsafe_takeover_tell(&event);
    ck_assert_uint_eq(count_lines(told()), 1);
}

/* A loop of tries that loses the processor, again and again, on a busy machine; and one that sleeps for as long. */
static bool is_said_of_loop(unsigned tries, unsigned rounds)
{
    bool is_said = false;
    for (unsigned round = 0; round < rounds && !is_said; round++) {
        for (unsigned i = 0; i < tries; i++)
            is_said = fsafe_takeover_is_worth_a_line(false);
        nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
    }
    return is_said;
}

UNIT_TEST(takeover_tells_of_tries_that_lose_the_processor)
{
    begin_generation();
    fsafe_options.hang_ms = 1000;
    ck_assert(!is_said_of_loop(1, 20));
    ck_assert(is_said_of_loop(200, 200));
}

static void tell_in_mode_abort(void *deed)
{
    struct fsafe_event event = {.deed = *(enum fsafe_deed *)deed, .lock = "mutex", .kind = "normal",
                                .address = 0x1000, .worth_a_line = true};
    fsafe_options.mode = FSAFE_MODE_ABORT;
    fsafe_takeover_tell(&event);
}

UNIT_TEST(takeover_aborts_in_mode_abort)
{
    enum fsafe_deed deed = FSAFE_WOULD_HANG;
    int status = unit_fork(tell_in_mode_abort, &deed);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_uint_eq(count_lines(told()), 1); /* after the line */
    deed = FSAFE_REFUSED;
    ck_assert_int_eq(unit_fork(tell_in_mode_abort, &deed), 0);
}

static int64_t now_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static struct timespec after_us(clockid_t clock, int64_t us)
{
    us += now_us(clock);
    return (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
}

/* A lock about which the judge says what `says` has, and of which a try says what `answers` has, the last for ever. */
static struct {
    enum fsafe_verdict says[4];
    int answers[4];
    unsigned judged, tried;
} asked;

static enum fsafe_verdict judge_asked(void *lock, struct fsafe_thread *asking, uintptr_t site,
                                      const struct fsafe_attempt *attempt)
{
    (void)lock, (void)attempt;
    ck_assert_uint_eq(site, 0x4560);
    ck_assert_uint_eq(asking->asking, 0);
    unsigned look = asked.judged++;
    return asked.says[look < 3 ? look : 3];
}

static int try_asked(void *lock, const struct fsafe_attempt *attempt)
{
    (void)lock, (void)attempt;
    unsigned attempts = asked.tried++;
    return asked.answers[attempts < 3 ? attempts : 3];
}

static int ask_in_child(const struct fsafe_attempt *attempt)
{
    static const struct fsafe_acquired kind = {judge_asked, try_asked};
    static struct fsafe_thread asking;
    int result = fsafe_acquire_in_child(&kind, &asked, &asking, 0x4560, attempt);
    ck_assert_uint_eq(asking.asking, 0);
    return result;
}

enum { ROWS_OF_ASKED = 11 };

UNIT_LOOP(child_asks_until_it_is_decided, 0, ROWS_OF_ASKED)
{
    static const struct {
        enum fsafe_how how;
        enum fsafe_verdict says[4];
        int answers[4], result;
        unsigned judged, tried;
    } rows[] = {
        {FSAFE_HOW_WAIT, {FSAFE_PROCEED}, {0}, FSAFE_ASK_LIBC, 1, 0},
        {FSAFE_HOW_WAIT, {FSAFE_FREED}, {0}, FSAFE_ASK_LIBC, 1, 0},
        {FSAFE_HOW_WAIT, {FSAFE_STUCK}, {0}, FSAFE_ASK_LIBC, 1, 0},
        {FSAFE_HOW_WAIT, {FSAFE_TAKEN}, {0}, 0, 1, 0},
        {FSAFE_HOW_WAIT, {FSAFE_UNDECIDED}, {0}, 0, 1, 1},
        {FSAFE_HOW_WAIT, {FSAFE_UNDECIDED}, {EDEADLK}, EDEADLK, 1, 1},
        {FSAFE_HOW_WAIT, {FSAFE_UNDECIDED, FSAFE_UNDECIDED}, {EBUSY, 0}, 0, 2, 2},
        {FSAFE_HOW_WAIT, {FSAFE_UNDECIDED, FSAFE_TAKEN}, {EBUSY}, 0, 2, 1},
        {FSAFE_HOW_WAIT, {FSAFE_UNDECIDED, FSAFE_PROCEED}, {EBUSY}, FSAFE_ASK_LIBC, 2, 1},
        {FSAFE_HOW_TRY, {FSAFE_UNDECIDED}, {0}, FSAFE_ASK_LIBC, 1, 0},
        {FSAFE_HOW_TRY, {FSAFE_TAKEN}, {0}, 0, 1, 0},
    };
    ck_assert_uint_eq(ROWS_OF_ASKED, sizeof rows / sizeof *rows);
    memset(&asked, 0, sizeof asked);
    memcpy(asked.says, rows[_i].says, sizeof asked.says);
    memcpy(asked.answers, rows[_i].answers, sizeof asked.answers);
    ck_assert_int_eq(ask_in_child(&(const struct fsafe_attempt){.how = rows[_i].how}), rows[_i].result);
    ck_assert_uint_eq(asked.judged, rows[_i].judged);
    ck_assert_uint_eq(asked.tried, rows[_i].tried);
}

static _Atomic pid_t living_tid;
static atomic_bool may_end;

static void *live_on(void *unused)
{
    atomic_store(&living_tid, (pid_t)gettid());
    while (!atomic_load(&may_end))
        usleep(1000);
    return unused;
}

/* The rows of the table in repair/verdict.h, for locks that name an owner and for those that do not. */
UNIT_TEST(verdict_is_that_of_the_table)
{
    enum { FORMER = 4711, GONE, OWN, OTHERS }; /* ids; the last two stand for real ones */
    static const struct {
        int owner;
        bool alone;
        struct fsafe_claims claims;
        enum fsafe_held_by expected;
    } rows[] = {
        {FORMER, true, {.own_at_it = true, .living_owner_has_it = true}, FSAFE_CALLERS},
        {GONE, true, {.living_owner_has_it = true, .vanished_owner_had_it = true}, FSAFE_LIVINGS},
        {OTHERS, true, {.vanished_owner_had_it = true, .living_was_owner = true}, FSAFE_VANISHEDS},
        {OWN, true, {.living_was_owner = true}, FSAFE_CALLERS},
        {GONE, true, {.living_was_owner = true}, FSAFE_LIVINGS},
        {OTHERS, true, {.vanished = NULL}, FSAFE_LIVINGS}, /* the kernel knows it, and nobody else does */
        {FORMER, true, {.died_with_it = true}, FSAFE_CALLERS},
        {GONE, true, {.died_with_it = true}, FSAFE_LIVINGS},
        {GONE, true, {.vanished = NULL}, FSAFE_VANISHEDS},
        {0, true, {.died_with_it = true}, FSAFE_LIVINGS},
        {0, true, {.own_at_it = true}, FSAFE_LIVINGS},
        {0, true, {.living_is_at_it = true}, FSAFE_UNSURE},
        {0, false, {.vanished_held = true, .living_is_at_it = true}, FSAFE_UNSURE},
        {0, false, {.vanished_held = true}, FSAFE_VANISHEDS},
        {0, true, {.vanished = NULL}, FSAFE_VANISHEDS},
        {0, false, {.vanished = NULL}, FSAFE_LIVINGS},
    };
    pthread_t thread;
    unit_start_thread(&thread, live_on, NULL);
    UNIT_EVENTUALLY(atomic_load(&living_tid) != 0);
    self->former_owners[0] = FORMER;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int owner = rows[i].owner == OWN ? self->owner : rows[i].owner == OTHERS ? living_tid : rows[i].owner;
        enum fsafe_held_by held_by = fsafe_verdict(self, FSAFE_LOCKS, owner, &rows[i].claims, rows[i].alone);
        ck_assert_msg(held_by == rows[i].expected, "row %zu: %d", i, held_by);
    }
    atomic_store(&may_end, true);
    pthread_join(thread, NULL);
}

static struct fsafe_thread pausing;
static atomic_bool seen_asking, asks_no_more;

static enum fsafe_verdict judge_until_seen(void *lock, struct fsafe_thread *asking, uintptr_t site,
                                           const struct fsafe_attempt *attempt)
{
    static unsigned looks;
    (void)lock, (void)asking, (void)site, (void)attempt;
    return atomic_load(&seen_asking) || ++looks > 5000 ? FSAFE_TAKEN : FSAFE_UNDECIDED;
}

static int try_in_vain(void *lock, const struct fsafe_attempt *attempt)
{
    (void)lock, (void)attempt;
    return EBUSY;
}

static void *watch_asking(void *lock)
{
    while (!atomic_load(&seen_asking) && !atomic_load(&asks_no_more)) {
        atomic_store(&seen_asking, atomic_load(&pausing.asking) == (uintptr_t)lock);
        sched_yield();
    }
    return NULL;
}

/* Another thread, which finds the record of a thread that pauses, must not think that it may have got the lock. */
UNIT_TEST(child_that_pauses_is_asking)
{
    static const struct fsafe_acquired kind = {judge_until_seen, try_in_vain};
    const struct fsafe_attempt attempt = {.how = FSAFE_HOW_WAIT};
    pthread_t watcher;
    unit_start_thread(&watcher, watch_asking, &asked);
    ck_assert_int_eq(fsafe_acquire_in_child(&kind, &asked, &pausing, 0x4560, &attempt), 0);
    ck_assert_uint_eq(pausing.asking, 0);
    atomic_store(&asks_no_more, true);
    pthread_join(watcher, NULL);
    ck_assert(seen_asking);
}

UNIT_LOOP(child_asks_until_its_time_is_over, 0, 6)
{
    clockid_t clock = _i % 2 == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    const struct timespec limits[] = {after_us(clock, 20000), after_us(clock, -1), {0, 0}};
    const struct fsafe_attempt attempt = {.how = FSAFE_HOW_BY_CLOCK, .clock = clock, .until = &limits[_i / 2]};
    memset(&asked, 0, sizeof asked);
    for (unsigned i = 0; i < 4; i++) {
        asked.says[i] = FSAFE_UNDECIDED;
        asked.answers[i] = EBUSY;
    }
    int64_t begun = now_us(CLOCK_MONOTONIC);
    ck_assert_int_eq(ask_in_child(&attempt), FSAFE_ASK_LIBC);
    if (_i / 2 == 0) {
        ck_assert_int_ge(now_us(CLOCK_MONOTONIC) - begun, 19000);
        ck_assert_uint_le(asked.judged, 60); /* 10 us, then twice as much each time up to 1 ms: some 30 looks */
    } else {
        ck_assert_uint_eq(asked.tried, 1);
    }
}

/* --- mutex ------------------------------------------------------------------------------------------ */

#ifdef FSAFE_LAYOUT_GLIBC

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

UNIT_TEST(mutex_record_is_stale_when_the_bytes_name_another)
{
    ck_assert(fsafe_mutex_is_stale((uintptr_t)&mutex, self)); /* free */
    pthread_mutex_lock(&mutex);
    ck_assert(!fsafe_mutex_is_stale((uintptr_t)&mutex, self));
    ck_assert(!fsafe_mutex_is_stale((uintptr_t)&mutex | FSAFE_HELD, self));
    mutex.__data.__owner++;
    ck_assert(fsafe_mutex_is_stale((uintptr_t)&mutex, self));
    mutex.__data.__owner--;

    /* Since before it forked. */
    int before = self->owner;
    self->former_owners[0] = before;
    self->owner = before + 1;
    ck_assert(!fsafe_mutex_is_stale((uintptr_t)&mutex, self));

    char *page = unit_map_island(1, MAP_PRIVATE);
    uintptr_t at_its_end = (uintptr_t)page + unit_page() - sizeof(int);
    ck_assert(fsafe_mutex_is_stale(at_its_end, self));
    munmap(page, unit_page());
    ck_assert(fsafe_mutex_is_stale((uintptr_t)page, self));
    ck_assert(fsafe_mutex_is_stale(8, self));
}

static _Atomic bool may_end;
static struct fsafe_thread *_Atomic holder;

static void *hold_mutex(void *argument)
{
    struct fsafe_thread *thread = fsafe_thread_join();
    ck_assert(fsafe_ledger_push(fsafe_thread_locks(thread), (uintptr_t)&mutex, 0x1230));
    pthread_mutex_lock(&mutex);
    holder = thread;
    while (!may_end)
        usleep(1000);
    pthread_mutex_unlock(&mutex);
    return argument;
}

/* Takes the mutex in another thread, forks, and runs `body` as the adopted child. */
static void with_vanished_holder(void (*body)(void *))
{
    pthread_t thread;
    unit_start_thread(&thread, hold_mutex, NULL);
    UNIT_EVENTUALLY(holder != NULL);
    unit_in_child(body, NULL);
    may_end = true;
    pthread_join(thread, NULL);
}

static void take_over(void *argument)
{
    char expected[256];
    (void)argument;
    begin_generation();
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_FREED);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
    ck_assert_uint_eq(self->asking, 0);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    snprintf(expected, sizeof expected, "child took over mutex 0x%lx (normal) for 0x4560 held at fork by %d",
             (unsigned long)&mutex, holder->tid);
    const char *line = told();
    ck_assert_msg(strstr(line, expected) != NULL, "%s", line);
    ck_assert_msg(strstr(line, " since 0x1230 wanted in 0x4560 ") != NULL && strstr(line, " fork 3 by 815 ") != NULL,
                  "%s", line);
    ck_assert_uint_eq(count_lines(line), 1);

    /* Held by the living now. */
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    ck_assert_str_eq(told(), "");
}

UNIT_TEST(mutex_of_a_vanished_thread_is_taken_over)
{
    with_vanished_holder(take_over);
}

static void only_report(void *argument)
{
    (void)argument;
    begin_generation();
    fsafe_options.mode = FSAFE_MODE_REPORT;
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, false), FSAFE_STUCK);
    ck_assert_str_eq(told(), "");
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_STUCK);
    ck_assert_uint_eq(self->asking, (uintptr_t)&mutex); /* for those who look at its record */
    ck_assert_ptr_nonnull(strstr(told(), "child would hang on mutex"));
    ck_assert(fsafe_layout_mutex_locked(&mutex));
    ck_assert_int_eq(fsafe_layout_mutex_owner(&mutex), holder->owner);
}

UNIT_TEST(mutex_is_only_reported_in_mode_report)
{
    with_vanished_holder(only_report);
}

UNIT_LOOP(mutex_of_a_living_thread_is_left_alone, 0, 2)
{
    pthread_t thread;
    begin_generation();
    /* A vanished thread of the same id that held it once: the living one has a record, too. */
    struct fsafe_thread *vanished = _i == 1 ? make_thread(0, 1) : NULL;
    if (vanished != NULL)
        record(vanished, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    unit_start_thread(&thread, hold_mutex, NULL);
    UNIT_EVENTUALLY(holder != NULL);
    if (vanished != NULL)
        vanished->owner = holder->owner;
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    ck_assert(fsafe_layout_mutex_locked(&mutex));
    ck_assert_str_eq(told(), "");
    may_end = true;
    pthread_join(thread, NULL);
}

UNIT_TEST(mutex_in_shared_memory_is_refused)
{
    pthread_mutex_t *shared = (pthread_mutex_t *)(void *)unit_map_island(1, MAP_SHARED);
    pthread_mutex_init(shared, NULL);
    begin_generation();
    struct fsafe_thread *vanished = make_thread(0, 1);
    record(vanished, FSAFE_LOCKS, shared, FSAFE_WANTED, 1);
    shared->__data.__lock = 2;
    shared->__data.__owner = vanished->owner;
    pthread_mutex_t before = *shared;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(fsafe_mutex_judge(shared, self, 0x4560, true), FSAFE_STUCK);
    ck_assert_mem_eq(shared, &before, sizeof before);
    const char *line = told();
    ck_assert_ptr_nonnull(strstr(line, "child may hang on mutex"));
    ck_assert_ptr_nonnull(strstr(line, " not taken over because it lies in memory shared"));
    ck_assert_uint_eq(count_lines(line), 1);
}

UNIT_TEST(mutex_of_an_ended_thread_is_left_alone)
{
    begin_generation();
    struct fsafe_thread *ended = make_thread(0, 2);
    ended->ended = true;
    record(ended, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    mutex.__data.__lock = 1;
    mutex.__data.__owner = ended->owner;
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    ck_assert(fsafe_layout_mutex_locked(&mutex));
}

/* Locked, but nobody's name in it yet. */
static void tear(void)
{
    pthread_mutex_init(&mutex, NULL);
    mutex.__data.__lock = 1;
}

UNIT_TEST(mutex_torn_by_the_fork_is_taken_over_alone)
{
    begin_generation();
    tear();
    record(make_thread(0, 1), FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    record(self, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 2);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_FREED);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));

    /* In a handler that interrupted this very thread at it: it may go on. */
    tear();
    record(self, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 3);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
}

static void *live(void *argument)
{
    while (!may_end)
        usleep(1000);
    return argument;
}

/* The id of the vanished owner is in use again, by a thread that has no record of the mutex: by another one or by the
 * caller itself. */
UNIT_LOOP(mutex_of_a_vanished_namesake_is_taken_over, 0, 2)
{
    pthread_t thread;
    begin_generation();
    struct fsafe_thread *vanished = make_thread(0, 1);
    record(vanished, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    unit_start_thread(&thread, live, NULL);
    struct fsafe_thread *namesake = _i == 0 ? make_thread(1, 2) : self;
    namesake->owner = namesake->tid = _i == 0 ? getppid() : self->tid;
    vanished->owner = namesake->owner;
    mutex.__data.__lock = 2;
    mutex.__data.__owner = vanished->owner;
    record(self, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1); /* the asking */
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_FREED);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
    may_end = true;
    pthread_join(thread, NULL);
}

UNIT_TEST(mutex_torn_is_left_alone_among_threads)
{
    pthread_t thread;
    begin_generation();
    tear();
    record(make_thread(0, 1), FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    unit_start_thread(&thread, live, NULL);
    struct fsafe_thread *living = make_thread(1, 2);
    record(living, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    ck_assert(fsafe_layout_mutex_locked(&mutex));
    may_end = true;
    pthread_join(thread, NULL);
}

/* No pthread_create has announced the second thread: libc made it. */
UNIT_TEST(mutex_torn_is_surveyed_among_threads)
{
    pthread_t thread;
    begin_generation();
    tear();
    record(make_thread(0, 1), FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    unit_start_thread(&thread, live, NULL);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_FREED);
    may_end = true;
    pthread_join(thread, NULL);
}

UNIT_LOOP(mutex_torn_and_surveyed_is_taken_over_among_threads, 0, 2)
{
    pthread_t thread;
    begin_generation();
    tear();
    record(make_thread(0, 1), FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    fsafe_unnamed_note();
    unit_start_thread(&thread, live, NULL);
    struct fsafe_thread *living = make_thread(1, 2);
    record(living, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_UNDECIDED);
    ck_assert(fsafe_layout_mutex_locked(&mutex));
    living->asking = (uintptr_t)&mutex;
    if (_i == 0) {
        ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_FREED);
        ck_assert(!fsafe_layout_mutex_locked(&mutex));
    } else {
        fsafe_mutex_initialised(&mutex); /* initialised anew: whoever is at it now lives */
    }
    tear();
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    may_end = true;
    pthread_join(thread, NULL);
}

static void unlock_in_child(void *type)
{
    begin_generation();
    ck_assert_int_eq(fsafe_mutex_judge(&mutex, self, 0x4560, true), FSAFE_PROCEED);
    fsafe_mutex_rehome(&mutex, self);
    if (*(int *)type == PTHREAD_MUTEX_RECURSIVE) {
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    }
    if (*(int *)type == PTHREAD_MUTEX_ERRORCHECK)
        ck_assert_int_eq(pthread_mutex_lock(&mutex), EDEADLK);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert(!fsafe_layout_mutex_locked(&mutex));
    ck_assert_str_eq(told(), "");
}

UNIT_LOOP(mutex_of_the_forking_thread_is_rehomed, 0, 4)
{
    static int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                          PTHREAD_MUTEX_ADAPTIVE_NP};
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, types[_i]);
    pthread_mutex_init(&mutex, &attributes);
    record(self, FSAFE_LOCKS, &mutex, FSAFE_WANTED, 1);
    pthread_mutex_lock(&mutex);
    unit_in_child(unlock_in_child, &types[_i]);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
}

#endif

/* --- semaphore -------------------------------------------------------------------------------------- */

#ifdef FSAFE_LAYOUT_GLIBC

static sem_t semaphore;

static struct fsafe_sem_words *words(void)
{
    return fsafe_layout_sem_words(&semaphore);
}

/* The thread takes the token, counts it and says so. */
static void take(sem_t *s, struct fsafe_thread *thread, uintptr_t site)
{
    ck_assert(fsafe_layout_sem_try(s));
    struct fsafe_sem_words *of = fsafe_layout_sem_words(s);
    fsafe_semaphore_taken(of, thread, fsafe_semaphore_count(of, s, thread), site);
}

static void make_lock(sem_t *s)
{
    ck_assert_int_eq(sem_init(s, 0, 1), 0);
    fsafe_semaphore_initialised(s, 0, 1);
    ck_assert(fsafe_semaphore_is_lock(s));
}

UNIT_TEST(semaphore_is_a_lock_by_its_birth)
{
    sem_t memory;
    memset(&memory, 0, sizeof memory);
    ck_assert(!fsafe_semaphore_is_lock(&memory)); /* never initialised */
    memset(&memory, 0xff, sizeof memory);
    ck_assert(!fsafe_semaphore_is_lock(&memory));
    memset(&memory, 0, sizeof memory);
    sem_init(&memory, 0, 1);
    ck_assert(!fsafe_semaphore_is_lock(&memory)); /* by a call that we did not see */
    static const unsigned values[] = {0, 2, 1000};
    for (size_t i = 0; i < 3; i++) {
        make_lock(&memory);
        sem_init(&memory, 0, values[i]);
        fsafe_semaphore_initialised(&memory, 0, values[i]);
        ck_assert(!fsafe_semaphore_is_lock(&memory));
    }
    make_lock(&memory);
    sem_wait(&memory);
    ck_assert(fsafe_semaphore_is_lock(&memory));
    sem_post(&memory);
    ck_assert(fsafe_semaphore_is_lock(&memory));
}

UNIT_TEST(semaphore_copy_is_no_lock)
{
    static sem_t copies[256];
    make_lock(&semaphore);
    for (int i = 0; i < 256; i++) {
        memcpy(&copies[i], &semaphore, sizeof semaphore);
        ck_assert_msg(!fsafe_semaphore_is_lock(&copies[i]), "copy %d", i);
    }
    ck_assert(fsafe_semaphore_is_lock(&semaphore));
}

UNIT_TEST(semaphore_event_stays_an_event)
{
    make_lock(&semaphore);
    fsafe_semaphore_is_event(&semaphore);
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
    for (int i = 0; i < 3; i++) {
        begin_generation();
        ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 1, NULL, true), FSAFE_PROCEED);
        ck_assert(!fsafe_semaphore_is_own(&semaphore, self));
        ck_assert(!fsafe_semaphore_is_lock(&semaphore));
    }
    fsafe_semaphore_destroyed(&semaphore);
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
    make_lock(&semaphore); /* another one */
}

UNIT_TEST(semaphore_dies)
{
    make_lock(&semaphore);
    fsafe_semaphore_destroyed(&semaphore);
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
#ifdef __LP64__
    ck_assert_uint_eq(words()->note, 0);
    words()->note = 0x1234; /* not ours */
    fsafe_semaphore_destroyed(&semaphore);
    ck_assert_uint_eq(words()->note, 0x1234);
#endif
}

UNIT_TEST(semaphore_shared_is_never_a_lock)
{
    sem_init(&semaphore, 1, 1);
    fsafe_semaphore_initialised(&semaphore, 1, 1);
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
}

/* Memory that held a private lock, never destroyed, and now a semaphore that processes share. */
UNIT_TEST(semaphore_shared_is_never_a_lock_where_one_was)
{
    make_lock(&semaphore);
    sem_init(&semaphore, 1, 1);
    fsafe_semaphore_initialised(&semaphore, 1, 1);
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
}

UNIT_TEST(semaphore_posted_by_another_becomes_an_event)
{
    struct fsafe_thread *taker = make_thread(0, 1);
    make_lock(&semaphore);
    take(&semaphore, taker, 2);
    ck_assert(fsafe_thread_tokens(taker) != 0);
    ck_assert(!fsafe_semaphore_is_own(&semaphore, self));
    ck_assert(!fsafe_semaphore_is_lock(&semaphore));
    ck_assert(fsafe_thread_tokens(taker) == 0);
}

UNIT_TEST(semaphore_is_plain_when_a_token_went_back)
{
    make_lock(&semaphore);
    ck_assert(!fsafe_semaphore_is_plain(words()->note, &semaphore, self));
    take(&semaphore, self, 2);
    ck_assert(fsafe_semaphore_is_own(&semaphore, self));
    ck_assert_ptr_eq(fsafe_semaphore_count(words(), &semaphore, self), &self->tokens.first);
    fsafe_semaphore_goes_back(words(), &semaphore);
    ck_assert(fsafe_semaphore_is_plain(words()->note, &semaphore, self));
    ck_assert_ptr_eq(fsafe_semaphore_count(words(), &semaphore, self), &self->tokens.proven);
    fsafe_semaphore_goes_back(words(), &semaphore); /* again */
    ck_assert(fsafe_semaphore_is_plain(words()->note, &semaphore, self));
    ck_assert(!fsafe_semaphore_is_plain(words()->note, &semaphore, NULL));
    begin_generation();
    ck_assert(!fsafe_semaphore_is_plain(words()->note, &semaphore, self)); /* a child goes the slow way first */
    ck_assert(fsafe_semaphore_is_own(&semaphore, self));
    ck_assert(fsafe_semaphore_is_plain(words()->note, &semaphore, self));
}

/* A lock whose token a thread of generation 1 took; now it is generation 2. */
static struct fsafe_thread *lose_token(void)
{
    struct fsafe_thread *vanished = make_thread(0, 1);
    make_lock(&semaphore);
    take(&semaphore, vanished, 0x1230);
    begin_generation();
    return vanished;
}

UNIT_TEST(semaphore_token_of_a_vanished_thread_is_granted_once)
{
    struct fsafe_thread *vanished = lose_token();
    ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), FSAFE_TAKEN);
    ck_assert_uint_eq(fsafe_layout_sem_value(&semaphore), 0); /* the token is the caller's */
    ck_assert(fsafe_thread_tokens(self) != 0 && fsafe_thread_tokens(vanished) == 0);
    const char *line = told();
    ck_assert_ptr_nonnull(strstr(line, "child took over semaphore"));
    ck_assert_ptr_nonnull(strstr(line, " fork 3 by 815 "));
    ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), FSAFE_PROCEED);
    ck_assert_str_eq(told(), "");
    ck_assert(fsafe_semaphore_is_own(&semaphore, self));

    /* In the next generation it is the same again, with another thread. */
    fsafe_semaphore_leaving(words(), fsafe_semaphore_count(words(), &semaphore, self));
    sem_post(&semaphore);
    take(&semaphore, make_thread(1, 2), 1);
    begin_generation();
    ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), FSAFE_TAKEN);
}

/* Between the token and the words, both ways, only the thread itself says that it was at it. */
UNIT_LOOP(semaphore_of_a_thread_that_vanished_in_the_middle, 0, 7)
{
    struct fsafe_thread *vanished = make_thread(0, 1);
    make_lock(&semaphore);
    ck_assert(fsafe_layout_sem_try(&semaphore));
    vanished->tokens.at = _i == 6 ? 0 : _i == 2 || _i == 5 ? (uintptr_t)other_lock : (uintptr_t)&semaphore;
    if (_i >= 5) /* a signal handler takes another; it is over and so is the call that it interrupted */
        vanished->tokens.outer = (uintptr_t)&semaphore;
    if (_i == 3) /* its own take, which the signal handler interrupted that forked */
        self->tokens.at = (uintptr_t)&semaphore;
    if (_i == 4)
        vanished->ended = true;
    begin_generation();
    enum fsafe_verdict expected = _i < 2 || _i == 5 ? FSAFE_TAKEN : FSAFE_PROCEED;
    ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), expected);
    ck_assert_uint_eq(count_lines(told()), expected == FSAFE_TAKEN);
    if (_i == 0) {
        ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), FSAFE_PROCEED);
        ck_assert(fsafe_semaphore_is_own(&semaphore, self));
    }
}

UNIT_LOOP(semaphore_is_left_alone, 0, 8)
{
    struct fsafe_thread *vanished = lose_token();
    enum fsafe_verdict expected = FSAFE_PROCEED;
    bool told_so = false;
    switch (_i) {
    case 0: /* there is a token */
        sem_post(&semaphore);
        break;
    case 1:
        fsafe_semaphore_is_event(&semaphore);
        break;
    case 2: /* it ended and never gave it back: somebody is to post it */
        vanished->ended = true;
        break;
    case 3: /* the same, and its slot is another thread's */
        vanished->ticket += 1u << 22;
        break;
    case 4: /* begun anew in this very generation */
        make_lock(&semaphore);
        sem_wait(&semaphore);
        break;
    case 5: /* the caller's own */
        make_lock(&semaphore);
        take(&semaphore, self, 1);
        begin_generation();
        break;
    case 6:
        fsafe_options.mode = FSAFE_MODE_REPORT;
        expected = FSAFE_STUCK;
        told_so = true;
        break;
    case 7: /* it was posted in this process, in the vanished thread's stead */
        ck_assert(!fsafe_semaphore_is_own(&semaphore, self));
        ck_assert(fsafe_semaphore_is_lock(&semaphore));
        ck_assert(fsafe_thread_tokens(vanished) == 0);
        break;
    }
    ck_assert_int_eq(fsafe_semaphore_judge(&semaphore, self, 0x4560, NULL, true), expected);
    ck_assert_uint_eq(count_lines(told()), told_so);
}

UNIT_TEST(semaphores_of_a_drain)
{
    struct fsafe_thread *other = make_thread(0, 1);
    ck_assert_uint_eq(fsafe_thread_tokens(other), 0);
    other->tokens.first = 1; /* CPython's, for the thread's life */
    ck_assert_uint_eq(fsafe_thread_tokens(other), 1);
    other->tokens.proven = 1;
    ck_assert_uint_eq(fsafe_thread_tokens(other), 2);
    other->tokens.proven_gone = 1;
    ck_assert_uint_eq(fsafe_thread_tokens(other), 1);
    other->tokens.proven = 0; /* posted by two threads at a time */
    ck_assert_uint_eq(fsafe_thread_tokens(other), 1);
}

#endif

/* --- futex ------------------------------------------------------------------------------------------- */

static uint32_t word;

static bool judge_futex(int operation, uint32_t value, uint32_t bits, const struct timespec *limit)
{
    const long arguments[] = {(long)&word, operation, (long)value, (long)limit, 0, (long)bits};
    word = 2;
    return fsafe_futex_judge(arguments, (uintptr_t)judge_futex);
}

static bool judge_rust(void)
{
    return judge_futex(FUTEX_WAIT_BITSET_PRIVATE, 2, FUTEX_BITSET_MATCH_ANY, NULL);
}

UNIT_TEST(futex_of_a_known_lock_is_taken_over)
{
    if (unit_is_emulated())
        return; /* its own thread counts */
    begin_generation();
    ck_assert(judge_rust());
    ck_assert_uint_eq(word, 0);
    ck_assert_ptr_nonnull(strstr(told(), "took over futex"));
    ck_assert(judge_rust()); /* each time anew */
}

UNIT_TEST(futex_that_is_no_lock_is_left_alone)
{
    const struct timespec limit = {.tv_sec = 1};
    begin_generation();
    ck_assert(!judge_futex(FUTEX_WAIT_BITSET_PRIVATE, 2, FUTEX_BITSET_MATCH_ANY, &limit));
    ck_assert(!judge_futex(FUTEX_WAIT_BITSET_PRIVATE, 2, 1, NULL));
    ck_assert(!judge_futex(FUTEX_WAIT_BITSET_PRIVATE, 1, FUTEX_BITSET_MATCH_ANY, NULL)); /* not what is there */
    ck_assert(!judge_futex(FUTEX_WAKE_PRIVATE, 2, 0, NULL));
    ck_assert_str_eq(told(), "");
    ck_assert(!judge_futex(FUTEX_WAIT_PRIVATE, 2, 0, NULL)); /* GLib's, but this is not libglib */
    ck_assert_uint_eq(word, 2);
    ck_assert_str_eq(told(), ""); /* not before it has lasted */
}

/* All bits may also mean a parked Rust thread, which would never sleep again if each of its waits ended at once. */
UNIT_TEST(futex_of_what_may_be_a_parked_thread_is_woken_once)
{
    const long arguments[] = {(long)&word, FUTEX_WAIT_BITSET_PRIVATE, -1, 0, 0, (long)FUTEX_BITSET_MATCH_ANY};
    if (unit_is_emulated())
        return; /* its own thread counts */
    begin_generation();
    word = UINT32_MAX;
    ck_assert(fsafe_futex_judge(arguments, (uintptr_t)judge_futex));
    ck_assert_uint_eq(word, 1);
    word = UINT32_MAX;
    ck_assert(!fsafe_futex_judge(arguments, (uintptr_t)judge_futex));
    ck_assert_uint_eq(word, UINT32_MAX);
}

/* Behind an RwLock's word is the number of its writers' wake-ups; what is behind a mutex is the program's. */
UNIT_TEST(futex_that_a_fork_gives_back_changes_no_other_word)
{
    uint32_t of_mutex[] = {2, 7}, of_rwlock[] = {0x3fffffff, 7};
    fsafe_futex_give(&(const struct fsafe_futex_lock){.word = of_mutex, .contended = 2});
    ck_assert_uint_eq(of_mutex[0], 0);
    ck_assert_uint_eq(of_mutex[1], 7);
    fsafe_futex_give(&(const struct fsafe_futex_lock){.word = of_rwlock});
    ck_assert_uint_eq(of_rwlock[0], 0);
    ck_assert_uint_eq(of_rwlock[1], 8);
}

UNIT_TEST(futex_of_a_child_with_threads_is_left_alone)
{
    begin_generation();
    fsafe_rwlock_survey(self);
    ck_assert(!judge_rust());
    ck_assert_uint_eq(word, 2);
    ck_assert_str_eq(told(), "");
}

static _Atomic(struct fsafe_thread *) sleeper;
static atomic_int may_leave;

static void *be_in_a_wait(void *unused)
{
    const long arguments[] = {(long)&word, FUTEX_WAIT_BITSET_PRIVATE, 2, 0, 0, (long)FUTEX_BITSET_MATCH_ANY};
    ck_assert(fsafe_contended_enter(arguments, (uintptr_t)be_in_a_wait));
    atomic_store(&sleeper, fsafe_self);
    while (!atomic_load(&may_leave))
        usleep(1000);
    return unused;
}

/* A fork keeps a thread in its wait, and the thread is cancelled there: its slot is another's when the fork ends. */
UNIT_TEST(futex_sleeper_that_is_gone_is_not_let_go)
{
    enum { AWAKE };
    pthread_t thread;
    fsafe_options.drain_ms = 1000;
    word = 2;
    unit_start_thread(&thread, be_in_a_wait, NULL);
    UNIT_EVENTUALLY(atomic_load(&sleeper) != NULL);
    _Atomic uint32_t *state = &atomic_load(&sleeper)->contends.state;
    uint32_t asleep = atomic_load(state);
    fsafe_contended_try(self);
    ck_assert_uint_ne(atomic_load(state), asleep); /* kept */
    fsafe_contended_end(self);
    ck_assert_uint_eq(atomic_load(state), asleep);
    fsafe_contended_try(self);
    atomic_store(state, AWAKE);
    fsafe_contended_end(self);
    ck_assert_uint_eq(atomic_load(state), AWAKE);
    atomic_store(&may_leave, 1);
    pthread_join(thread, NULL);
}

UNIT_TEST(futex_is_only_reported_in_mode_report)
{
    if (unit_is_emulated())
        return; /* its own thread counts */
    fsafe_options.mode = FSAFE_MODE_REPORT;
    begin_generation();
    ck_assert(!judge_rust());
    ck_assert_uint_eq(word, 2);
    ck_assert_ptr_nonnull(strstr(told(), "would hang on futex"));
}

UNIT_MAIN("repair", set_up, tear_down)
