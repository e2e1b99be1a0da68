/*
 * The table of libforksafe(7), "Waits that nobody ends", cell by cell: ROW-alone and ROW-threads, each also in mode
 * abort. tests/build/table.py compares the page with what is listed here.
 */
#include "bare_futex.h"
#include "libc.h"
#include "scenario.h"

#include <aio.h>
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIMIT "FORKSAFE_HANG_MS=150"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, monitor = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static sem_t lock, event, never, shared;
static uint32_t futex_lock, word;
static int input[2];

/* --- What the thread that will vanish does ------------------------------------------------------------------------ */

static void take_nothing(void) {}
static void take_mutex(void) { pthread_mutex_lock(&mutex); }
static void take_rwlock(void) { pthread_rwlock_wrlock(&rwlock); }
static void take_semaphore(void) { sem_wait(&lock); }
static void take_spin(void) { pthread_spin_lock(&spin); }
static void take_futex(void) { futex_lock = 1; }

/* libc's helper reads what nobody writes; it vanishes, too. */
static struct aiocb request;
static void take_request(void)
{
    static char byte;
    request = (struct aiocb){.aio_fildes = input[0], .aio_buf = &byte, .aio_nbytes = 1};
    SCN_CHECK(aio_read(&request) == 0);
}

static pthread_t holder;

struct row {
    const char *name;
    const char *bare, *alone, *threads; /* how the page calls what becomes of the wait; NULL: no such case */
    void (*take)(void);
    void (*want)(void);
};

/* --- What the child does ------------------------------------------------------------------------------------------ */

static void *sleeper(void *unused)
{
    while (sem_wait(&never) != 0)
        ;
    return unused;
}

static void want_mutex(void) { pthread_mutex_lock(&mutex); }
static void want_own_mutex(void) { pthread_mutex_lock(&mutex), pthread_mutex_lock(&mutex); }
static void want_rwlock(void) { pthread_rwlock_rdlock(&rwlock); }
static void want_own_rwlock(void) { pthread_rwlock_rdlock(&rwlock), pthread_rwlock_wrlock(&rwlock); }
static void want_semaphore(void) { sem_wait(&lock); }
static void try_mutex(void) { while (pthread_mutex_trylock(&mutex) != 0) usleep(1000); }
static void try_rwlock(void) { while (pthread_rwlock_trywrlock(&rwlock) != 0) usleep(1000); }
static void try_semaphore(void) { while (sem_trywait(&lock) != 0) usleep(1000); }
static void try_spin(void) { while (pthread_spin_trylock(&spin) != 0) usleep(1000); }
static void want_event(void) { sem_wait(&event); }
static void want_condition(void) { pthread_mutex_lock(&monitor), pthread_cond_wait(&condvar, &monitor); }
static void want_barrier(void) { pthread_barrier_wait(&barrier); }
static void want_spin(void) { pthread_spin_lock(&spin); }
static void join_vanished(void) { pthread_join(holder, NULL); }
static void join_own(void) { pthread_join(scn_start(sleeper, NULL), NULL); }
static void want_shared(void) { sem_wait(&shared); }
static void want_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }

static void want_new_futex(void)
{
    syscall(SYS_futex_wait, &word, 0L, 1L, FUTEX_32 | (long)FUTEX_PRIVATE_FLAG, 0L, 0L);
}

static void want_request(void)
{
    const struct aiocb *const list[] = {&request};
    while (aio_error(&request) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
}

static void ask_for_request(void) { while (aio_error(&request) == EINPROGRESS) usleep(1000); }

static void want_futexes(void)
{
    static uint32_t other;
    const struct futex_waitv words[] = {
        {.uaddr = (uintptr_t)&word, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
        {.uaddr = (uintptr_t)&other, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
    };
    syscall(SYS_futex_waitv, words, 2, 0, NULL, 0);
}

/* As Rust's Mutex. */
static void want_known_futex(void)
{
    while (__atomic_exchange_n(&futex_lock, 2, __ATOMIC_ACQUIRE) != 0)
        syscall(SYS_futex, &futex_lock, FUTEX_WAIT_BITSET_PRIVATE, 2, NULL, NULL, ~0u);
}

#ifdef HAVE_BARE_FUTEX
static void want_unseen(void)
{
    for (;;)
        bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
}
#endif

static void loop(void)
{
    while (__atomic_load_n(&word, __ATOMIC_RELAXED) == 0)
        usleep(1000);
}

static void want_byte(void)
{
    char byte;
    while (read(input[0], &byte, 1) < 0)
        ;
}

static const char saved[] = "saved", named[] = "named", parent[] = "by its parent", unseen[] = "not seen";

static const struct row rows[] = {
    {"mutex", "hangs", saved, saved, take_mutex, want_mutex},
    {"own-mutex", "hangs", named, named, take_nothing, want_own_mutex},
    {"rwlock", "hangs", saved, saved, take_rwlock, want_rwlock},
    {"own-rwlock", "hangs", named, named, take_nothing, want_own_rwlock},
    {"semaphore", "hangs", saved, saved, take_semaphore, want_semaphore},
    {"event", "hangs", named, named, take_nothing, want_event},
    {"condition", "hangs", named, named, take_nothing, want_condition},
    {"barrier", "hangs", named, named, take_nothing, want_barrier},
    {"spin", "hangs", saved, saved, take_spin, want_spin},
    {"try-mutex", "hangs", saved, saved, take_mutex, try_mutex},
    {"try-rwlock", "hangs", saved, saved, take_rwlock, try_rwlock},
    {"try-semaphore", "hangs", saved, saved, take_semaphore, try_semaphore},
    {"try-spin", "hangs", saved, saved, take_spin, try_spin},
    {"join", "hangs|fine", saved, saved, take_nothing, join_vanished},
    {"own-join", "hangs", NULL, named, take_nothing, join_own},
    {"shared", "hangs", named, named, take_nothing, want_shared},
    {"known-futex", "hangs", saved, named, take_futex, want_known_futex},
    {"futex", "hangs", named, named, take_nothing, want_futex},
    {"new-futex", "hangs", named, named, take_nothing, want_new_futex},
    {"futexes", "hangs", named, named, take_nothing, want_futexes},
    {"aio-suspend", "hangs", named, named, take_request, want_request},
    {"aio-error", "hangs", named, unseen, take_request, ask_for_request},
#ifdef HAVE_BARE_FUTEX
    {"unseen-futex", "hangs", parent, parent, take_nothing, want_unseen},
#endif
    {"loop", "hangs", unseen, unseen, take_nothing, loop},
    {"pipe", "hangs", unseen, unseen, take_nothing, want_byte},
};

/* --- The case ----------------------------------------------------------------------------------------------------- */

static int held, forever;

static void *hold(void *row)
{
    ((const struct row *)row)->take();
    scn_ring(held);
    scn_await(forever);
    return NULL;
}

static void *want_there(void *row)
{
    ((const struct row *)row)->want();
    return NULL;
}

/* With a larger stack: none that gets a vanished thread's, and so its handle. */
static pthread_t start_large(void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)32 << 20);
    SCN_IS(pthread_create(&thread, &attributes, body, argument), 0);
    return thread;
}

enum { THREADS = 1, ABORTS = 2 };

static void cell(const struct scn_case *self)
{
    const struct row *row = self->kind;
    const char *becomes = (self->number & THREADS) != 0 ? row->threads : row->alone;
    if (becomes == parent || (becomes == named && (self->number & THREADS) != 0))
        scn_needs_calls();
    /* The child's call is not this program's first of syscall(), which tells the library where libc's is. */
    if (row->want == want_futexes && syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno == ENOSYS)
        scn_skip("this kernel has no futex_waitv");
    if (row->want == want_new_futex && syscall(SYS_futex_wait, NULL, 0L, 0L, 0L, 0L, 0L) < 0 && errno == ENOSYS)
        scn_skip("this kernel has no futex_wait");
    held = scn_bell();
    forever = scn_bell();
    sem_init(&lock, 0, 1);
    sem_init(&event, 0, 0);
    sem_init(&never, 0, 0);
    sem_init(&shared, 1, 0);
    pthread_barrier_init(&barrier, NULL, 3);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    SCN_CHECK(pipe(input) == 0);
    holder = scn_start(hold, (void *)(uintptr_t)row);
    scn_await(held);
    SCN_IN_CHILD {
        if ((self->number & THREADS) != 0) {
            /* One that sleeps for good, the wait itself in another, and this one waits for that. */
            if (row->alone == parent) {
                start_large(want_there, (void *)(uintptr_t)row);
                row->want();
            }
            start_large(sleeper, NULL);
            scn_join(start_large(want_there, (void *)(uintptr_t)row));
        } else {
            row->want();
        }
    }
}

static void add(const struct row *row, const char *becomes, long how)
{
    const bool aborts = (how & ABORTS) != 0;
    struct scn_case added = {.bare = row->bare, .run = cell, .kind = row, .number = how,
                             .env = aborts ? LIMIT " FORKSAFE_MODE=abort" : LIMIT};
    if (becomes == unseen) {
        added.preloaded = "hangs";
        added.says = SCN_SILENT;
    } else if (becomes == saved && !aborts) {
        added.says = "never:child hangs in";
    } else if (row->want == join_vanished && !scn_glibc_since(43)) {
        added.says = SCN_SILENT; /* libc's own join returns */
    } else {
        added.preloaded = aborts ? "dies SIGABRT" : "hangs";
        const bool is_lock = becomes == saved && row->want != join_vanished;
        added.says = is_lock ? "once:child would hang on " : "once:child hangs in ";
    }
    scn_add(added, "%s-%s%s", row->name, how & THREADS ? "threads" : "alone", aborts ? "-abort" : "");
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (long how = 0; how < 4; how++) {
            const char *becomes = how & THREADS ? rows[i].threads : rows[i].alone;
            if (becomes != NULL)
                add(&rows[i], becomes, how);
        }
}
