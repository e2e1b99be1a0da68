/*
 * Witnesses that are hard to believe: the child's second thread is libc's own; the forking thread once left a wait by a
 * jump. (A thread of the child with the id of the vanished holder: tests/unit/check_repair.c.)
 */
#include "scenario.h"

#include <aio.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static union {
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    pthread_spinlock_t spin;
    sem_t semaphore;
} lock;

static int errno_of(int result)
{
    return result == 0 ? 0 : errno;
}

static int take_mutex(void *mutex) { return pthread_mutex_lock(mutex); }
static int take_read(void *rwlock) { return pthread_rwlock_rdlock(rwlock); }
static int take_write(void *rwlock) { return pthread_rwlock_wrlock(rwlock); }
static int take_spin(void *spin) { return pthread_spin_lock(spin); }
static int take_token(void *semaphore) { return errno_of(sem_wait(semaphore)); }
static int give_mutex(void *mutex) { return pthread_mutex_unlock(mutex); }
static int give_rwlock(void *rwlock) { return pthread_rwlock_unlock(rwlock); }
static int give_spin(void *spin) { return pthread_spin_unlock(spin); }
static int give_token(void *semaphore) { return errno_of(sem_post(semaphore)); }

static void init_mutex(int type)
{
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, type), 0);
    SCN_IS(pthread_mutex_init(&lock.mutex, &attributes), 0);
}

static void init_normal(void) { init_mutex(PTHREAD_MUTEX_NORMAL); }
static void init_recursive(void) { init_mutex(PTHREAD_MUTEX_RECURSIVE); }
static void init_errorcheck(void) { init_mutex(PTHREAD_MUTEX_ERRORCHECK); }
static void init_rwlock(void) { SCN_IS(pthread_rwlock_init(&lock.rwlock, NULL), 0); }
static void init_spin(void) { SCN_IS(pthread_spin_init(&lock.spin, PTHREAD_PROCESS_PRIVATE), 0); }
static void init_semaphore(void) { SCN_IS(errno_of(sem_init(&lock.semaphore, 0, 1)), 0); }

struct kind {
    const char *name;
    void (*init)(void);
    scn_call *hold, *take, *give;
};

static const struct kind kinds[] = {
    {"normal", init_normal, take_mutex, take_mutex, give_mutex},
    {"recursive", init_recursive, take_mutex, take_mutex, give_mutex},
    {"errorcheck", init_errorcheck, take_mutex, take_mutex, give_mutex},
    {"read", init_rwlock, take_read, take_write, give_rwlock},
    {"written", init_rwlock, take_write, take_write, give_rwlock},
    {"spin", init_spin, take_spin, take_spin, give_spin},
    {"semaphore", init_semaphore, take_token, take_token, give_token},
};

static const struct kind *kind;

static atomic_int held;

static void *hold(void *unused)
{
    SCN_IS(kind->hold(&lock), 0);
    held = 1;
    for (;;)
        pause();
    return unused;
}

static void use_it(void)
{
    SCN_IS(kind->take(&lock), 0);
    SCN_IS(kind->give(&lock), 0);
}

/* --- A thread that libc made ------------------------------------------------------------------------------- */

static void by_timer(void)
{
    timer_t timer;
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = (void (*)(union sigval))(void (*)(void))use_it;
    SCN_IS(errno_of(timer_create(CLOCK_MONOTONIC, &event, &timer)), 0);
}

static void by_aio(void)
{
    static char byte;
    static struct aiocb block;
    const struct aiocb *const list[] = {&block};
    block.aio_fildes = open("/dev/zero", O_RDONLY);
    block.aio_buf = &byte;
    block.aio_nbytes = 1;
    SCN_IS(errno_of(aio_read(&block)), 0);
    SCN_IS(errno_of(aio_suspend(list, 1, NULL)), 0);
}

/* Those whom libc tells that it is done: each of these runs use_it in a thread that libc makes. */
static struct sigevent tell_thread(void)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_notify_function = (void (*)(union sigval))(void (*)(void))use_it;
    return event;
}

static void by_list(void)
{
    static char byte;
    static struct aiocb block;
    struct aiocb *const list[] = {&block};
    struct sigevent event = tell_thread();
    block.aio_fildes = open("/dev/zero", O_RDONLY);
    block.aio_buf = &byte;
    block.aio_nbytes = 1;
    block.aio_lio_opcode = LIO_READ;
    SCN_IS(errno_of(lio_listio(LIO_NOWAIT, list, 1, &event)), 0);
}

/* An address in figures: nobody is asked. */
static void by_name(void)
{
    static struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    static struct gaicb request = {.ar_name = "127.0.0.1", .ar_request = &hints};
    struct gaicb *list[] = {&request};
    struct sigevent event = tell_thread();
    SCN_IS(getaddrinfo_a(GAI_NOWAIT, list, 1, &event), 0);
}

/* Where the kernel has no such queues the thread is there all the same, and nobody tells it anything. */
static void by_queue(void)
{
    char name[32];
    snprintf(name, sizeof name, "/forksafe-%d", (int)getpid());
    const mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
    if (queue == (mqd_t)-1)
        return;
    mq_unlink(name);
    struct sigevent event = tell_thread();
    const int refused = errno_of(mq_notify(queue, &event));
    if (refused == ENOSYS)
        return;
    SCN_IS(refused, 0);
    SCN_IS(errno_of(mq_send(queue, "", 1, 0)), 0);
}

static void (*const by_libc[])(void) = {by_timer, by_aio, by_list, by_name, by_queue};
static const char *const makers[] = {"a timer's", "aio's", "lio_listio's", "getaddrinfo_a's", "mq_notify's"};

static void made_by_libc(const struct scn_case *self)
{
    kind = self->kind;
    kind->init();
    scn_start(hold, NULL);
    while (!held)
        usleep(500);
    SCN_IN_CHILD {
        by_libc[self->number]();
        use_it();
    }
    scn_fine();
}

/* --- A wait that was left by a jump ---------------------------------------------------------------------------- */

static sigjmp_buf back;
static atomic_bool may_jump;

static void jump(int number)
{
    siglongjmp(back, 1);
}

/* The wait that no time limit exists for. */
static __attribute__((noinline)) void wait_and_leave(void)
{
    signal(SIGUSR1, jump);
    if (sigsetjmp(back, 1) == 0) {
        atomic_store(&may_jump, true);
        kind->take(&lock);
        scn_wrong(SCN_WHERE, "it is held");
    }
    signal(SIGUSR1, SIG_DFL);
}

static pid_t waiter;

static void *interrupt(void *leave)
{
    while (!atomic_load(&may_jump))
        usleep(500);
    if (kind->init == init_spin) /* it does not sleep */
        usleep(100000);
    else
        scn_await_asleep(waiter, NULL);
    syscall(SYS_tgkill, getpid(), waiter, SIGUSR1);
    return leave;
}

static int use_elsewhere(void *unused)
{
    use_it();
    return 0;
}

static void left_by_jump(const struct scn_case *self)
{
    kind = self->kind;
    kind->init();
    scn_start(hold, NULL);
    while (!held)
        usleep(500);
    waiter = (pid_t)syscall(SYS_gettid);
    pthread_t helper = scn_start(interrupt, NULL);
    wait_and_leave();
    scn_join(helper);
    SCN_IN_CHILD {
        if (self->number == 1)
            SCN_IS(scn_elsewhere(use_elsewhere, NULL), 0);
        use_it();
    }
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *of = &kinds[i];
        for (long by = 0; by < (long)(sizeof by_libc / sizeof *by_libc); by++)
            scn_add(SCN_CASE(.bare = "hangs", .run = made_by_libc, .kind = of, .number = by),
                    "%s, %s thread", of->name, makers[by]);
        /* An rwlock counts who waits: libc never learns that one has left. */
        if (of->init == init_rwlock)
            continue;
        scn_add(SCN_CASE(.bare = "hangs", .run = left_by_jump, .kind = of), "%s, a wait left", of->name);
        scn_add(SCN_CASE(.bare = "hangs", .run = left_by_jump, .kind = of, .number = 1),
                "%s, a wait left, another thread", of->name);
    }
}
