/*
 * Threads in seccomp's strict mode: their next system call kills them, and the processor's clock is not theirs to read.
 * A lock that is free takes neither, so a correct program goes on, and must do so under the library.
 */
#include "scenario.h"

#include <linux/seccomp.h>
#include <semaphore.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PASSES = 200000, FEW = 200, MANY = 100, FORKS = 100, TOO_MANY = 10000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, many[MANY];
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER, read_by_others = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_spinlock_t spin;
static sem_t semaphore;
static atomic_int reached;

static void enter_by_prctl(void)
{
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        scn_wrong(SCN_WHERE, "no strict mode");
}

/* Not its first use of syscall(), which tells the library where libc's is. */
static void enter_by_syscall(void)
{
    SCN_CHECK(syscall(SYS_getpid) == getpid());
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0) != 0)
        scn_wrong(SCN_WHERE, "no strict mode");
}

static const struct door {
    const char *name;
    void (*enter)(void);
} doors[] = {{"prctl", enter_by_prctl}, {"syscall", enter_by_syscall}};

/* Every kind of lock, none of which anybody else has. No check: there is nothing that a failed one could do. */
static void use(int passes)
{
    for (int i = 0; i < passes; i++) {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        if (pthread_rwlock_rdlock(&rwlock) == 0)
            pthread_rwlock_unlock(&rwlock);
        if (pthread_rwlock_wrlock(&rwlock) == 0)
            pthread_rwlock_unlock(&rwlock);
        pthread_spin_lock(&spin);
        pthread_spin_unlock(&spin);
        if (sem_wait(&semaphore) == 0)
            sem_post(&semaphore);
        pthread_cond_signal(&condition);
        pthread_cond_broadcast(&condition);
    }
    for (int i = 0; i < MANY; i++)
        pthread_mutex_lock(&many[i]);
    for (int i = 0; i < MANY; i++)
        pthread_mutex_unlock(&many[i]);
}

static void begin(void)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(pthread_mutex_init(&many[i], NULL), 0);
    SCN_IS(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE), 0);
    SCN_IS(sem_init(&semaphore, 0, 1), 0);
}

static void *live_strictly(void *raw)
{
    const struct scn_case *self = raw;
    if (self->number != 0)
        use(1);
    ((const struct door *)self->kind)->enter();
    use(PASSES);
    atomic_store(&reached, 1);
    syscall(SYS_exit, 0); /* pthread's own end makes system calls */
    return NULL;
}

/* Beside a thread that forks without a pause, and closes the gate each time. */
static void thread(const struct scn_case *self)
{
    begin();
    scn_start(live_strictly, (void *)self);
    for (int forks = 0; !atomic_load(&reached); forks++) {
        SCN_CHECK(forks < TOO_MANY); /* the thread is dead */
        SCN_IN_CHILD {}
    }
}

static int read_it(void *lock)
{
    return pthread_rwlock_rdlock(lock);
}

static int unlock_it(void *lock)
{
    return pthread_rwlock_unlock(lock);
}

/* A child that becomes strict; other threads of its parent have locks that it does not touch. */
static void child_of_many(const struct scn_case *self)
{
    struct scn_holder reader;
    begin();
    scn_hold(&reader, read_it, unlock_it, &read_by_others, 1);
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = scn_fork();
        if (child == 0) {
            if (self->number != 0)
                use(1);
            ((const struct door *)self->kind)->enter();
            use(FEW);
            syscall(SYS_exit, 0);
        }
        int status;
        SCN_CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    scn_let_go(&reader);
}

/* A parent that becomes strict may go on reading. */
static void parent_reads(const struct scn_case *self)
{
    const pid_t child = scn_fork();
    if (child == 0) {
        int ends[2];
        char byte;
        SCN_CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
        const pid_t first = scn_fork();
        if (first == 0)
            scn_fine();
        scn_reap(first);
        ((const struct door *)self->kind)->enter();
        syscall(SYS_exit, read(ends[0], &byte, 1) == 1 ? 0 : 1);
    }
    int status;
    SCN_CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* What is no such call, or is refused, changes nothing: the thread's locks are known as before. */
static void refused(const struct scn_case *self)
{
    char name[16] = "";
    SCN_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0) == -1 && errno == EINVAL);
    SCN_CHECK(prctl(PR_SET_NAME, "renamed") == 0 && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "renamed") == 0);
    SCN_CHECK(prctl(PR_GET_SECCOMP) == 0);
    SCN_IN_CHILD_WHILE_HELD(read_it, unlock_it, &rwlock) {
        SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    }
}

static void *fork_and_want(void *unused)
{
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    }
    return unused;
}

/* A vfork child that becomes strict runs as its parent's thread, whose locks are known as before. */
static void child_of_vfork(const struct scn_case *self)
{
    pthread_t forker;
    const pid_t child = vfork();
    if (child == 0) {
        ((const struct door *)self->kind)->enter();
        syscall(SYS_exit, 0);
    }
    scn_reap(child);
    SCN_IS(pthread_rwlock_rdlock(&rwlock), 0);
    SCN_IS(pthread_create(&forker, NULL, fork_and_want, NULL), 0);
    SCN_IS(pthread_join(forker, NULL), 0);
}

void scn_cases(void)
{
    for (size_t d = 0; d < sizeof doors / sizeof *doors; d++)
        for (int before = 0; before < 2; before++) {
            const char *when = before != 0 ? "locked-before" : "first-lock";
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = thread, .kind = &doors[d], .number = before),
                    "thread-%s-%s", doors[d].name, when);
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = child_of_many, .kind = &doors[d],
                             .number = before), "child-%s-%s", doors[d].name, when);
        }
    for (size_t d = 0; d < sizeof doors / sizeof *doors; d++)
        scn_add(SCN_CASE(.bare = "hangs", .says = "took over rwlock", .run = child_of_vfork, .kind = &doors[d]),
                "vfork-child-%s", doors[d].name);
    for (size_t d = 0; d < sizeof doors / sizeof *doors; d++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = parent_reads, .kind = &doors[d]),
                "parent-reads-%s", doors[d].name);
    scn_add(SCN_CASE(.bare = "hangs", .says = "took over rwlock", .run = refused), "refused");
}
