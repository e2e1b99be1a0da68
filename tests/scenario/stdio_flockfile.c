/* Streams locked by flockfile at fork: by the forking thread, in atfork handlers, by a vanished thread. Afterwards
 * several threads of the child print, and every line is whole. */
#include "scenario.h"

#include <fmtmsg.h>
#include <malloc.h>
#include <printf.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum stream { ORDINARY, BYCALLER, MEMORY, STREAMS };
static const char *const names[STREAMS] = {"file", "bycaller", "memstream"};

static FILE *stream;
static char *text;
static size_t text_bytes;

static void make_stream(enum stream kind)
{
    stream = kind == MEMORY ? open_memstream(&text, &text_bytes) : tmpfile();
    SCN_CHECK(stream != NULL);
    if (kind == BYCALLER)
        __fsetlocking(stream, FSETLOCKING_BYCALLER);
}

static int take(void *of)
{
    flockfile(of);
    return 0;
}

static int try(void *of)
{
    return ftrylockfile(of) == 0 ? 0 : EBUSY;
}

static int give(void *of)
{
    funlockfile(of);
    return 0;
}

static int try_and_give(void *of)
{
    const int error = try(of);
    return error != 0 ? error : give(of);
}

/* Each line in pieces, so that only the lock keeps it together. */
enum { WRITERS = 4, LINES = 500 };

static void *write_lines(void *raw)
{
    for (int i = 0; i < LINES; i++) {
        flockfile(stream);
        fputs("line ", stream);
        fputs(raw, stream);
        fputs(" end\n", stream);
        funlockfile(stream);
    }
    return NULL;
}

static void *print_lines(void *raw)
{
    for (int i = 0; i < LINES; i++)
        fprintf(stream, "line %s end\n", (char *)raw);
    return NULL;
}

static void check_lines(void)
{
    char line[64];
    int count = 0;
    fflush(stream);
    rewind(stream);
    while (fgets(line, sizeof line, stream) != NULL) {
        char whose;
        int used = 0;
        SCN_CHECK(sscanf(line, "line %c end\n%n", &whose, &used) == 1 && (size_t)used == strlen(line));
        count++;
    }
    SCN_CHECK(count == 2 * WRITERS * LINES);
}

/* The stream, free by now, works for many threads, with and without flockfile. */
static void check_works(bool locks_itself)
{
    static char who[WRITERS][2] = {"a", "b", "c", "d"};
    for (int round = 0; round < 2; round++) {
        pthread_t thread[WRITERS];
        for (int i = 0; i < WRITERS; i++)
            thread[i] = scn_start(round == 0 && locks_itself ? print_lines : write_lines, who[i]);
        for (int i = 0; i < WRITERS; i++)
            scn_join(thread[i]);
    }
    scn_exclusion(take, give, stream, WRITERS, 2000);
    SCN_IS(scn_elsewhere(try_and_give, stream), 0);
}

/* glibc resets the locks of streams only when the process has threads. */
static pthread_t start_company(int *bell)
{
    *bell = scn_bell();
    return scn_start(scn_stay, bell);
}

static void forker(const struct scn_case *self)
{
    int bell;
    const enum stream kind = (enum stream)(self->number / 10);
    const int depth = (int)(self->number % 10);
    make_stream(kind);
    const pthread_t company = start_company(&bell);
    for (int i = 0; i < depth; i++)
        flockfile(stream);
    SCN_IN_CHILD {
        flockfile(stream);
        funlockfile(stream);
        for (int i = 0; i < depth; i++)
            funlockfile(stream);
        check_works(kind != BYCALLER);
        if (kind != MEMORY)
            check_lines();
    }
    SCN_IS(scn_elsewhere(try_and_give, stream), EBUSY);
    for (int i = 0; i < depth; i++)
        funlockfile(stream);
    SCN_IS(scn_elsewhere(try_and_give, stream), 0);
    scn_ring(bell);
    scn_join(company);
}

/* Until it unlocks, the forking thread has the stream alone also in the child, and in the child's child. */
static void keeps_out(const struct scn_case *self)
{
    int bell;
    make_stream((enum stream)self->number);
    const pthread_t company = start_company(&bell);
    flockfile(stream);
    SCN_IN_CHILD {
        SCN_IS(scn_elsewhere(try_and_give, stream), EBUSY);
        SCN_IN_CHILD {
            SCN_IS(scn_elsewhere(try_and_give, stream), EBUSY);
            funlockfile(stream);
            check_works(self->number != BYCALLER);
        }
        SCN_IS(scn_elsewhere(try_and_give, stream), EBUSY);
        funlockfile(stream);
        check_works(self->number != BYCALLER);
    }
    funlockfile(stream);
    scn_ring(bell);
    scn_join(company);
}

/* A stream that was closed while it was locked, and another one at its place. */
static void closed(const struct scn_case *self)
{
    int bell;
    make_stream(ORDINARY);
    const pthread_t company = start_company(&bell);
    for (int i = 0; i < 20; i++) {
        flockfile(stream);
        fclose(stream);
        make_stream(ORDINARY);
    }
    SCN_IN_CHILD {
        check_works(true);
        check_lines();
    }
    check_works(true);
    scn_ring(bell);
    scn_join(company);
}

static void lock_stream(void)
{
    flockfile(stream);
}

static void unlock_stream(void)
{
    funlockfile(stream);
}

static void unlock_in_child(void)
{
    scn_arm();
    funlockfile(stream);
}

static void atfork(const struct scn_case *self)
{
    int bell;
    const enum stream kind = (enum stream)self->number;
    make_stream(kind);
    SCN_IS(pthread_atfork(lock_stream, unlock_stream, unlock_in_child), 0);
    const pthread_t company = start_company(&bell);
    SCN_IN_CHILD {
        check_works(kind != BYCALLER);
        if (kind != MEMORY)
            check_lines();
    }
    check_works(kind != BYCALLER);
    scn_ring(bell);
    scn_join(company);
}

static int close_locked(void *unused)
{
    for (int i = 0; i < 20; i++) {
        make_stream(MEMORY);
        flockfile(stream);
        fclose(stream);
    }
    return 0;
}

static int nothing(void *unused)
{
    return 0;
}

/* By a vanished thread, and its memory is data now. */
static void closed_by_vanished(const struct scn_case *self)
{
    enum { BLOCKS = 200, BYTES = 640 };
    static unsigned char *block[BLOCKS];
    struct scn_holder worker;
    scn_hold(&worker, close_locked, nothing, NULL, 1);
    for (int i = 0; i < BLOCKS; i++)
        memset(block[i] = malloc(BYTES), 0xA5, BYTES);
    SCN_IN_CHILD {
        for (int i = 0; i < BLOCKS; i++)
            for (int k = 0; k < BYTES; k++)
                SCN_CHECK(block[i][k] == 0xA5);
        make_stream(MEMORY);
        check_works(true);
    }
    scn_let_go(&worker);
}

static void vanished(const struct scn_case *self)
{
    struct scn_holder worker;
    const struct scn_entry *entry = self->entry;
    const enum stream kind = (enum stream)self->number;
    make_stream(kind);
    scn_hold(&worker, take, give, stream, 2);
    SCN_IN_CHILD {
        SCN_IS(entry->take(stream), 0);
        SCN_IS(scn_elsewhere(try_and_give, stream), EBUSY);
        SCN_IS(give(stream), 0);
        check_works(kind != BYCALLER);
        if (kind != MEMORY)
            check_lines();
    }
    SCN_IS(try_and_give(stream), EBUSY);
    scn_let_go(&worker);
    SCN_IS(try_and_give(stream), 0);
}

/* The child's threads ask first: one of them may have the vanished worker's pthread_self(). */
static void vanished_threads(const struct scn_case *self)
{
    make_stream((enum stream)self->number);
    SCN_IN_CHILD_WHILE_HELD(take, give, stream) {
        scn_exclusion(take, give, stream, WRITERS, 2000);
        check_works(self->number != BYCALLER);
    }
}

/* The child prints and never calls flockfile: from two threads, or from one first. */
static void vanished_prints(const struct scn_case *self)
{
    static char who[2][2] = {"a", "b"};
    struct scn_holder worker;
    make_stream(MEMORY);
    scn_hold(&worker, take, give, stream, 2);
    SCN_IN_CHILD {
        if (self->number)
            SCN_CHECK(fprintf(stream, "line\n") == 5);
        const pthread_t first = scn_start(print_lines, who[0]), second = scn_start(print_lines, who[1]);
        scn_join(first);
        scn_join(second);
        check_works(true);
        SCN_CHECK(fclose(stream) == 0);
    }
    SCN_IS(try_and_give(stream), EBUSY);
    scn_let_go(&worker);
}

static void vanished_grandchild(const struct scn_case *self)
{
    make_stream((enum stream)self->number);
    SCN_IN_CHILD_WHILE_HELD(take, give, stream) {
        SCN_IN_CHILD {
            scn_exclusion(take, give, stream, WRITERS, 2000);
        }
        SCN_IS(take(stream), 0);
        SCN_IS(give(stream), 0);
    }
}

/* Frozen at any instruction of flockfile and funlockfile. */
static void hammered(const struct scn_case *self)
{
    static struct scn_hammer hammer;
    make_stream((enum stream)self->number);
    scn_hammer_start(&hammer, take, give, stream, 3);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            if (i % 2 == 0) {
                SCN_IS(take(stream), 0);
                SCN_IS(give(stream), 0);
            }
            scn_exclusion(take, give, stream, WRITERS, 200);
        }
    }
    scn_hammer_stop(&hammer);
    SCN_IS(try_and_give(stream), 0);
}

/* --- fork() and who flushes all streams --------------------------------------------------------------------------- */

static int pipe_ends[2];

static atomic_int flusher_tid;

static void *flush_all(void *unused)
{
    atomic_store(&flusher_tid, (int)gettid());
    SCN_CHECK(fflush(NULL) == 0);
    return unused;
}

static void *read_late(void *unused)
{
    static char bytes[1 << 17];
    scn_await_asleep(getpid(), NULL); /* in fork(), or after it */
    usleep(500000);
    for (ssize_t left = sizeof bytes; left > 0;) {
        ssize_t got = read(pipe_ends[0], bytes, sizeof bytes);
        SCN_CHECK(got > 0);
        left -= got;
    }
    return unused;
}

/* A thread that flushes all streams, and sleeps because a pipe is full. */
static pthread_t start_flusher(void *(*flushes)(void *))
{
    static char bytes[1 << 17], buffer[1 << 18]; /* more than a pipe holds, and room for it */
    SCN_CHECK(pipe(pipe_ends) == 0);
    FILE *full = fdopen(pipe_ends[1], "w");
    setvbuf(full, buffer, _IOFBF, sizeof buffer);
    fwrite(bytes, 1, sizeof bytes, full);
    const pthread_t thread = scn_start(flushes, NULL);
    while (atomic_load(&flusher_tid) == 0)
        sched_yield();
    scn_await_asleep(atomic_load(&flusher_tid), NULL);
    return thread;
}

/* It is cancelled there, and has ended: no fork waits for it any more, nor does its child. */
static void cancelled_flusher(const struct scn_case *self)
{
    const pthread_t thread = start_flusher(flush_all);
    SCN_IS(pthread_cancel(thread), 0);
    scn_join(thread);
    for (int i = 0; i < 3; i++) {
        SCN_IN_CHILD {
            const pid_t grandchild = scn_fork(); /* which takes the list of streams */
            if (grandchild == 0)
                scn_fine();
            scn_reap(grandchild);
        }
    }
}

/* Its cleanup handlers last: no fork waits for those either. */
static int may_end;

static void clean_up(void *unused)
{
    char over[2048]; /* what was in that call's stack, as any handler does that does much */
    memset(over, 0, sizeof over);
    scn_await(may_end + over[may_end]);
}

static void *flush_and_clean_up(void *unused)
{
    pthread_cleanup_push(clean_up, NULL);
    flush_all(NULL);
    pthread_cleanup_pop(0);
    return unused;
}

static void cleaning_flusher(const struct scn_case *self)
{
    may_end = scn_bell();
    const pthread_t thread = start_flusher(flush_and_clean_up);
    SCN_IS(pthread_cancel(thread), 0);
    usleep(20000); /* until it has left the call */
    for (int i = 0; i < 3; i++) {
        SCN_IN_CHILD {}
    }
    scn_ring(may_end);
    scn_join(thread);
}

/* The pipe is read after a while: then fork() goes on. */
static void flusher(const struct scn_case *self)
{
    const pthread_t thread = start_flusher(flush_all);
    const pthread_t reader = scn_start(read_late, NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    scn_reap(child);
    scn_join(thread);
    scn_join(reader);
}

#define TAKEN "child took over stream 0x[0-9a-f]+ \\(flockfile\\) for .* held at fork by \\d+ \"worker\" since "
#define WOULD_HANG "child would hang on stream 0x[0-9a-f]+ \\(flockfile\\) for .* held at fork by \\d+ \"worker\""

static int flush_them(void *unused)
{
    return fflush(NULL);
}

static int done(void *unused)
{
    return 0;
}

/* Somebody flushes all the time, but nobody for long. */
static void flushers(const struct scn_case *self)
{
    struct scn_hammer hammer;
    scn_hammer_start(&hammer, flush_them, done, NULL, 3);
    for (int i = 0; i < 5; i++) {
        SCN_IN_CHILD {}
    }
    scn_hammer_stop(&hammer);
}

/* --- A lock of libc's that a living thread of the child has ------------------------------------------------------ */

/* Vanishes in a call of the kind that has a net in the child. */
static void *read_wide(void *from)
{
    atomic_store(&flusher_tid, (int)gettid());
    fgetwc(from);
    return NULL;
}

static atomic_int keeps;
static FILE *to_close;

static ssize_t keep_for_long(void *unused, const char *bytes, size_t count)
{
    (void)unused, (void)bytes;
    atomic_store(&keeps, 1);
    usleep(400000);
    atomic_store(&keeps, 0);
    return (ssize_t)count;
}

static void *keep_stdin(void *unused)
{
    flockfile(stdin);
    keep_for_long(NULL, NULL, 0);
    funlockfile(stdin);
    return unused;
}

static void *want_stdin(void *unused)
{
    fgetpwent(stdin);
    SCN_CHECK(atomic_load(&keeps) == 0);
    return unused;
}

static void *want_stdout(void *unused)
{
    fgetpwent(stdout);
    SCN_CHECK(atomic_load(&keeps) == 0);
    return unused;
}

static void *keep_list(void *unused)
{
    fflush(NULL);
    return unused;
}

static atomic_int interrupted;

static void on_signal(int number)
{
    keep_for_long(NULL, NULL, 0);
    atomic_store(&interrupted, 1);
}

/* In a handler that interrupts it while it reads. */
static void *keep_interrupted(void *unused)
{
    signal(SIGUSR1, on_signal);
    atomic_store(&flusher_tid, (int)gettid());
    getchar();
    return unused;
}

static void interrupt(pthread_t keeper)
{
    while (atomic_load(&flusher_tid) == 0)
        sched_yield();
    scn_await_asleep(atomic_load(&flusher_tid), NULL);
    pthread_kill(keeper, SIGUSR1);
    while (atomic_load(&keeps) == 0)
        sched_yield();
    SCN_CHECK(write(pipe_ends[1], "x", 1) == 1);
}

static void *want_list(void *unused)
{
    fclose(to_close);
    SCN_CHECK(atomic_load(&keeps) == 0);
    return unused;
}

static int print_for_long(FILE *to, const struct printf_info *unused, const void *const *arguments)
{
    (void)to, (void)unused, (void)arguments;
    return (int)keep_for_long(NULL, NULL, 0);
}

static int take_none(const struct printf_info *unused, size_t count, int *types, int *sizes)
{
    (void)unused, (void)count, (void)types, (void)sizes;
    return 0;
}

/* In what printf was taught, with the stream that it prints to. */
static void *keep_printing(void *unused)
{
    static const char taught[] = "%K"; /* which no compiler knows */
    const char *volatile format = taught;
    register_printf_specifier('K', print_for_long, take_none);
    printf(format, NULL);
    return unused;
}

/*
 * In a handler that interrupts it in malloc, most likely, and that blocks no signal. Nothing in the lock says who has
 * it.
 */
static void *keep_allocating(void *unused)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&flusher_tid, (int)gettid());
    while (atomic_load(&interrupted) == 0)
        malloc_trim(0);
    return unused;
}

enum living { STDIN, LIST, HANDLER, PRINTF, LIVING };
static const char *const living_names[LIVING] = {"stdin", "list", "handler", "printf"};
static void *(*const keepers[LIVING])(void *) = {keep_stdin, keep_list, keep_interrupted, keep_printing};
static void *(*const wanters[LIVING])(void *) = {want_stdin, want_list, want_stdin, want_stdout};

static void start_vanishing(void)
{
    SCN_CHECK(pipe(pipe_ends) == 0);
    scn_start(read_wide, fdopen(pipe_ends[0], "r"));
    while (atomic_load(&flusher_tid) == 0)
        sched_yield();
    scn_await_asleep(atomic_load(&flusher_tid), NULL);
}

/* It sleeps meanwhile, as all the others do, in no call of libc's that takes a lock. */
static void living(const struct scn_case *self)
{
    start_vanishing();
    SCN_IN_CHILD {
        to_close = tmpfile();
        fputc('x', fopencookie(NULL, "w", (cookie_io_functions_t){.write = keep_for_long}));
        atomic_store(&flusher_tid, 0);
        SCN_CHECK(pipe(pipe_ends) == 0);
        SCN_CHECK(self->number != HANDLER || dup2(pipe_ends[0], STDIN_FILENO) == STDIN_FILENO);
        const pthread_t keeper = scn_start(keepers[self->number], NULL);
        if (self->number == HANDLER)
            interrupt(keeper);
        while (atomic_load(&keeps) == 0)
            sched_yield();
        scn_join(scn_start(wanters[self->number], NULL));
        scn_join(keeper);
    }
    scn_fine();
}

static atomic_int wanter_tid, has_memory;

static void *want_memory(void *number)
{
    atomic_store(&wanter_tid, (int)gettid());
    while (atomic_load(&keeps) == 0)
        sched_yield();
    addseverity(*(int *)number, "memory");
    atomic_store(&has_memory, atomic_load(&keeps) == 0 ? 1 : 2);
    return NULL;
}

/* Until the handler has interrupted malloc: then who wants memory sleeps. */
static void living_malloc(const struct scn_case *self)
{
    mallopt(M_ARENA_MAX, 1);
    start_vanishing();
    SCN_IN_CHILD {
        enum { BLOCKS = 20000, BYTES = 1200 };
        static void *blocks[BLOCKS];
        int number = 100;
        for (int i = 0; i < BLOCKS; i++)
            blocks[i] = malloc(BYTES);
        for (int i = 0; i < BLOCKS; i += 2)
            free(blocks[i]);
        for (bool slept = false; !slept; number++) {
            atomic_store(&flusher_tid, 0);
            atomic_store(&has_memory, 0);
            atomic_store(&wanter_tid, 0);
            atomic_store(&interrupted, 0);
            const pthread_t wanter = scn_start(want_memory, &number), keeper = scn_start(keep_allocating, NULL);
            while (atomic_load(&flusher_tid) == 0)
                sched_yield();
            usleep(5000);
            pthread_kill(keeper, SIGUSR1);
            while (atomic_load(&keeps) == 0 || atomic_load(&wanter_tid) == 0)
                sched_yield();
            scn_await_asleep(atomic_load(&wanter_tid), &has_memory);
            slept = atomic_load(&has_memory) == 0;
            scn_join(wanter);
            scn_join(keeper);
            SCN_CHECK(!slept || atomic_load(&has_memory) == 1);
        }
    }
    scn_fine();
}

void scn_cases(void)
{
    static const struct scn_entry lock_entry = {"flockfile", take, "hangs"};
    static const struct scn_entry try_entry = {"ftrylockfile", try, "fails EBUSY"};
    const struct scn_entry *const entries[] = {&lock_entry, &try_entry};
    /* From 2.37 on the count of a stream locked once is 0, and so is what fork() makes of it. */
    const char *of_forker = scn_glibc_since(37) ? "fine" : "hangs";
    const char *names_forker = scn_glibc_since(37) ? SCN_SILENT : "child hangs in thread";
    for (long first = 0; first < 2; first++)
        scn_add(SCN_CASE(.bare = "hangs", .says = SCN_SILENT, .run = vanished_prints, .number = first),
                "vanished-memory-prints%s", first ? "-first" : "");
    for (int kind = 0; kind < STREAMS; kind++) {
        const char *bare = kind == ORDINARY ? of_forker : "fine";
        for (int depth = 1; depth <= 3; depth += 2)
            scn_add(SCN_CASE(.bare = bare, .says = SCN_SILENT, .run = forker, .number = kind * 10 + depth),
                    "forker-%s-%d-deep", names[kind], depth);
        scn_add(SCN_CASE(.bare = kind == ORDINARY ? "wrong" : "fine", .says = SCN_SILENT, .run = keeps_out,
                         .number = kind), "keeps-out-%s", names[kind]);
        scn_add(SCN_CASE(.bare = bare, .says = SCN_SILENT, .run = atfork, .number = kind), "atfork-%s", names[kind]);
        for (int i = 0; i < 2; i++)
            scn_add(SCN_CASE(.bare = kind == ORDINARY ? "fine" : entries[i]->bare,
                             .says = kind != BYCALLER ? SCN_SILENT : "once:" TAKEN, .run = vanished, .number = kind,
                             .entry = entries[i]), "vanished-%s-%s", names[kind], entries[i]->name);
        scn_add((struct scn_case){.bare = kind == ORDINARY ? "fine" : "hangs",
                                  .says = kind != BYCALLER ? SCN_SILENT : "once:" TAKEN, .run = vanished_threads,
                                  .number = kind},
                "vanished-threads-%s", names[kind]);
        scn_add(SCN_CASE(.bare = kind == ORDINARY ? "fine" : "hangs", .says = kind != BYCALLER ? SCN_SILENT : TAKEN,
                         .run = vanished_grandchild, .number = kind), "vanished-grandchild-%s", names[kind]);
        if (kind != ORDINARY)
            scn_add(SCN_CASE(.bare = "hangs", .run = hammered, .number = kind), "hammered-%s", names[kind]);
    }
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = closed), "closed");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = closed_by_vanished), "closed-by-vanished");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = WOULD_HANG " ;; " SCN_NEVER_TAKES,
                     .env = "FORKSAFE_MODE=report", .run = vanished, .number = BYCALLER, .entry = &lock_entry),
            "report");
    scn_add(SCN_CASE(.bare = "fails EBUSY", .preloaded = "fails EBUSY", .says = SCN_SILENT,
                     .env = "FORKSAFE_MODE=report", .run = vanished, .number = BYCALLER, .entry = &try_entry),
            "report-try");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = WOULD_HANG, .env = "FORKSAFE_MODE=abort",
                     .run = vanished, .number = BYCALLER, .entry = &lock_entry), "abort");
    scn_add(SCN_CASE(.bare = of_forker, .preloaded = of_forker, .says = names_forker, .run = forker,
                     .env = "FORKSAFE_MODE=report FORKSAFE_HANG_MS=200", .number = ORDINARY * 10 + 1), "report-forker");
    scn_add(SCN_CASE(.bare = of_forker, .preloaded = of_forker, .says = SCN_SILENT, .env = "FORKSAFE_MODE=off",
                     .run = forker, .number = ORDINARY * 10 + 1), "off-forker");
    scn_add((struct scn_case){.bare = "fine", .env = "FORKSAFE_HANG_MS=100", .run = flusher,
                              .says = "once:fork waits for the C library's list of streams \\(fflush\\) for .* held at "
                                      "fork by \\d+ ;; once:forksafe"},
            "flusher");
    scn_add(SCN_CASE(.bare = "fine", .env = "FORKSAFE_HANG_MS=10000", .run = flusher, .says = SCN_SILENT),
            "flusher-in-time");
    scn_add(SCN_CASE(.bare = "fine", .run = cancelled_flusher, .says = SCN_SILENT), "flusher-cancelled");
    scn_add(SCN_CASE(.bare = "fine", .run = cleaning_flusher, .says = SCN_SILENT), "flusher-cleans-up");
    scn_add(SCN_CASE(.bare = "fine", .run = flushers, .says = SCN_SILENT), "flushers");
    for (long of = 0; of < LIVING; of++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = living, .number = of),
                "living-%s", living_names[of]);
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = living_malloc), "living-malloc");
}
