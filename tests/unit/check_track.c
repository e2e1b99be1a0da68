/* Tests of src/track: ledger, thread, lineage, gate, and the calls that the gate keeps account of. */
#include "track/join.h"
#include "track/slots.h"
#include "track/thread.h"
#include "unit.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "track/gate.h"
#include "track/handle.h"
#include "track/region.h"
#include "track/ledger.h"
#include "track/lineage.h"

#include <inttypes.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

/* --- ledger ----------------------------------------------------------------------------------------- */

/* Records that a ledger here begins with, the first of which is never used; and how many of them are filled in. */
enum { FIRST = 20, ROOM = FIRST - 1 - FSAFE_LEDGER_SPARE };
static struct {
    FSAFE_RECORDS(FIRST) records;
    uintptr_t behind[64]; /* not the ledger's; in a slot another ledger begins there */
} first;
static struct fsafe_ledger ledger;

/* Addresses of locks that do not exist: a ledger never follows them. Each has its own place. */
static uintptr_t lock_of(unsigned i)
{
    return (uintptr_t)(sizeof(uintptr_t) > 4 ? 0x7000000000 : 0x70000000) + 8 * (uintptr_t)i;
}

static uintptr_t site_of(uintptr_t lock)
{
    return (lock & ~FSAFE_STAGE_MASK) + 0x100000001;
}

static bool never_stale(uintptr_t lock, void *context)
{
    (void)lock, (void)context;
    return false;
}

static bool always_stale(uintptr_t lock, void *context)
{
    (void)lock, (void)context;
    return true;
}

/* The locks with an odd number are stale. `context` counts the questions. */
static bool odd_is_stale(uintptr_t lock, void *context)
{
    if (context != NULL)
        ++*(unsigned *)context;
    return (lock - lock_of(0)) / 8 % 2 == 1;
}

static void begin(void)
{
    fsafe_ledger_begin(&ledger, &first.records, FIRST);
}

static void push(uintptr_t lock, fsafe_ledger_is_stale *is_stale)
{
    if (!fsafe_ledger_push(&ledger, lock, site_of(lock)))
        ck_assert(fsafe_ledger_push_full(&ledger, lock, site_of(lock), is_stale, NULL));
}

/* The record of `lock` is there, at that stage, with the lock's own place. */
static void assert_recorded(uintptr_t lock)
{
    uintptr_t word, site;
    uint32_t index = fsafe_ledger_find(&ledger, lock);
    ck_assert_msg(index != 0, "no record of %" PRIxPTR, lock);
    ck_assert(fsafe_ledger_read(&ledger, index, &word, &site));
    ck_assert_uint_eq(word, lock);
    ck_assert_uint_eq(site, site_of(lock));
}

UNIT_TEST(ledger_lifo)
{
    begin();
    for (unsigned i = 0; i < 5; i++)
        ck_assert(fsafe_ledger_push(&ledger, lock_of(i), site_of(lock_of(i))));
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 5);
    for (unsigned i = 0; i < 5; i++)
        assert_recorded(lock_of(i));
    ck_assert(!fsafe_ledger_pop_latest(&ledger, lock_of(3))); /* not the latest */
    ck_assert(!fsafe_ledger_pop_latest(&ledger, lock_of(4) | FSAFE_HELD)); /* not at this stage */
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 5);
    for (unsigned i = 5; i-- > 0;) {
        ck_assert(fsafe_ledger_pop_latest(&ledger, lock_of(i)));
        ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(i)), 0);
        ck_assert_uint_eq(fsafe_ledger_depth(&ledger), i);
    }
    ck_assert(!fsafe_ledger_pop_latest(&ledger, lock_of(0))); /* nothing left */
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);
}

UNIT_TEST(ledger_fifo)
{
    begin();
    for (unsigned i = 0; i < 5; i++)
        push(lock_of(i), never_stale);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert(fsafe_ledger_drop(&ledger, lock_of(i)));
        ck_assert(!fsafe_ledger_drop(&ledger, lock_of(i)));
        ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 4 - i);
        for (unsigned k = i + 1; k < 5; k++)
            assert_recorded(lock_of(k));
    }
}

UNIT_TEST(ledger_any_order)
{
    bool held[10] = {false};
    unsigned depth = 0;
    begin();
    srand(1);
    for (int round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rand() % 10;
        if (held[i])
            ck_assert(fsafe_ledger_drop(&ledger, lock_of(i)));
        else
            push(lock_of(i), never_stale);
        depth += held[i] ? -1u : 1u;
        held[i] = !held[i];
        ck_assert_uint_eq(fsafe_ledger_depth(&ledger), depth);
        for (unsigned k = 0; k < 10; k++) {
            if (held[k])
                assert_recorded(lock_of(k));
            else
                ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(k)), 0);
        }
    }
}

UNIT_TEST(ledger_drops_at_any_stage)
{
    begin();
    push(lock_of(1) | FSAFE_HELD, never_stale);
    push(lock_of(2) | FSAFE_READING, never_stale);
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1)), 1);
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1) | FSAFE_READING), 1);
    assert_recorded(lock_of(1) | FSAFE_HELD);
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(1)));
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(2) | FSAFE_HELD));
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);
}

UNIT_TEST(ledger_finds_the_latest)
{
    begin();
    push(lock_of(1), never_stale);
    push(lock_of(2), never_stale);
    push(lock_of(1) | FSAFE_HELD, never_stale);
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1)), 3);
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(1)));
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1)), 1);

    /* Wherever a search would rather begin. */
    begin();
    for (unsigned i = 0; i < 5; i++)
        push(lock_of(i == 3 ? 1 : i), never_stale);
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(0)));
    push(lock_of(5), never_stale);
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1)), 4);
}

UNIT_TEST(ledger_grows_to_10000)
{
    enum { MANY = 10000 };
    begin();
    for (unsigned i = 0; i < MANY; i++)
        push(lock_of(i), never_stale);
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), MANY);
    ck_assert_uint_le(ledger.room, 4 * MANY);
    for (unsigned i = 0; i < MANY; i++) {
        uintptr_t word, site;
        ck_assert(fsafe_ledger_read(&ledger, i + 1, &word, &site));
        ck_assert_uint_eq(word, lock_of(i));
        ck_assert_uint_eq(site, site_of(word));
    }
    uint32_t room = ledger.room;
    for (unsigned i = 0; i < MANY; i += 2) /* from both ends */
        ck_assert(fsafe_ledger_drop(&ledger, lock_of(i)));
    for (unsigned i = MANY - 1; i < MANY; i -= 2)
        ck_assert(fsafe_ledger_drop(&ledger, lock_of(i)));
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);

    begin(); /* for another thread: the grown array is kept */
    ck_assert_uint_eq(ledger.room, room);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert(fsafe_ledger_push(&ledger, lock_of(i), 0));
}

/*
 * Deep, where records are found by an index: taken, released as the latest and in any order, so that records take the
 * places of others. None is lost.
 */
UNIT_TEST(ledger_any_order_when_deep)
{
    enum { MANY = 4000 };
    static unsigned held[MANY], free_ones[MANY];
    unsigned depth = 0, left = MANY;
    begin();
    for (unsigned i = 0; i < MANY; i++)
        free_ones[i] = i;
    srand(1);
    for (int round = 0; round < 200000; round++) {
        bool takes = left > 0 && (depth == 0 || rand() % (round / 5000 % 2 == 0 ? 3 : 5) > 1);
        unsigned at = takes ? (unsigned)rand() % left : rand() % 3 == 0 ? depth - 1 : (unsigned)rand() % depth;
        unsigned *from = takes ? free_ones : held, *to = takes ? held : free_ones;
        unsigned *less = takes ? &left : &depth, *more = takes ? &depth : &left;
        unsigned lock = from[at];
        if (takes)
            push(lock_of(lock), never_stale);
        else
            ck_assert(fsafe_ledger_drop(&ledger, lock_of(lock)));
        from[at] = from[--*less];
        to[(*more)++] = lock;
        ck_assert_uint_eq(fsafe_ledger_depth(&ledger), depth);
        if (!takes && round % 64 == 0) /* it looks through all of them for one that is not there */
            ck_assert(!fsafe_ledger_drop(&ledger, lock_of(lock)));
    }
    for (unsigned i = 0; i < depth; i++)
        assert_recorded(lock_of(held[i]));
}

UNIT_TEST(ledger_begin_empties)
{
    uintptr_t word, site;
    begin();
    for (unsigned i = 0; i < ROOM; i++)
        push(lock_of(i), never_stale);
    begin();
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);
    for (unsigned i = 0; i < FIRST; i++) {
        ck_assert(!fsafe_ledger_read(&ledger, i, &word, &site));
        ck_assert_uint_eq(first.records.record[i].lock, 0);
    }
}

UNIT_TEST(ledger_drops_repeated_records)
{
    begin();
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < 3; i++)
            push(lock_of(i), never_stale);
        ck_assert_uint_eq(ledger.room, ROOM);
        ck_assert_uint_lt(fsafe_ledger_depth(&ledger), FIRST);
    }
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, never_stale, NULL), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_recorded(lock_of(i));
}

UNIT_TEST(ledger_keeps_the_latest_of_repeated_records)
{
    uintptr_t word, site;
    begin();
    fsafe_ledger_push(&ledger, lock_of(1), 1);
    fsafe_ledger_push(&ledger, lock_of(2), 2);
    fsafe_ledger_push(&ledger, lock_of(1) | FSAFE_HELD, 3);
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, never_stale, NULL), 2);
    ck_assert(fsafe_ledger_read(&ledger, 1, &word, &site));
    ck_assert(word == lock_of(2) && site == 2);
    ck_assert(fsafe_ledger_read(&ledger, 2, &word, &site));
    ck_assert(word == (lock_of(1) | FSAFE_HELD) && site == 3);
    ck_assert(!fsafe_ledger_read(&ledger, 3, &word, &site));
}

UNIT_TEST(ledger_drops_stale_records)
{
    unsigned asked = 0;
    uintptr_t word, site;
    begin();
    for (unsigned i = 0; i < ROOM; i++)
        ck_assert(fsafe_ledger_push(&ledger, lock_of(i), site_of(lock_of(i))));
    ck_assert(!fsafe_ledger_push(&ledger, lock_of(100), 0));
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), ROOM);
    ck_assert(fsafe_ledger_push_full(&ledger, lock_of(100), site_of(lock_of(100)), odd_is_stale, &asked));
    ck_assert_uint_eq(asked, ROOM);
    uint32_t index = 1;
    for (unsigned i = 0; i < ROOM; i += 2, index++) {
        ck_assert(fsafe_ledger_read(&ledger, index, &word, &site)); /* in the old order */
        ck_assert_uint_eq(word, lock_of(i));
        ck_assert_uint_eq(site, site_of(word));
    }
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(100)), index);
    assert_recorded(lock_of(100));
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), index);
}

UNIT_TEST(ledger_tidies)
{
    begin();
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, never_stale, NULL), 0);
    for (unsigned i = 0; i < 6; i++)
        push(lock_of(i), never_stale);
    fsafe_ledger_clear(&ledger, 1, lock_of(0));
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, odd_is_stale, NULL), 2);
    assert_recorded(lock_of(2));
    assert_recorded(lock_of(4));
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, always_stale, NULL), 0);
    ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);
}

/*
 * Room is made with all signals blocked but SIGSYS: a handler that locks must not find it half made. (All that can be:
 * qemu-user keeps some for itself.)
 */
static bool signals_were_blocked;
static uint64_t blockable;

static bool look_at_mask(uintptr_t lock, void *context)
{
    uint64_t mask = 0, never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 1ull << (SIGSYS - 1);
    (void)lock, (void)context;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
    signals_were_blocked = (mask | never) == (blockable | never);
    return true;
}

UNIT_TEST(ledger_makes_room_with_signals_blocked)
{
    uint64_t before = 0, after = 0;
    begin();
    for (unsigned i = 0; i < ROOM; i++)
        push(lock_of(i), never_stale);
    const uint64_t all = UINT64_MAX;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof before);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, &blockable, sizeof before);
    ck_assert(fsafe_ledger_push_full(&ledger, lock_of(100), 0, look_at_mask, NULL));
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &after, sizeof after);
    ck_assert(signals_were_blocked);
    ck_assert_uint_eq(after, before);
}

/*
 * A thread takes, another one releases: the record stays behind. First the same lock again and again, then always
 * another one, whose bytes say that it is not held any more.
 */
UNIT_LOOP(ledger_stays_small_over_a_million_hand_offs, 0, 2)
{
    begin();
    for (unsigned i = 0; i < 1000000; i++)
        push(lock_of(_i == 0 ? i % 4 : i), _i == 0 ? never_stale : always_stale);
    ck_assert_uint_eq(ledger.room, ROOM);
    ck_assert_ptr_eq(ledger.records, (void *)&first.records);
    ck_assert_uint_lt(fsafe_ledger_depth(&ledger), FIRST);
}

/* While it holds some locks all the time, too. */
UNIT_TEST(ledger_stays_small_around_what_is_held)
{
    begin();
    for (unsigned i = 0; i < 10; i += 2)
        push(lock_of(i), odd_is_stale);
    for (unsigned i = 11; i < 500000; i += 2) {
        push(lock_of(i), odd_is_stale);
        if (i % 7 == 0)
            ck_assert(fsafe_ledger_drop(&ledger, lock_of(i)));
    }
    for (unsigned i = 0; i < 10; i += 2)
        assert_recorded(lock_of(i));
    ck_assert_uint_eq(ledger.room, ROOM);
}

UNIT_TEST(ledger_reads_nothing_past_its_end)
{
    uintptr_t word = 1, site = 1;
    static struct fsafe_ledger unused;
    ck_assert(!fsafe_ledger_read(&unused, 0, &word, &site));
    ck_assert(!fsafe_ledger_read(&unused, 1, &word, &site));
    fsafe_ledger_clear(&unused, 1, lock_of(0)); /* does nothing */
    begin();
    push(lock_of(1), never_stale);
    push(lock_of(2), never_stale);
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(2)));
    ck_assert(!fsafe_ledger_read(&ledger, 0, &word, &site));
    ck_assert(fsafe_ledger_read(&ledger, 1, &word, &site));
    ck_assert(!fsafe_ledger_read(&ledger, 2, &word, &site));
    ck_assert(!fsafe_ledger_read(&ledger, FIRST, &word, &site));
    ck_assert(!fsafe_ledger_read(&ledger, UINT32_MAX, &word, &site));
    fsafe_ledger_clear(&ledger, UINT32_MAX, lock_of(1));

    /* A depth that another thread saw, with the array of before. */
    atomic_store(&ledger.depth, 1000000);
    ck_assert(!fsafe_ledger_read(&ledger, FIRST, &word, &site));
    ck_assert(!fsafe_ledger_read(&ledger, 2, &word, &site)); /* reserved, empty */
    ck_assert(!fsafe_ledger_read(&ledger, 999999, &word, &site));
}

/* Beyond the latest record lies what was: it says nothing. */
UNIT_TEST(ledger_reads_nothing_past_its_depth)
{
    uintptr_t word, site;
    begin();
    push(lock_of(1), never_stale);
    push(lock_of(2), never_stale);
    atomic_store(&ledger.depth, 1);
    ck_assert(fsafe_ledger_read(&ledger, 1, &word, &site));
    ck_assert(!fsafe_ledger_read(&ledger, 2, &word, &site));
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(2)), 0);
}

static bool is_outlasted(uint32_t index)
{
    return fsafe_ledger_is_outlasted(&first.records.record[index], first.records.record[index].lock);
}

/* A thread between the two halves of a push is on its way in; after a longjmp out of the push it stays there. */
UNIT_TEST(ledger_marks_a_reserved_record_until_it_is_filled_in)
{
    begin();
    push(lock_of(1), never_stale);
    atomic_store(&ledger.depth, 2);
    ck_assert(!is_outlasted(2));
    fsafe_ledger_mark_outlasted(&ledger);
    ck_assert(is_outlasted(1) && is_outlasted(2));
    assert_recorded(lock_of(1)); /* the mark is no part of what it says */
    fsafe_ledger_fill(&ledger, 2, lock_of(2), site_of(lock_of(2)));
    ck_assert(!is_outlasted(2));
}

UNIT_TEST(ledger_marks_go_with_the_record_and_end_with_it)
{
    begin();
    push(lock_of(1), never_stale);
    push(lock_of(2), never_stale);
    fsafe_ledger_mark_outlasted(&ledger);
    push(lock_of(3), never_stale);
    ck_assert(is_outlasted(1) && is_outlasted(2) && !is_outlasted(3));
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(1)));
    ck_assert(!is_outlasted(1) && is_outlasted(2)); /* the latest has moved there */
    ck_assert(fsafe_ledger_drop(&ledger, lock_of(2)));
    push(lock_of(2), never_stale);
    ck_assert(!is_outlasted(2));
    fsafe_ledger_clear(&ledger, 2, lock_of(2));
    ck_assert(is_outlasted(2));
    assert_recorded(lock_of(3));
}

UNIT_TEST(ledger_is_cleared_by_another_thread)
{
    uintptr_t word, site;
    begin();
    for (unsigned i = 0; i < 4; i++)
        push(lock_of(i) | FSAFE_HELD, never_stale);
    fsafe_ledger_clear(&ledger, 2, lock_of(1));                 /* another stage */
    fsafe_ledger_clear(&ledger, 2, lock_of(2) | FSAFE_HELD);    /* another lock */
    assert_recorded(lock_of(1) | FSAFE_HELD);
    fsafe_ledger_clear(&ledger, 2, lock_of(1) | FSAFE_HELD);
    fsafe_ledger_clear(&ledger, 4, lock_of(3) | FSAFE_HELD);
    ck_assert(!fsafe_ledger_read(&ledger, 2, &word, &site));
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(1)), 0);
    ck_assert(!fsafe_ledger_drop(&ledger, lock_of(1)));
    ck_assert(!fsafe_ledger_drop(&ledger, lock_of(3)));
    assert_recorded(lock_of(0) | FSAFE_HELD);
    assert_recorded(lock_of(2) | FSAFE_HELD);

    /* Its owner finds the empty slots when it makes room. */
    for (unsigned i = 4; i < ROOM; i++)
        ck_assert(fsafe_ledger_push(&ledger, lock_of(i), site_of(lock_of(i))));
    ck_assert(!fsafe_ledger_push(&ledger, lock_of(100), 0));
    /* An emptied record could be one that is reserved: the spare ones are used up first. */
    for (unsigned i = 0; i < FSAFE_LEDGER_SPARE; i++)
        push(lock_of(100 + i), never_stale);
    ck_assert_uint_eq(fsafe_ledger_find(&ledger, 0), 0);
    assert_recorded(lock_of(0) | FSAFE_HELD);
    assert_recorded(lock_of(2) | FSAFE_HELD);
    assert_recorded(lock_of(100));
}

static _Atomic bool may_end;

/*
 * A push reserves its slot before it looks whether there is room: for a moment the depth of a full ledger is one too
 * many. A fork may freeze it so, a handler may come in between.
 */
UNIT_LOOP(ledger_bears_a_push_cut_short_when_full, 0, 4)
{
    begin();
    for (unsigned i = 0; i < ROOM; i++)
        push(lock_of(i), never_stale);
    memset(first.behind, 0x5a, sizeof first.behind);
    atomic_store(&ledger.depth, ROOM + 1);
    switch (_i) {
    case 0: /* the slot is used again */
        begin();
        ck_assert_uint_eq(fsafe_ledger_depth(&ledger), 0);
        break;
    case 1: /* a handler takes a lock */
        push(lock_of(100), odd_is_stale);
        assert_recorded(lock_of(100));
        assert_recorded(lock_of(0));
        break;
    case 2: /* a handler releases one */
        ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(3)), 4);
        ck_assert(fsafe_ledger_drop(&ledger, lock_of(3)));
        ck_assert_uint_eq(fsafe_ledger_find(&ledger, lock_of(3)), 0);
        break;
    case 3: /* the thread ends in it */
        ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, odd_is_stale, NULL), (ROOM + 1) / 2);
        break;
    }
    for (unsigned i = 0; i < sizeof first.behind / sizeof *first.behind; i++)
        ck_assert_msg(first.behind[i] == UINTPTR_MAX / 0xff * 0x5a, "written behind the array");
}

/* Somebody who releases what the owner of the ledger took, all the time. */
static void *clear_all(void *argument)
{
    uintptr_t word, site;
    while (!may_end)
        for (uint32_t i = 1; i < 40; i++)
            if (fsafe_ledger_read(&ledger, i, &word, &site) && (word & FSAFE_STAGE_MASK) == FSAFE_HELD)
                fsafe_ledger_clear(&ledger, i, word);
    return argument;
}

UNIT_TEST(ledger_is_cleared_while_it_is_written)
{
    pthread_t thread;
    begin();
    unit_start_thread(&thread, clear_all, NULL);
    for (unsigned i = 0; i < 100000; i++) {
        push(lock_of(0), never_stale); /* nobody else's */
        push(lock_of(1 + i % 5) | FSAFE_HELD, never_stale);
        push(lock_of(10 + i % 5) | FSAFE_HELD, never_stale);
        assert_recorded(lock_of(0));
        fsafe_ledger_drop(&ledger, lock_of(1 + i % 5) | FSAFE_HELD);
        ck_assert(fsafe_ledger_drop(&ledger, lock_of(0)));
        if (i % 3 == 0)
            fsafe_ledger_drop(&ledger, lock_of(10 + i % 5) | FSAFE_HELD);
    }
    may_end = true;
    pthread_join(thread, NULL);
    ck_assert_uint_lt(ledger.room, 64); /* emptied records cost room for a while, and no more */
    ck_assert_uint_eq(fsafe_ledger_tidy(&ledger, always_stale, NULL), 0);
}

/* --- ledger: between any two instructions ------------------------------------------------------------ */

/*
 * A child takes and releases locks, stepped by ptrace one machine instruction at a time. After instruction 1, then 2
 * and so on a signal comes. Its handler sees what a fork there would leave (on a machine that keeps the order of
 * stores), then locks itself, as any handler may.
 */
enum { SURE = 8 };

/* Between the stepped child and its parent. */
static struct {
    uintptr_t sure[SURE]; /* records that must be there now; 0: none */
    _Atomic bool stepping;
    _Atomic bool handled;
    char wrong[128];
} *volatile shared;

static void look_at_snapshot(void)
{
    bool seen[SURE] = {false};
    uintptr_t word, site;
    for (uint32_t i = fsafe_ledger_depth(&ledger); i > 0; i--) {
        if (!fsafe_ledger_read(&ledger, i, &word, &site))
            continue;
        if (site != site_of(word))
            strcpy(shared->wrong, "a record names another lock's place");
        for (unsigned k = 0; k < SURE; k++)
            seen[k] |= (word & ~FSAFE_STAGE_MASK) == shared->sure[k];
    }
    for (unsigned k = 0; k < SURE; k++)
        if (shared->sure[k] != 0 && !seen[k])
            strcpy(shared->wrong, "the record of a held lock is missing");
}

static void take_lock(uintptr_t lock)
{
    if (!fsafe_ledger_push(&ledger, lock, site_of(lock)))
        fsafe_ledger_push_full(&ledger, lock, site_of(lock), never_stale, NULL);
}

static void handle(int number)
{
    (void)number;
    look_at_snapshot();
    for (unsigned i = 0; i < 4; i++)
        take_lock(lock_of(200 + i));
    look_at_snapshot();
    for (unsigned i = 0; i < 4; i++) /* in the order they were taken */
        if (!fsafe_ledger_drop(&ledger, lock_of(200 + i)))
            strcpy(shared->wrong, "a record of the handler's is missing");
    look_at_snapshot();
    shared->handled = true;
}

static void take(unsigned i)
{
    take_lock(lock_of(i));
    shared->sure[i] = lock_of(i);
}

static void release(unsigned i)
{
    shared->sure[i] = 0;
    if (!fsafe_ledger_drop(&ledger, lock_of(i)))
        strcpy(shared->wrong, "the record of a held lock is gone");
}

/* Released: one in the middle, the latest, the first. No more than that: each instruction is a run of its own. */
static void use_locks(void)
{
    take(0);
    take(1);
    take(2);
    release(1);
    release(2);
    take(3);
    release(0);
    release(3);
}

/*
 * How full the ledger is, and how many of those records another thread has emptied: when the handler makes room, the
 * others move. For the locks above there is room.
 */
static const struct {
    unsigned filled, emptied;
} fillings[] = {{0, 0}, {ROOM - 3, 0}, {ROOM - 3, 2}, {ROOM - 4, 4}};
enum { FILLINGS = sizeof fillings / sizeof *fillings };

enum { UNTRACED = 77 }; /* nobody can step here: qemu-user lets no process trace another */

static void run_stepped(unsigned filled, unsigned emptied)
{
    begin();
    for (unsigned i = 0; i < filled; i++)
        push(lock_of(100 + i), never_stale);
    memset(first.behind, 0x5a, sizeof first.behind);
    for (unsigned i = 0; i < emptied; i++)
        fsafe_ledger_clear(&ledger, i + 1, lock_of(100 + i));
    signal(SIGUSR1, handle);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(UNTRACED);
    raise(SIGSTOP);
    shared->stepping = true;
    use_locks();
    shared->stepping = false;
    for (unsigned i = emptied; i < filled; i++)
        if (fsafe_ledger_find(&ledger, lock_of(100 + i)) == 0)
            strcpy(shared->wrong, "a record that was there before is gone");
    /* One too many may be left: a stale record costs its slot until the next time that room is made. */
    for (unsigned i = 0; i < sizeof first.behind / sizeof *first.behind; i++)
        if (first.behind[i] != UINTPTR_MAX / 0xff * 0x5a)
            strcpy(shared->wrong, "something was written behind the array");
    _exit(0);
}

/* Steps the child `steps` instructions far into its work; false when it is over before. */
static bool step(pid_t pid, unsigned steps)
{
    int status;
    for (unsigned done = 0; done < steps;) {
        ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "status %x", (unsigned)status);
        if (shared->stepping)
            done++;
        else if (done > 0)
            return false;
    }
    return true;
}

/* Lets it run to its end, with the signals it gets. */
static void let_go(pid_t pid)
{
    int status, number = 0;
    for (;;) {
        ck_assert_int_eq(ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)number), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            break;
        number = WSTOPSIG(status);
    }
    ck_assert_int_eq(status, 0);
}

/* The time grows with the square of the instructions, of which AddressSanitizer makes several for each. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 41 };
#else
enum { STRIDE = 1 };
#endif

UNIT_LOOP(ledger_bears_a_signal_between_any_two_instructions, 0, FILLINGS)
{
    bool more = true;
    shared = mmap(NULL, unit_page(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    for (unsigned steps = 1; more; steps += STRIDE) {
        int status;
        memset(shared, 0, sizeof *shared);
        pid_t pid = fork();
        if (pid == 0)
            run_stepped(fillings[_i].filled, fillings[_i].emptied);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == UNTRACED)
            return;
        ck_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
        more = step(pid, steps);
        if (more)
            kill(pid, SIGUSR1);
        let_go(pid);
        ck_assert_msg(shared->wrong[0] == '\0', "signal after instruction %u: %s", steps, shared->wrong);
        ck_assert_int_eq(shared->handled, more);
        ck_assert(more || steps > 50);
    }
}

/* --- thread ----------------------------------------------------------------------------------------- */

static int pretended_owner; /* what libc calls this thread; 0: its id */

static int probe_owner(void)
{
    return pretended_owner != 0 ? pretended_owner : fsafe_sys_gettid();
}

static _Atomic unsigned left;

static bool leave_with_locks(struct fsafe_thread *self)
{
    atomic_fetch_add(&left, 1);
    return fsafe_ledger_depth(fsafe_thread_locks(self)) > 0;
}

static void clear_nothing(struct fsafe_thread *vanished)
{
    (void)vanished;
}

static void start_registry(void)
{
    static const struct fsafe_thread_calls calls = {
        .probe_owner = probe_owner, .leave = leave_with_locks, .is_stale = never_stale,
        .clear_stale = clear_nothing};
    fsafe_lineage_start(getpid());
    ck_assert(fsafe_thread_start(&calls));
}

/* Slots in use. */
static uint32_t count_slots(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < fsafe_thread_slots(); i++)
        count += fsafe_thread_generation(fsafe_thread_slot(i)) != 0;
    return count;
}

static bool has_slot(const struct fsafe_thread *thread)
{
    for (uint32_t i = 0; i < fsafe_thread_slots(); i++)
        if (fsafe_thread_slot(i) == thread)
            return true;
    return false;
}

UNIT_TEST(thread_joins_once)
{
    ck_assert_ptr_null(fsafe_thread_join()); /* the registry has not started */
    start_registry();
    ck_assert_int_eq(prctl(PR_SET_NAME, "fifteen-letters"), 0);
    pretended_owner = 4711;
    errno = 77;
    struct fsafe_thread *self = fsafe_thread_join();
    ck_assert_int_eq(errno, 77);
    ck_assert_ptr_nonnull(self);
    ck_assert_ptr_eq(fsafe_self, self);
    ck_assert_ptr_eq(fsafe_thread_join(), self);
    ck_assert(has_slot(self));
    ck_assert_uint_eq(count_slots(), 1);
    ck_assert_uint_eq(fsafe_thread_generation(self), fsafe_lineage_generation());
    ck_assert_int_eq(self->owner, 4711);
    ck_assert_int_eq(self->tid, fsafe_sys_gettid());
    ck_assert_int_eq(self->pid, getpid());
    ck_assert_str_eq(self->name, "fifteen-letters");
    for (unsigned i = 0; i < FSAFE_LEDGERS; i++) {
        ck_assert_uint_eq(fsafe_ledger_depth(&self->ledgers[i]), 0);
        ck_assert(fsafe_ledger_push(&self->ledgers[i], lock_of(i), 0)); /* room in each */
    }
    for (unsigned i = 0; i < FSAFE_LEDGERS; i++)
        ck_assert_uint_eq(fsafe_ledger_find(&self->ledgers[i], lock_of(i)), 1);
}

static void *join_and_leave(void *slot)
{
    struct fsafe_thread *self = fsafe_thread_join();
    ck_assert_ptr_nonnull(self);
    ck_assert(fsafe_ledger_push(fsafe_thread_locks(self), lock_of(0), 1));
    ck_assert(fsafe_ledger_push(fsafe_thread_waits(self), lock_of(1), 1));
    ck_assert(fsafe_ledger_drop(fsafe_thread_locks(self), lock_of(0)));
    if (slot != NULL)
        *(struct fsafe_thread **)slot = self;
    return NULL;
}

UNIT_TEST(thread_leaves_a_free_slot)
{
    struct fsafe_thread *slot = NULL;
    start_registry();
    fsafe_thread_join();
    unit_run_thread(join_and_leave, &slot);
    ck_assert_uint_eq(left, 1);
    ck_assert_uint_eq(fsafe_thread_generation(slot), 0);
    for (unsigned i = 0; i < FSAFE_LEDGERS; i++)
        ck_assert_uint_eq(fsafe_ledger_depth(&slot->ledgers[i]), 0);
    ck_assert_uint_eq(count_slots(), 1);
}

UNIT_TEST(thread_tickets_are_not_used_again)
{
    enum { THREADS = 200 };
    static uint32_t tickets[THREADS];
    start_registry();
    struct fsafe_thread *self = fsafe_thread_join();
    ck_assert_uint_ne(self->ticket, 0);
    ck_assert_ptr_eq(fsafe_thread_of_ticket(self->ticket), self);
    ck_assert_ptr_null(fsafe_thread_of_ticket(0));
    ck_assert_ptr_null(fsafe_thread_of_ticket(UINT32_MAX));
    for (int i = 0; i < THREADS; i++) {
        struct fsafe_thread *slot = NULL;
        unit_run_thread(join_and_leave, &slot);
        tickets[i] = slot->ticket;
        ck_assert_ptr_null(fsafe_thread_of_ticket(tickets[i])); /* it has ended */
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(tickets[i], tickets[k]);
    }
    ck_assert_uint_le(fsafe_thread_slots(), 17);
}

/* The slot of a vanished thread stays while it has tokens, or was just taking or posting one. */
UNIT_LOOP(thread_with_tokens_keeps_its_slot, 0, 3)
{
    start_registry();
    struct fsafe_thread *self = fsafe_thread_join();
    struct fsafe_thread *vanished = NULL;
    unit_run_thread(join_and_leave, &vanished);
    vanished->generation = fsafe_lineage_generation();
    if (_i == 0)
        vanished->tokens.proven = 1;
    else if (_i == 1)
        vanished->tokens.first = 1;
    else
        vanished->tokens.at = lock_of(1);
    uint32_t ticket = vanished->ticket;
    fsafe_thread_adopt(self, false);
    for (int i = 0; i < 40; i++)
        unit_run_thread(join_and_leave, NULL);
    ck_assert_ptr_eq(fsafe_thread_of_ticket(ticket), vanished);
    vanished->tokens.proven_gone = vanished->tokens.proven;
    vanished->tokens.first_gone = vanished->tokens.first;
    vanished->tokens.at = 0;
    for (int i = 0; i < 40; i++)
        unit_run_thread(join_and_leave, NULL);
    ck_assert_ptr_null(fsafe_thread_of_ticket(ticket));
}

/* How a thread may end. */
static void *end_by_exit(void *slot)
{
    join_and_leave(slot);
    pthread_exit(NULL);
}

static void *end_by_cancellation(void *slot)
{
    join_and_leave(slot);
    pthread_cancel(pthread_self());
    pthread_testcancel();
    return NULL;
}

UNIT_TEST(thread_leaves_however_it_ends)
{
    struct fsafe_thread *slot = NULL;
    start_registry();
    unit_run_thread(end_by_exit, &slot);
    ck_assert_uint_eq(fsafe_thread_generation(slot), 0);
    unit_run_thread(end_by_cancellation, &slot);
    ck_assert_uint_eq(fsafe_thread_generation(slot), 0);
    ck_assert_uint_eq(left, 2);
}

UNIT_TEST(thread_slots_are_used_again)
{
    start_registry();
    fsafe_thread_join();
    for (int i = 0; i < 20000; i++)
        unit_run_thread(join_and_leave, NULL);
    ck_assert_uint_eq(left, 20000);
    ck_assert_uint_le(fsafe_thread_slots(), 17);
    ck_assert_uint_eq(count_slots(), 1);
}

static void *end_by_system_call(void *tid)
{
    ck_assert_ptr_nonnull(fsafe_thread_join());
    atomic_store((atomic_int *)tid, (int)fsafe_sys_gettid());
    syscall(SYS_exit, 0); /* no destructor runs */
    return NULL;
}

#ifndef __SANITIZE_ADDRESS__ /* which does not bear threads that end by a system call */
UNIT_TEST(thread_slots_are_swept)
{
    start_registry();
    fsafe_thread_join();
    for (int i = 0; i < 2000; i++) {
        atomic_int tid = 0;
        pthread_t thread;
        unit_start_thread(&thread, end_by_system_call, &tid);
        while (atomic_load(&tid) == 0 || fsafe_sys_thread_alive(getpid(), atomic_load(&tid)))
            sched_yield();
#ifdef __GLIBC__ /* musl never sees that such a thread has ended */
        pthread_join(thread, NULL);
#endif
    }
    ck_assert_uint_eq(left, 0);
    ck_assert_uint_le(fsafe_thread_slots(), 17);
}
#endif

static pthread_barrier_t meeting;

static void *join_with_all(void *slot)
{
    pthread_barrier_wait(&meeting);
    *(struct fsafe_thread **)slot = fsafe_thread_join();
    pthread_barrier_wait(&meeting);
    return NULL;
}

UNIT_TEST(thread_slots_are_different)
{
    enum { MANY = 200 };
    struct fsafe_thread *slots[MANY];
    pthread_t threads[MANY];
    start_registry();
    pthread_barrier_init(&meeting, NULL, MANY);
    for (int i = 0; i < MANY; i++)
        unit_start_thread(&threads[i], join_with_all, &slots[i]);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < MANY; i++) {
        ck_assert_ptr_nonnull(slots[i]);
        ck_assert(has_slot(slots[i]));
        for (int k = 0; k < i; k++)
            ck_assert_ptr_ne(slots[i], slots[k]);
    }
    ck_assert_uint_ge(fsafe_thread_slots(), MANY);
    ck_assert_uint_le(fsafe_thread_slots(), 4 * MANY);
    ck_assert_uint_eq(count_slots(), 0);
    for (uint32_t i = 0; i < fsafe_thread_slots(); i++)
        for (uint32_t k = 0; k < i; k++)
            ck_assert_ptr_ne(fsafe_thread_slot(i), fsafe_thread_slot(k));
}

/* All find the slabs full together: one adds to them, and not each of those that were stopped on the way there. */
UNIT_TEST(thread_slots_are_added_by_one)
{
    enum { MANY = 4000 };
    static struct fsafe_thread *slots[MANY];
    static pthread_t threads[MANY];
    start_registry();
    pthread_barrier_init(&meeting, NULL, MANY);
    for (int i = 0; i < MANY; i++)
        unit_start_thread(&threads[i], join_with_all, &slots[i]);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_ge(fsafe_thread_slots(), MANY);
    ck_assert_uint_le(fsafe_thread_slots(), 4 * MANY);
}

static void *end_with_a_lock(void *slot)
{
    struct fsafe_thread *self = fsafe_thread_join();
    ck_assert(fsafe_ledger_push(fsafe_thread_locks(self), lock_of(7), 1));
    *(struct fsafe_thread **)slot = self;
    return NULL;
}

UNIT_TEST(thread_that_ends_with_a_lock_keeps_its_slot)
{
    struct fsafe_thread *slot = NULL;
    start_registry();
    unit_run_thread(end_with_a_lock, &slot);
    ck_assert_uint_eq(fsafe_thread_generation(slot), fsafe_lineage_generation());
    ck_assert(slot->ended);
    ck_assert_uint_eq(fsafe_ledger_find(fsafe_thread_locks(slot), lock_of(7)), 1);
    for (int i = 0; i < 100; i++)
        unit_run_thread(join_and_leave, NULL);
    ck_assert_uint_eq(fsafe_ledger_find(fsafe_thread_locks(slot), lock_of(7)), 1);

    /* But not for ever, if a program does so all day. */
    for (int i = 0; i < 3000; i++)
        unit_run_thread(end_with_a_lock, &slot);
    ck_assert_uint_le(fsafe_thread_slots(), 17 + 32 + 64 + 128 + 256);
}

static pthread_key_t late_key;
static struct fsafe_thread *joined_in_round[PTHREAD_DESTRUCTOR_ITERATIONS + 1];
static unsigned rounds;

static void use_locks_late(void *argument)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL) {
        fsafe_ledger_push(fsafe_thread_locks(self), lock_of(3), 1);
        fsafe_ledger_drop(fsafe_thread_locks(self), lock_of(3));
    }
    joined_in_round[rounds++] = self;
    pthread_setspecific(late_key, argument);
}

static void *end_slowly(void *argument)
{
    struct fsafe_thread *self = fsafe_thread_join();
    pthread_setspecific(late_key, argument);
    *(struct fsafe_thread **)argument = self;
    return NULL;
}

/* Destructors of the program lock, too. Its last ones may come after ours, and must not begin a slot anew. */
UNIT_TEST(thread_is_recorded_until_its_last_destructors)
{
    struct fsafe_thread *slot = NULL;
    start_registry();
    ck_assert_int_eq(pthread_key_create(&late_key, use_locks_late), 0);
    unit_run_thread(end_slowly, &slot);
    ck_assert_uint_eq(rounds, PTHREAD_DESTRUCTOR_ITERATIONS);
    for (unsigned i = 0; i + 1 < rounds; i++)
        ck_assert_ptr_eq(joined_in_round[i], slot);
    ck_assert_ptr_null(joined_in_round[rounds - 1]);
    ck_assert_uint_eq(left, 1);
    ck_assert_uint_eq(count_slots(), 0);
}

/* --- thread: adoption -------------------------------------------------------------------------------- */

static void *live_with_a_lock(void *slot)
{
    struct fsafe_thread *self = fsafe_thread_join();
    fsafe_ledger_push(fsafe_thread_locks(self), lock_of(5), 1);
    __atomic_store_n((struct fsafe_thread **)slot, self, __ATOMIC_RELEASE);
    while (!may_end)
        usleep(1000);
    fsafe_ledger_drop(fsafe_thread_locks(self), lock_of(5));
    return NULL;
}

static void *live_idle(void *slot)
{
    __atomic_store_n((struct fsafe_thread **)slot, fsafe_thread_join(), __ATOMIC_RELEASE);
    while (!may_end)
        usleep(1000);
    return NULL;
}

/* What a test shares with its child. */
struct family {
    struct fsafe_thread *self, *holder, *idle;
    pid_t parent;
};

static void *join_next_to_vanished(void *argument)
{
    struct family *family = argument;
    ck_assert_ptr_ne(fsafe_thread_join(), family->holder);
    return NULL;
}

static void adopt_as_child(void *argument)
{
    struct family *family = argument;
    int before = family->self->owner;
    ck_assert_ptr_eq(fsafe_self, family->self);
    fsafe_thread_adopt(fsafe_self, false);
    ck_assert_uint_eq(fsafe_lineage_generation(), 2);
    ck_assert(fsafe_lineage_is_child());
    ck_assert_uint_eq(fsafe_thread_generation(family->self), 2);
    ck_assert_uint_eq(fsafe_thread_generation(family->holder), 1);
    ck_assert_int_eq(family->self->owner, fsafe_sys_gettid());
    ck_assert_int_eq(family->self->tid, fsafe_sys_gettid());
    ck_assert_int_eq(family->self->pid, getpid());
    ck_assert(fsafe_thread_was(family->self, before));
    ck_assert(!fsafe_thread_was(family->self, fsafe_sys_gettid()));
    ck_assert(!fsafe_thread_was(family->self, 0));
    ck_assert_uint_eq(fsafe_ledger_find(fsafe_thread_locks(family->self), lock_of(9)), 1);

    /* The holder's slot is evidence; the idle one's is anybody's. */
    uint32_t slots = fsafe_thread_slots();
    for (int i = 0; i < 200; i++)
        unit_run_thread(join_next_to_vanished, family);
    ck_assert_uint_eq(fsafe_thread_slots(), slots);
    ck_assert_uint_eq(fsafe_thread_generation(family->holder), 1);
    ck_assert_uint_eq(fsafe_ledger_find(fsafe_thread_locks(family->holder), lock_of(5)), 1);
    ck_assert_uint_ne(fsafe_thread_generation(family->idle), 1);
}

UNIT_TEST(thread_adopts_a_new_generation)
{
    struct family family = {.parent = getpid()};
    pthread_t holder, idle;
    start_registry();
    ck_assert_uint_eq(fsafe_lineage_generation(), 1);
    ck_assert(!fsafe_lineage_is_child());
    family.self = fsafe_thread_join();
    fsafe_ledger_push(fsafe_thread_locks(family.self), lock_of(9), 1);
    unit_start_thread(&holder, live_with_a_lock, &family.holder);
    unit_start_thread(&idle, live_idle, &family.idle);
    UNIT_EVENTUALLY(__atomic_load_n(&family.holder, __ATOMIC_ACQUIRE) != NULL);
    UNIT_EVENTUALLY(__atomic_load_n(&family.idle, __ATOMIC_ACQUIRE) != NULL);
    unit_in_child(adopt_as_child, &family);
    ck_assert_uint_eq(fsafe_thread_generation(family.self), 1);
    may_end = true;
    pthread_join(holder, NULL);
    pthread_join(idle, NULL);
}

/* A signal handler forks in the middle of pthread_create, and its child goes on with that call. */
static void end_creation_in_child(void *begun_in)
{
    fsafe_thread_adopt(fsafe_self, false);
    fsafe_handle_end_creation(*(const uint32_t *)begun_in, NULL);
    ck_assert_uint_eq(fsafe_handle_creations, 0);
}

UNIT_TEST(handle_counts_creations_of_its_generation_alone)
{
    start_registry();
    fsafe_thread_join();
    uint32_t begun_in = fsafe_handle_begin_creation();
    unit_in_child(end_creation_in_child, &begun_in);
    fsafe_handle_end_creation(begun_in, NULL);
    ck_assert_uint_eq(fsafe_handle_creations, 0);
}

UNIT_TEST(thread_remembers_former_owners)
{
    enum { KEPT = sizeof fsafe_self->former_owners / sizeof *fsafe_self->former_owners };
    start_registry();
    pretended_owner = 1000;
    struct fsafe_thread *self = fsafe_thread_join();
    ck_assert(!fsafe_thread_was(self, 1000));
    for (int i = 1; i <= 20; i++) {
        pretended_owner = 1000 + i;
        fsafe_thread_adopt(self, false);
        ck_assert_int_eq(self->owner, 1000 + i);
        for (int k = 0; k <= i; k++)
            ck_assert_int_eq(fsafe_thread_was(self, 1000 + k), k < i && k >= i - KEPT);
    }
    /* libc may go on with the old name (a raw SYS_fork): that is no former one. */
    fsafe_thread_adopt(self, false);
    ck_assert(!fsafe_thread_was(self, 1020));
    ck_assert(fsafe_thread_was(self, 1019));
    ck_assert_uint_eq(fsafe_lineage_generation(), 22);
}

UNIT_TEST(thread_adoption_without_a_slot)
{
    start_registry();
    fsafe_thread_adopt(NULL, false);
    ck_assert_uint_eq(fsafe_lineage_generation(), 2);
    ck_assert_uint_eq(fsafe_thread_generation(fsafe_thread_join()), 2);
}

/* A line of children, each with threads that vanish holding locks, does not grow for ever. */
UNIT_TEST(thread_slots_of_long_ago_are_used_again)
{
    start_registry();
    struct fsafe_thread *self = fsafe_thread_join();
    struct fsafe_thread *slot;
    for (int i = 0; i < 3000; i++) {
        unit_run_thread(end_with_a_lock, &slot);
        fsafe_thread_adopt(self, false);
    }
    ck_assert_uint_le(fsafe_thread_slots(), 17 + 32 + 64 + 128 + 256 + 512 + 1024);
    /* The young ones' evidence is still there. */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fsafe_thread_slots(); i++)
        kept += fsafe_thread_generation(fsafe_thread_slot(i)) != 0;
    ck_assert_uint_gt(kept, 1024);
    ck_assert_uint_eq(fsafe_thread_generation(slot), fsafe_lineage_generation() - 1);
}

/* --- gate ------------------------------------------------------------------------------------------- */

/*
 * A piece of stack, and in it the frame of a function that called into a region, with the place it returns to beside.
 */
enum { FRAME = 64, NEXT = FRAME + 64, FAR = FRAME + (128 << 10) / sizeof(uintptr_t) };
static uintptr_t stack[FAR + 64] __attribute__((aligned(64)));

static void enter_from(unsigned frame, enum fsafe_region region)
{
    stack[frame + 1] = site_of(lock_of(frame));
    fsafe_region_enter(region, (uintptr_t)&stack[frame], stack[frame + 1]);
}

static bool is_inside(enum fsafe_region region)
{
    uintptr_t lock, site;
    const struct fsafe_ledger *locks = fsafe_thread_locks(fsafe_self);
    for (uint32_t i = fsafe_ledger_depth(locks); i > 0; i--)
        if (fsafe_ledger_read(locks, i, &lock, &site) && fsafe_region_of(lock) == region)
            return true;
    return false;
}

/* A later call from above a frame on the same stack: a longjmp has left that frame. */
/* Without a mark a record has no room for the frame that called. */
UNIT_LOOP(gate_drops_a_call_that_was_left, 0, FSAFE_CALL_MARK != 0 ? 2 : 0)
{
    start_registry();
    fsafe_thread_join();
    enter_from(FRAME, FSAFE_REGION_RANDOM);
    enter_from(FRAME / 2, FSAFE_REGION_LOCALE); /* within it, by a callback */
    ck_assert(is_inside(FSAFE_REGION_RANDOM) && is_inside(FSAFE_REGION_LOCALE));
    enter_from(_i == 0 ? FRAME : NEXT, FSAFE_REGION_TIME_ZONE);
    ck_assert(!is_inside(FSAFE_REGION_RANDOM) && !is_inside(FSAFE_REGION_LOCALE));
    ck_assert(is_inside(FSAFE_REGION_TIME_ZONE));
}

/* From far above it may be another stack, a coroutine's. */
UNIT_LOOP(gate_keeps_a_call_of_another_coroutine, 0, FSAFE_CALL_MARK != 0 ? 2 : 0)
{
    start_registry();
    fsafe_thread_join();
    enter_from(FRAME, FSAFE_REGION_RANDOM);
    if (_i == 1)
        stack[FRAME + 1]++; /* some later function has overwritten it */
    enter_from(FAR, FSAFE_REGION_TIME_ZONE);
    ck_assert_int_eq(is_inside(FSAFE_REGION_RANDOM), _i == 0);
    fsafe_region_leave(FSAFE_REGION_TIME_ZONE, (uintptr_t)&stack[FAR]);
    ck_assert(!is_inside(FSAFE_REGION_TIME_ZONE));
    ck_assert_int_eq(is_inside(FSAFE_REGION_RANDOM), _i == 0);
}

static void enter_in_handler(int number)
{
    (void)number;
    enter_from(NEXT, FSAFE_REGION_TIME_ZONE);
}

UNIT_TEST(gate_keeps_a_call_below_the_signal_stack)
{
    static char bytes[64 << 10];
    const stack_t signal_stack = {.ss_sp = bytes, .ss_size = sizeof bytes};
    const struct sigaction action = {.sa_handler = enter_in_handler, .sa_flags = SA_ONSTACK};
    start_registry();
    fsafe_thread_join();
    ck_assert_int_eq(sigaltstack(&signal_stack, NULL), 0);
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    enter_from(FRAME, FSAFE_REGION_RANDOM);
    raise(SIGUSR1);
    ck_assert(is_inside(FSAFE_REGION_RANDOM) && is_inside(FSAFE_REGION_TIME_ZONE));
}

static _Atomic pid_t entering;
static _Atomic bool entered, may_enter_again;

static void enter_through_gate(struct fsafe_thread *thread, unsigned i)
{
    struct fsafe_ledger *locks = fsafe_thread_locks(thread);
    if (!fsafe_gate_push(locks, lock_of(i), site_of(lock_of(i))))
        ck_assert(fsafe_gate_push_slowly(locks, lock_of(i), site_of(lock_of(i)), never_stale, NULL));
}

static void *enter_once(void *unused)
{
    (void)unused;
    struct fsafe_thread *thread = fsafe_thread_join();
    atomic_store(&entering, fsafe_sys_gettid());
    enter_through_gate(thread, 1);
    atomic_store(&entered, true);
    fsafe_ledger_drop(fsafe_thread_locks(thread), lock_of(1));
    return NULL;
}

static bool is_asleep(pid_t tid)
{
    struct fsafe_task task;
    return tid != 0 && fsafe_tasks_look(tid, &task) && fsafe_tasks_waits_for_futex(&task);
}

UNIT_TEST(gate_stops_the_outermost_entry_until_it_opens)
{
    bool emulated;
    fsafe_pages_unmap(fsafe_pages_map_wiped(&emulated), 1);
    if (emulated)
        return; /* what a thread sleeps in is there by the number that it has on the emulator's processor */
    start_registry();
    fsafe_options.drain_ms = 3600000; /* the gate is bounded */
    struct fsafe_thread *closer = fsafe_thread_join();
    pthread_t thread;
    ck_assert(fsafe_gate_close(closer, true));
    fsafe_gate_insist(UINT64_MAX); /* the thread sleeps until it is woken */
    unit_start_thread(&thread, enter_once, NULL);
    UNIT_EVENTUALLY(atomic_load(&entered) || is_asleep(atomic_load(&entering)));
    ck_assert(!atomic_load(&entered));
    fsafe_gate_open(closer, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(atomic_load(&entered));
}

/* As a thread does that has not slept since the gate let it pass last: it stays awake for a while. */
static void *enter_busily(void *unused)
{
    fsafe_thread_join()->gated.sleeps = fsafe_sys_sleeps();
    return enter_once(unused);
}

/* The fork takes its time: the thread that it stops opens the gate, and does not wait for the fork. */
UNIT_TEST(gate_is_opened_by_a_busy_thread)
{
    start_registry();
    fsafe_options.drain_ms = 3600000;
    struct fsafe_thread *closer = fsafe_thread_join();
    pthread_t thread;
    ck_assert(fsafe_gate_close(closer, false));
    unit_start_thread(&thread, enter_busily, NULL);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(!fsafe_gate_is_ours(closer));
    fsafe_gate_open(closer, 0);
}

static void *enter_twice(void *unused)
{
    (void)unused;
    struct fsafe_thread *thread = fsafe_thread_join();
    enter_through_gate(thread, 1);
    atomic_store(&entered, true);
    UNIT_EVENTUALLY(atomic_load(&may_enter_again));
    enter_through_gate(thread, 2);
    fsafe_ledger_drop(fsafe_thread_locks(thread), lock_of(2));
    fsafe_ledger_drop(fsafe_thread_locks(thread), lock_of(1));
    return NULL;
}

/* It has to get out, so that the fork can go on: its join here ends with the gate closed. */
/* No fork waits twice for a record that a longjmp has left reserved. */
UNIT_TEST(gate_is_left_by_a_record_that_stays_empty)
{
    start_registry();
    struct fsafe_thread *thread = fsafe_thread_join();
    struct fsafe_ledger *locks = fsafe_thread_locks(thread);
    atomic_store(&locks->depth, 1);
    ck_assert_int_eq(fsafe_gate_where(thread, true), FSAFE_CALLING);
    fsafe_ledger_mark_outlasted(locks);
    ck_assert_int_eq(fsafe_gate_where(thread, true), FSAFE_OUTSIDE);
    enter_through_gate(thread, 1);
    ck_assert_int_eq(fsafe_gate_where(thread, true), FSAFE_HOLDING);
    ck_assert(fsafe_ledger_drop(locks, lock_of(1)));
    ck_assert_int_eq(fsafe_gate_where(thread, true), FSAFE_OUTSIDE);
}

UNIT_TEST(gate_lets_a_thread_inside_go_on)
{
    start_registry();
    fsafe_options.drain_ms = 3600000; /* the gate is bounded */
    struct fsafe_thread *closer = fsafe_thread_join();
    pthread_t thread;
    unit_start_thread(&thread, enter_twice, NULL);
    UNIT_EVENTUALLY(atomic_load(&entered));
    ck_assert(fsafe_gate_close(closer, true));
    atomic_store(&may_enter_again, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    fsafe_gate_open(closer, 0);
}

/* --- lineage ---------------------------------------------------------------------------------------- */

static void be_adopted(void *grandchild)
{
    static const struct fsafe_fork fork_of_mine = {.number = 5, .tid = 6, .at = 7};
    ck_assert(fsafe_lineage_is_unadopted());
    ck_assert(fsafe_lineage_begin_adoption());
    ck_assert(fsafe_lineage_is_unadopted()); /* not before all is done */
    fsafe_thread_adopt(NULL, false);
    ck_assert(fsafe_lineage_is_unadopted());
    ck_assert(fsafe_lineage_begin_adoption()); /* a handler in the middle is told the same */
    fsafe_lineage_adopted(&fork_of_mine);
    ck_assert(!fsafe_lineage_is_unadopted());
    ck_assert(!fsafe_lineage_begin_adoption()); /* once is enough */
    ck_assert(!fsafe_lineage_is_unadopted());
    ck_assert_int_eq(fsafe_lineage_pid(), getpid());
    if (grandchild == NULL)
        unit_in_child(be_adopted, &grandchild);
}

UNIT_TEST(lineage_knows_an_unadopted_child)
{
    ck_assert(!fsafe_lineage_is_unadopted());
    ck_assert(fsafe_lineage_begin_adoption()); /* the handlers are all it can go by where the kernel cannot wipe */
    fsafe_lineage_start(getpid());
    ck_assert(!fsafe_lineage_is_unadopted());
    ck_assert(!fsafe_lineage_begin_adoption());
    ck_assert_int_eq(fsafe_lineage_pid(), getpid());
    unit_in_child(be_adopted, NULL);
    ck_assert(!fsafe_lineage_is_unadopted());
}

UNIT_TEST(lineage_keeps_the_latest_forks)
{
    struct fsafe_fork fork_of;
    fsafe_lineage_start(getpid());
    for (uint32_t generation = 1; generation <= 40; generation++) {
        fork_of = fsafe_lineage_fork_after(generation);
        ck_assert_uint_eq(fork_of.number, 0); /* not yet */
        fsafe_thread_adopt(NULL, false);
        fsafe_lineage_adopted(&(const struct fsafe_fork){
            .number = generation * 10, .tid = (pid_t)generation, .at = generation * 100});
        for (uint32_t earlier = generation > 10 ? generation - 10 : 1; earlier <= generation; earlier++) {
            fork_of = fsafe_lineage_fork_after(earlier);
            ck_assert_uint_eq(fork_of.number, earlier * 10);
            ck_assert_int_eq(fork_of.tid, (pid_t)earlier);
            ck_assert_uint_eq(fork_of.at, earlier * 100);
        }
    }
    fork_of = fsafe_lineage_fork_after(1); /* too long ago: nothing rather than another one */
    ck_assert(fork_of.number == 0 && fork_of.tid == 0 && fork_of.at == 0);
    fork_of = fsafe_lineage_fork_after(0);
    ck_assert_uint_eq(fork_of.number, 0);
}

UNIT_MAIN("track", NULL, NULL)
