/* Semaphores that signal something: a token stands for an event that happened or a place that is free, so a granted
 * one would be a lie. Bare and under the library every count is exact. */
#include "semaphore_kind.h"

#include <sched.h>

static sem_t event;

/* --- Producer and consumer -------------------------------------------------------------------------------------- */

enum { ITEMS = 20000, MAX_PLACES = 8 };

struct buffer {
    sem_t full, empty;
    int places;
    int item[MAX_PLACES];
    long in, out;
};

static struct buffer buffer;

static void produce(long items)
{
    for (long i = 0; i < items; i++) {
        SCN_IS(semaphore_wait(&buffer.empty), 0);
        buffer.item[buffer.in % buffer.places] = (int)buffer.in;
        buffer.in++;
        SCN_IS(semaphore_post(&buffer.full), 0);
    }
}

static void consume(long items)
{
    for (long i = 0; i < items; i++) {
        SCN_IS(semaphore_try_then_wait(&buffer.full), 0);
        SCN_CHECK(buffer.item[buffer.out % buffer.places] == buffer.out);
        buffer.out++;
        SCN_IS(semaphore_post(&buffer.empty), 0);
    }
}

static void *producer(void *raw)
{
    produce(*(long *)raw);
    return NULL;
}

static void run_items(long items)
{
    const pthread_t thread = scn_start(producer, &items);
    consume(items);
    scn_join(thread);
}

/* A thread that consumes and then waits, or produces and then waits for a place, until the parent lets it go on. */
struct parked {
    long items;
    atomic_int tid;
    pthread_t thread;
};

static void *parked_consumer(void *raw)
{
    struct parked *parked = raw;
    atomic_store(&parked->tid, (int)gettid());
    consume(parked->items);
    return NULL;
}

static void *parked_producer(void *raw)
{
    struct parked *parked = raw;
    atomic_store(&parked->tid, (int)gettid());
    produce(parked->items);
    return NULL;
}

static void park(struct parked *parked, void *(*body)(void *), long items)
{
    parked->items = items;
    atomic_init(&parked->tid, 0);
    parked->thread = scn_start(body, parked);
    while (!atomic_load(&parked->tid))
        sched_yield();
}

static void make_buffer(int places)
{
    buffer = (struct buffer){.places = places};
    semaphore_make(&buffer.full, 0);
    semaphore_make(&buffer.empty, (unsigned)places);
    run_items(ITEMS); /* both ends have been seen at work */
}

/* At fork a consumer sleeps, waiting for an item. */
static void consumer_parked(const struct scn_case *self)
{
    struct parked consumer;
    make_buffer((int)self->number);
    park(&consumer, parked_consumer, 1);
    scn_await_asleep(atomic_load(&consumer.tid), NULL);
    SCN_IN_CHILD {
        semaphore_check_none(&buffer.full);
        SCN_CHECK(semaphore_value(&buffer.empty) == buffer.places);
        run_items(ITEMS);
        semaphore_check_none(&buffer.full);
        semaphore_check_tokens(&buffer.empty, buffer.places);
    }
    produce(1);
    scn_join(consumer.thread);
    run_items(ITEMS);
    semaphore_check_none(&buffer.full);
}

/* At fork the buffer is full and a producer sleeps, waiting for a place: the places are not orphans, however many
 * tokens the vanished producer took. */
static void producer_parked(const struct scn_case *self)
{
    struct parked producer_thread;
    make_buffer((int)self->number);
    park(&producer_thread, parked_producer, buffer.places + 1);
    while (semaphore_value(&buffer.full) < buffer.places)
        sched_yield();
    scn_await_asleep(atomic_load(&producer_thread.tid), NULL);
    SCN_IN_CHILD {
        semaphore_check_none(&buffer.empty);
        SCN_CHECK(semaphore_value(&buffer.full) == buffer.places);
        consume(buffer.places);
        semaphore_check_none(&buffer.full);
        run_items(ITEMS);
        semaphore_check_tokens(&buffer.empty, buffer.places);
    }
    consume(buffer.places + 1);
    scn_join(producer_thread.thread);
    run_items(ITEMS);
    semaphore_check_none(&buffer.full);
}

/* --- Starts with one token and still is an event ------------------------------------------------------------------ */

/* CPython's Condition.wait: takes its own fresh lock, then waits on it again until somebody else posts. */
struct condition_waiter {
    atomic_int tid, woken;
    int leave;
    pthread_t thread;
};

static void *condition_waiter_body(void *raw)
{
    struct condition_waiter *waiter = raw;
    SCN_IS(semaphore_trywait(&event), 0);
    atomic_store(&waiter->tid, (int)gettid());
    SCN_IS(semaphore_try_then_wait(&event), 0);
    atomic_store(&waiter->woken, 1);
    scn_await(waiter->leave);
    return NULL;
}

static void start_condition_waiter(struct condition_waiter *waiter)
{
    semaphore_make(&event, 1);
    *waiter = (struct condition_waiter){.leave = scn_bell()};
    waiter->thread = scn_start(condition_waiter_body, waiter);
    scn_await_sleeper(&waiter->tid);
}

/* The child gets no token that nobody posted, and exactly those that it posts. */
static void check_no_phantom(void)
{
    SCN_IN_CHILD {
        semaphore_check_none(&event);
        SCN_IS(semaphore_post(&event), 0);
        SCN_IS(semaphore_wait(&event), 0);
        semaphore_check_none(&event);
        SCN_IN_CHILD {
            semaphore_check_none(&event);
        }
    }
    semaphore_check_none(&event);
}

static void condition_parked(const struct scn_case *self)
{
    struct condition_waiter waiter;
    start_condition_waiter(&waiter);
    check_no_phantom();
    SCN_CHECK(!atomic_load(&waiter.woken));
    SCN_IS(semaphore_post(&event), 0);
    scn_ring(waiter.leave);
    scn_join(waiter.thread);
    SCN_CHECK(atomic_load(&waiter.woken));
}

static void condition_woken(const struct scn_case *self)
{
    struct condition_waiter waiter;
    start_condition_waiter(&waiter);
    SCN_IS(semaphore_post(&event), 0);
    while (!atomic_load(&waiter.woken))
        sched_yield();
    check_no_phantom();
    scn_ring(waiter.leave);
    scn_join(waiter.thread);
}

/* Taken by one thread and posted by another before: whoever has its token at fork does not hold a lock. */
static void posted_by_others(const struct scn_case *self)
{
    semaphore_make(&event, 1);
    for (int i = 0; i < 10; i++) {
        SCN_IS(scn_elsewhere(semaphore_wait, &event), 0);
        SCN_IS(semaphore_post(&event), 0);
    }
    SCN_WHILE_HELD(semaphore_wait, semaphore_post, &event)
        check_no_phantom();
}

/* Armed: its token was taken, for good, by a thread that has ended. */
static void armed(const struct scn_case *self)
{
    semaphore_make(&event, 1);
    SCN_IS(scn_elsewhere(semaphore_wait, &event), 0);
    check_no_phantom();
}

static void armed_by_forker(const struct scn_case *self)
{
    semaphore_make(&event, 1);
    SCN_IS(semaphore_wait(&event), 0);
    check_no_phantom();
}

/* --- Other starts ------------------------------------------------------------------------------------------------- */

static void initially_none(const struct scn_case *self)
{
    struct scn_holder worker;
    semaphore_make(&event, 0);
    SCN_IS(semaphore_post(&event), 0);
    scn_hold(&worker, semaphore_wait, semaphore_post, &event, 1); /* the worker was told something */
    check_no_phantom();
    scn_let_go(&worker);
}

static void counting_exhausted(const struct scn_case *self)
{
    struct scn_holder worker, other;
    semaphore_make(&event, 3);
    scn_hold(&worker, semaphore_wait, semaphore_post, &event, 2);
    scn_hold(&other, semaphore_wait, semaphore_post, &event, 1);
    check_no_phantom();
    scn_let_go(&worker);
    scn_let_go(&other);
    semaphore_check_tokens(&event, 3);
}

/* An event's address becomes a lock: now it is one, and an orphan is granted. */
static void event_becomes_lock(const struct scn_case *self)
{
    semaphore_make(&event, 1);
    SCN_IS(scn_elsewhere(semaphore_wait, &event), 0);
    SCN_IS(semaphore_post(&event), 0);
    SCN_CHECK(sem_destroy(&event) == 0);
    semaphore_make(&event, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &event) {
        semaphore_use(semaphore_wait, &event);
    }
}

/* And a lock's address an event. */
static void lock_becomes_event(const struct scn_case *self)
{
    semaphore_make(&event, 1);
    semaphore_use(semaphore_wait, &event);
    SCN_CHECK(sem_destroy(&event) == 0);
    semaphore_make(&event, 0);
    SCN_IS(semaphore_post(&event), 0);
    SCN_WHILE_HELD(semaphore_wait, semaphore_post, &event)
        check_no_phantom();
}

void scn_cases(void)
{
    static const struct scn_row events[] = {
        {"consumer-parked-1-place", consumer_parked, 1},
        {"consumer-parked-8-places", consumer_parked, 8},
        {"producer-parked-1-place", producer_parked, 1},
        {"producer-parked-8-places", producer_parked, 8},
        {"condition-parked", condition_parked, 0},
        {"condition-woken", condition_woken, 0},
        {"posted-by-others", posted_by_others, 0},
        {"armed", armed, 0},
        {"armed-by-forker", armed_by_forker, 0},
        {"initially-none", initially_none, 0},
        {"counting-exhausted", counting_exhausted, 0},
        {"lock-becomes-event", lock_becomes_event, 0},
    };
    scn_add_rows(SCN_ROWS(events), (struct scn_case){.bare = "fine", .says = SCN_NEVER_TAKES}, NULL);
    scn_add(SCN_CASE(.bare = "hangs", .says = SEMAPHORE_TAKEN_FROM_WORKER, .run = event_becomes_lock),
            "event-becomes-lock");
}
