/* base/tasks and repair/hopeless: what the kernel says of threads that sleep, and what is made of it. */
#include "track/join.h"
#include "unit.h"

#include "base/options.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "repair/asleep.h"
#include "repair/children.h"
#include "repair/elsewhere.h"
#include "repair/hopeless.h"
#include "repair/mutex.h"
#include "repair/watch.h"
#include "repair/woken.h"
#include "track/lineage.h"

#include <linux/futex.h>
#include <sys/syscall.h>

/* libcheck's own. */
static void forget_handlers(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
}

static uint32_t word;
static atomic_int sleeper_tid, may_end;

static void *sleep_in_futex(void *unused)
{
    atomic_store(&sleeper_tid, (int)fsafe_sys_gettid());
    while (!atomic_load(&may_end))
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return unused;
}

static pthread_t start_sleeper(void)
{
    pthread_t thread;
    struct fsafe_task task;
    unit_start_thread(&thread, sleep_in_futex, NULL);
    UNIT_EVENTUALLY(atomic_load(&sleeper_tid) != 0);
    UNIT_EVENTUALLY(fsafe_tasks_look(atomic_load(&sleeper_tid), &task) && task.call == SYS_futex);
    return thread;
}

static void end_sleeper(pthread_t thread)
{
    atomic_store(&may_end, 1);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    fsafe_sys_futex_wake(&word, 1);
    pthread_join(thread, NULL);
}

UNIT_TEST(tasks_tell_where_a_thread_sleeps)
{
    struct fsafe_task task;
    pthread_t thread = start_sleeper();
    ck_assert(fsafe_tasks_look(atomic_load(&sleeper_tid), &task));
    ck_assert_int_eq(task.tid, atomic_load(&sleeper_tid));
    ck_assert(!task.ended);
    ck_assert_uint_eq(task.argument[0], (uintptr_t)&word);
    ck_assert_uint_eq(task.argument[1], FUTEX_WAIT_PRIVATE);
    ck_assert_uint_eq(task.argument[3], 0);
    ck_assert(task.at != 0);
    ck_assert(fsafe_tasks_waits_for_futex(&task));
    if (sizeof(long) > sizeof(int)) /* the kernel looks at half of the register only */
        task.argument[1] |= 1ul << (4 * sizeof(long));
    ck_assert(fsafe_tasks_waits_for_futex(&task));
    uint64_t switches = task.switches;
    ck_assert(fsafe_tasks_look(atomic_load(&sleeper_tid), &task));
    ck_assert_uint_eq(task.switches, switches);
    end_sleeper(thread);
    ck_assert(!fsafe_tasks_look(atomic_load(&sleeper_tid), &task));
}

static void *sleep_in_new_futex(void *limit)
{
    enum { OF_32_BITS = 2 };
    atomic_store(&sleeper_tid, (int)fsafe_sys_gettid());
    while (syscall(SYS_futex_wait, &word, 0L, 1L, (long)(OF_32_BITS | FUTEX_PRIVATE_FLAG), limit, CLOCK_MONOTONIC) == 0)
        ;
    return NULL;
}

UNIT_TEST(tasks_take_linux_6_7s_wait_for_the_same_wait_by_futex)
{
    const long limits[] = {1L << 30, 0}; /* a time far off, of 64 or 32 bits */
    const void *limit[] = {NULL, limits};
    struct fsafe_task task;
    pthread_t thread;
    if (syscall(SYS_futex_wait, NULL, 0L, 0L, 0L, 0L, 0L) != -1 || errno == ENOSYS)
        return;
    for (int i = 0; i < 2; i++) {
        atomic_store(&sleeper_tid, 0);
        unit_start_thread(&thread, sleep_in_new_futex, (void *)limit[i]);
        UNIT_EVENTUALLY(atomic_load(&sleeper_tid) != 0);
        UNIT_EVENTUALLY(fsafe_tasks_look(atomic_load(&sleeper_tid), &task) && fsafe_tasks_waits_for_futex(&task));
        ck_assert_uint_eq(task.argument[0], (uintptr_t)&word);
        ck_assert_uint_eq(task.argument[1], FUTEX_WAIT_BITSET_PRIVATE);
        ck_assert_int_eq(task.argument[3] != 0, i);
    }
}

static bool count(const struct fsafe_task *task, void *context)
{
    (void)task;
    ++*(unsigned *)context;
    return true;
}

static bool stop(const struct fsafe_task *task, void *context)
{
    count(task, context);
    return false;
}

UNIT_TEST(tasks_lists_every_thread_and_stops_when_told)
{
    unsigned all = 0, first = 0;
    pthread_t thread = start_sleeper();
    ck_assert(fsafe_tasks_each(0, count, &all));
    ck_assert_uint_eq(all, 2);
    ck_assert(!fsafe_tasks_each(0, stop, &first));
    ck_assert_uint_eq(first, 1);
    all = 0;
    ck_assert(fsafe_tasks_each(fsafe_sys_getpid(), count, &all));
    ck_assert_uint_eq(all, 2);
    end_sleeper(thread);
}

UNIT_TEST(tasks_tell_what_is_blocked_and_what_is_handled)
{
    struct fsafe_task task;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigaction(SIGUSR2, &action, NULL);
    forget_handlers();
    ck_assert_uint_eq(fsafe_tasks_handled().restarting | fsafe_tasks_handled().interrupting, 0);
    action.sa_handler = (void (*)(int))(uintptr_t)0x1234;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = 0;
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGSEGV, &action, NULL); /* not of others */
    ck_assert_uint_eq(fsafe_tasks_handled().restarting, 1u << (SIGUSR1 - 1));
    ck_assert_uint_eq(fsafe_tasks_handled().interrupting, 1u << (SIGUSR2 - 1) | 1u << (SIGSEGV - 1));
    ck_assert_uint_eq(fsafe_tasks_of_others(fsafe_tasks_handled().interrupting), 1u << (SIGUSR2 - 1));
    ck_assert(fsafe_tasks_look(fsafe_sys_gettid(), &task));
    ck_assert_uint_eq(task.blocked, 1u << (SIGUSR1 - 1));
    ck_assert_uint_eq(fsafe_tasks_of_others(task.caught), 1u << (SIGUSR1 - 1) | 1u << (SIGUSR2 - 1));
    ck_assert(task.caught & 1u << (SIGSEGV - 1));
}

/* The name in the kernel's line may look like the rest of it. */
static void stay_here(void *bell)
{
    char byte;
    prctl(PR_SET_NAME, ") Z 1 1 1 1");
    (void)!read(*(int *)bell, &byte, 1);
}

static void *remain(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static char state_of(pid_t pid)
{
    char line[512];
    fsafe_tasks_read(pid, 0, "stat", line, sizeof line);
    const char *at = strrchr(line, ')');
    return at == NULL ? '?' : at[2];
}

UNIT_TEST(tasks_know_a_forked_child)
{
    int bell[2];
    ck_assert_int_eq(pipe(bell), 0);
    ck_assert(!fsafe_tasks_is_fork(1));
    ck_assert(!fsafe_tasks_is_fork(fsafe_sys_getpid()));
    pid_t child = fork();
    if (child == 0) {
        stay_here(&bell[0]);
        execl("/bin/sleep", "sleep", "1000", (char *)NULL);
        _exit(1);
    }
    ck_assert(fsafe_tasks_is_fork(child));
    ck_assert_int_eq(write(bell[1], "x", 1), 1);
    UNIT_EVENTUALLY(!fsafe_tasks_is_fork(child));
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert(!fsafe_tasks_is_fork(child));
    /* One that has ended is none, also while nobody has waited for it; one whose first thread has ended is one. */
    siginfo_t ended;
    pthread_t thread;
    for (int threads = 0; threads < 2; threads++) {
        child = fork();
        if (child == 0) {
            if (threads == 0)
                _exit(0);
            pthread_create(&thread, NULL, remain, NULL);
            pthread_exit(NULL);
        }
        if (threads == 0)
            ck_assert_int_eq(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT), 0);
        else
            UNIT_EVENTUALLY(state_of(child) == 'Z');
        ck_assert_int_eq(fsafe_tasks_is_fork(child), threads);
        kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
    }
    close(bell[0]);
    close(bell[1]);
}

/* --- repair/hopeless, in a process that passes for a child ------------------------------------------------------ */

static char directory[PATH_MAX];
static struct fsafe_thread *self;

static int probe_owner(void)
{
    return fsafe_sys_gettid();
}

static bool leave(struct fsafe_thread *thread)
{
    return fsafe_ledger_depth(fsafe_thread_locks(thread)) > 0;
}

static void set_up(void)
{
    static const struct fsafe_thread_calls calls = {
        .probe_owner = probe_owner, .leave = leave, .is_stale = fsafe_mutex_is_stale,
        .clear_stale = fsafe_mutex_clear_stale};
    forget_handlers();
    unit_make_directory(directory);
    memset(&fsafe_options, 0, sizeof fsafe_options);
    snprintf(fsafe_options.log, sizeof fsafe_options.log, "%.500s/log", directory);
    fsafe_options.hang_ms = 5;
    unit_start_layout();
    fsafe_lineage_start(getpid());
    ck_assert(fsafe_thread_start(&calls));
    self = fsafe_thread_join();
    ck_assert_ptr_nonnull(self);
    fsafe_thread_adopt(self, false);
    fsafe_lineage_adopted(&(const struct fsafe_fork){.number = 3, .tid = 815});
}

static void tear_down(void)
{
    unit_remove_directory(directory);
}

static unsigned lines_with(const char *words)
{
    char *text = unit_read_file(fsafe_options.log);
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        lines++;
    free(text);
    return lines;
}

static const struct fsafe_untimed_wait wait_here = {.lock = "semaphore", .kind = "private",
                                                    .object = (uintptr_t)&word, .bytes = sizeof word, .site = 0x4560};

UNIT_TEST(hopeless_names_the_last_thread_awake_once)
{
    struct fsafe_slices slices;
    errno = EDOM;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait_here));
    ck_assert(fsafe_hopeless_goes_on(&slices)); /* to be seen once more */
    ck_assert_int_eq(errno, EDOM);
    ck_assert_uint_eq(lines_with("child hangs"), 0);
    errno = EDOM;
    ck_assert(!fsafe_hopeless_goes_on(&slices)); /* wait as asked */
    ck_assert_int_eq(errno, EDOM);
    ck_assert_uint_eq(lines_with("child hangs in semaphore 0x"), 1);
    ck_assert_uint_eq(lines_with("went on"), 0);
    fsafe_hopeless_end(&slices);
    ck_assert_uint_eq(lines_with("child went on after its wait in semaphore 0x"), 1);
    ck_assert_uint_eq(atomic_load(&self->sleeping.object), 0);
}

static unsigned questions;

static bool will_complete(const void *object)
{
    ck_assert_ptr_eq(object, &word);
    return ++questions == 3;
}

/* The others that a barrier needs may arrive while the thread is held back: it is asked again before each look. */
UNIT_TEST(hopeless_does_not_hold_back_who_completes_a_round)
{
    struct fsafe_slices slices;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait_here));
    fsafe_hopeless_hold_back(&slices, will_complete);
    fsafe_hopeless_end(&slices);
    ck_assert_uint_eq(questions, 3);
    ck_assert_uint_eq(lines_with("child"), 0);
}

static void *read_byte(void *end)
{
    char byte;
    (void)!read(*(int *)end, &byte, 1);
    return end;
}

UNIT_TEST(hopeless_leaves_alone_what_somebody_may_end)
{
    struct fsafe_slices slices;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait_here));
    int bell[2];
    ck_assert_int_eq(pipe(bell), 0);
    pthread_t thread;
    unit_start_thread(&thread, read_byte, &bell[0]);
    ck_assert(fsafe_hopeless_goes_on(&slices)); /* another slice */
    ck_assert_uint_eq(lines_with("child"), 0);
    ck_assert_int_eq(write(bell[1], "x", 1), 1);
    pthread_join(thread, NULL);
    fsafe_hopeless_end(&slices);
    ck_assert_uint_eq(lines_with("child"), 0);
    close(bell[0]);
    close(bell[1]);
}

static struct fsafe_thread *joined;

static void *join_and_sleep(void *unused)
{
    joined = fsafe_thread_join();
    return sleep_in_futex(unused);
}

/*
 * What a thread waits for says more than that another waits for the end of that thread. But where the other has told
 * of its wait, which began later, because it looked first, there is one line.
 */
UNIT_TEST(hopeless_of_a_thread_and_who_joins_it_one_tells)
{
    struct fsafe_slices slices;
    pthread_t thread;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait_here));
    unit_start_thread(&thread, join_and_sleep, NULL);
    UNIT_EVENTUALLY(atomic_load(&sleeper_tid) != 0);
    atomic_store(&self->sleeping.until_ns, fsafe_sys_now_ns()); /* it looks now, the other later */
    struct fsafe_sleeping *joiner = &joined->sleeping;
    atomic_store(&joiner->joins, true);
    atomic_store(&joiner->since_ns, atomic_load(&self->sleeping.since_ns) + 1);
    atomic_store(&joiner->until_ns, UINT64_MAX / 2);
    atomic_store(&joiner->object, (uintptr_t)joiner);
    ck_assert(!fsafe_asleep_is_left_to_another(self));
    atomic_store(&joiner->said, true);
    ck_assert(fsafe_asleep_is_left_to_another(self));
    atomic_store(&joiner->object, 0);
    end_sleeper(thread);
    fsafe_hopeless_end(&slices);
}

static sem_t event;
static struct fsafe_thread *_Atomic between;

static bool give_nothing(uintptr_t object, uintptr_t site)
{
    (void)object, (void)site;
    return false;
}

static void *stay_between_slices(void *end)
{
    static const struct fsafe_untimed_wait wait = {.lock = "semaphore", .kind = "private", .object = (uintptr_t)&event,
                                                   .bytes = sizeof event, .give = give_nothing};
    struct fsafe_slices slices;
    struct fsafe_thread *me = fsafe_thread_join();
    ck_assert(fsafe_hopeless_begin(&slices, me, &wait));
    atomic_store(&me->sleeping.until_ns, UINT64_MAX / 2);
    atomic_store(&me->sleeping.is_between, true);
    atomic_store(&between, me);
    read_byte(end);
    fsafe_hopeless_end(&slices);
    return end;
}

/* It does not sleep in a futex, and will: unless its semaphore has a token by now. */
UNIT_TEST(asleep_is_who_is_between_two_slices)
{
    pthread_t thread;
    uint64_t unblocked;
    int bell[2];
    ck_assert(pipe(bell) == 0 && sem_init(&event, 0, 0) == 0);
    unit_start_thread(&thread, stay_between_slices, &bell[0]);
    UNIT_EVENTUALLY(atomic_load(&between) != NULL && fsafe_asleep_all(self, &unblocked));
    ck_assert_int_eq(sem_post(&event), 0);
    ck_assert(!fsafe_asleep_all(self, &unblocked));
    ck_assert_int_eq(sem_trywait(&event), 0);
    ck_assert(fsafe_asleep_all(self, &unblocked));
    atomic_store(&atomic_load(&between)->sleeping.is_between, false);
    ck_assert(!fsafe_asleep_all(self, &unblocked));
    ck_assert_int_eq(write(bell[1], "x", 1), 1);
    pthread_join(thread, NULL);
    close(bell[0]);
    close(bell[1]);
}

UNIT_TEST(asleep_has_one_turn_at_a_time)
{
    uint64_t turn = fsafe_asleep_begin_turn();
    atomic_store(&self->sleeping.is_between, true);
    ck_assert(turn != 0 && fsafe_asleep_begin_turn() == 0);
    ck_assert(!fsafe_asleep_end_turn(self, turn, false) && atomic_load(&self->sleeping.is_between));
    ck_assert((turn = fsafe_asleep_begin_turn()) != 0);
    ck_assert(fsafe_asleep_end_turn(self, turn, true) && !atomic_load(&self->sleeping.is_between));
    ck_assert((turn = fsafe_asleep_begin_turn()) != 0);
    ck_assert(!fsafe_asleep_end_turn(self, turn - 1, true)); /* it had lasted too long, and is another thread's now */
}

static unsigned given;

static bool give(uintptr_t object, uintptr_t site)
{
    ck_assert(object == (uintptr_t)&event && site == 0x4560);
    given++;
    return true;
}

/* While another thread looks it sleeps once more, for a short time. After a gift it looks as often again. */
UNIT_TEST(hopeless_gives_when_it_is_the_threads_turn)
{
    static const struct fsafe_untimed_wait wait = {.lock = "semaphore", .kind = "private", .object = (uintptr_t)&event,
                                                   .bytes = sizeof event, .site = 0x4560, .give = give};
    struct fsafe_slices slices;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait));
    slices.second_looks = 3;
    uint64_t turn = fsafe_asleep_begin_turn();
    ck_assert(fsafe_hopeless_goes_on(&slices) && given == 0 && slices.had_no_turn && slices.second_looks == 3);
    ck_assert(!fsafe_asleep_end_turn(self, turn, false));
    ck_assert(fsafe_hopeless_goes_on(&slices) && given == 1 && slices.given && slices.second_looks == 0);
    ck_assert(!atomic_load(&self->sleeping.is_between));
    fsafe_hopeless_end(&slices);
}

static void *note_wake(void *unused)
{
    fsafe_woken_note((uintptr_t)&word);
    return unused;
}

UNIT_TEST(hopeless_hears_a_wake_between_two_slices)
{
    struct fsafe_slices slices;
    struct timespec ended;
    ck_assert(fsafe_hopeless_begin(&slices, self, &wait_here));
    clock_gettime(CLOCK_MONOTONIC, &ended);
    ended.tv_sec++; /* no signal so far can have been after that */
    ck_assert(!fsafe_woken_between(&slices, &ended));
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_t thread;
    unit_start_thread(&thread, note_wake, NULL);
    pthread_join(thread, NULL);
    ck_assert(fsafe_woken_between(&slices, &ended));
    fsafe_hopeless_end(&slices);
}

/* Whether it asked in time: a pause longer than the limit, on a busy machine, begins the loop anew. */
static bool ask_after(useconds_t us)
{
    static uint64_t asked_ns;
    usleep(us);
    uint64_t before_ns = asked_ns;
    asked_ns = fsafe_sys_now_ns();
    fsafe_hopeless_asked(&wait_here);
    return fsafe_sys_now_ns() - before_ns < (uint64_t)fsafe_options.hang_ms * 1000000;
}

static void begin_generation(void)
{
    fsafe_thread_adopt(self, false);
    fsafe_lineage_adopted(&(const struct fsafe_fork){.number = 4, .tid = 816});
}

/* Asked again and again for longer than the limit, but in no generation for so long; then in one. */
UNIT_TEST(hopeless_times_a_loop_of_questions_anew_in_each_child)
{
    fsafe_options.hang_ms = 1000;
    ask_after(0);
    ask_after(600000);
    begin_generation();
    ask_after(600000);
    ck_assert_uint_eq(lines_with("child hangs"), 0);
    while (!ask_after(600000) || !ask_after(600000)) {
        begin_generation();
        ask_after(0);
    }
    ck_assert_uint_eq(lines_with("child hangs in semaphore 0x"), 1);
}

static void *stay(void *pipe)
{
    char byte;
    ck_assert_int_eq(read(*(int *)pipe, &byte, 1), 1);
    return NULL;
}

/* Once the limit has passed while the process has a thread that the library does not know. */
UNIT_TEST(hopeless_judges_a_loop_of_questions_again)
{
    int ends[2];
    pthread_t thread;
    fsafe_options.hang_ms = 100;
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, stay, &ends[0]), 0);
    begin_generation();
    for (int i = 0; i < 4; i++)
        ask_after(60000);
    ck_assert_uint_eq(lines_with("child hangs"), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    close(ends[0]);
    close(ends[1]);
    while (lines_with("child hangs in semaphore 0x") == 0)
        ask_after(30000);
}

static pid_t fork_sleeper(void)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    fsafe_children_forked(child);
    return child;
}

static void end(pid_t child)
{
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

/* However often it is asked for, and whatever the parent forks meanwhile; a child is named at the second. */
UNIT_TEST(children_are_looked_at_a_limit_apart)
{
    fsafe_options.hang_ms = 50;
    pid_t first = fork_sleeper(), second = 0;
    uint64_t begun = fsafe_sys_now_ns(), limit_ns = (uint64_t)fsafe_options.hang_ms * 1000000;
    while (lines_with("child hangs in futex 0x") == 0) {
        fsafe_children_look();
        if (second == 0 && fsafe_sys_now_ns() - begun > limit_ns + limit_ns / 2)
            second = fork_sleeper();
        usleep(1000);
    }
    ck_assert_uint_ge(fsafe_sys_now_ns() - begun, 2 * limit_ns);
    if (second == 0)
        second = fork_sleeper();
    while (lines_with("child hangs in futex 0x") < 2)
        fsafe_children_look();
    end(first);
    end(second);
}

UNIT_TEST(children_are_a_thousand)
{
    fsafe_options.hang_ms = 50;
    pid_t child = fork_sleeper();
    for (pid_t other = 1; other < 1000; other++)
        fsafe_children_forked(child + other);
    for (int i = 0; i < 1000 && lines_with("child hangs in futex 0x") == 0; i++) {
        fsafe_children_look(); /* the longer a look takes, the later comes the next */
        usleep(20000);
    }
    ck_assert_uint_eq(lines_with("child hangs in futex 0x"), 1);
    end(child);
}

static bool is_held(int signal)
{
    struct fsafe_sigset before;
    sigset_t now;
    fsafe_children_look();
    fsafe_elsewhere_hold(&before);
    sigprocmask(SIG_BLOCK, NULL, &now);
    fsafe_sys_restore_signals(&before);
    return sigismember(&now, signal) == 1;
}

static void *pause_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void handle(int signal)
{
    (void)signal;
}

/* A look is short: who has many threads does not learn that none of them would take a signal. */
UNIT_TEST(children_are_looked_at_among_few_threads)
{
    enum { FEW = 4, MANY = 40 };
    pthread_t thread;
    sigset_t user;
    fsafe_options.hang_ms = 50;
    signal(SIGUSR1, handle);
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &user, NULL);
    for (int i = 0; i < FEW; i++)
        unit_start_thread(&thread, pause_for_ever, NULL);
    pthread_sigmask(SIG_UNBLOCK, &user, NULL);
    pid_t child = fork_sleeper();
    UNIT_EVENTUALLY(is_held(SIGUSR1));
    pthread_sigmask(SIG_BLOCK, &user, NULL);
    for (int i = 0; i < MANY; i++)
        unit_start_thread(&thread, pause_for_ever, NULL);
    pthread_sigmask(SIG_UNBLOCK, &user, NULL);
    UNIT_EVENTUALLY(!is_held(SIGUSR1));
    end(child);
}

static void *leave_wait(void *child)
{
    ck_assert_ptr_nonnull(fsafe_watch_begin(*(const pid_t *)child, (uintptr_t)__builtin_frame_address(0)));
    return NULL;
}

/* Without /proc/self/timers, which not every kernel has: none. */
static unsigned count_timers(void)
{
    char line[128];
    unsigned count = 0;
    FILE *timers = fopen("/proc/self/timers", "re");
    while (timers != NULL && fgets(line, sizeof line, timers) != NULL)
        count += strncmp(line, "ID:", 3) == 0;
    if (timers != NULL)
        fclose(timers);
    return count;
}

/* As threads that are cancelled in waitpid: the place of one is another's, and its timer is gone. */
UNIT_TEST(children_of_waiters_that_ended_keep_no_timers)
{
    enum { THREADS = 8 };
    fsafe_options.hang_ms = 60000;
    pid_t child = fork_sleeper();
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, leave_wait, &child), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
    ck_assert_uint_lt(count_timers(), THREADS); /* one may still be ending when the next begins */
    end(child);
}

UNIT_MAIN("hopeless", set_up, tear_down)
