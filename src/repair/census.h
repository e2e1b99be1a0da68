/*
 * repair/census: which threads have records about one rwlock; the survey of what vanished threads left in all rwlocks.
 */
#pragma once

#include "repair/takeover.h"

/* What the ledgers say about one rwlock. */
struct fsafe_census {
    unsigned own_reads, own_writes;       /* of the calling thread */
    unsigned living_reads, living_writes; /* of other threads of this process, those that only ask left out */
    unsigned vanished_reads, vanished_writes;
    struct fsafe_claims claims; /* of these: vanished and since, living_was_owner, died_with_it */
};

/*
 * Counts. `writer` is whom the bytes name, 0 if nobody. `stage` is what the caller asks for: its latest such
 * record is left out; FSAFE_WANTED: it asks for nothing. Context: child, under the latch.
 */
struct fsafe_census fsafe_census_take(const struct fsafe_thread *self, uintptr_t lock, int writer,
                                      enum fsafe_stage stage);

/* What vanished threads left in one rwlock, by its bytes while the child was alone. */
struct fsafe_orphan {
    uintptr_t lock;
    uint32_t reads;   /* vanished readers that the bytes count */
    uint32_t waiting; /* vanished writers that wait for a writer */
    bool writer;      /* a vanished writer holds it or waits for readers */
    bool torn;        /* a vanished thread was in the middle of changing the phase */
    bool assessed;    /* during the survey: `most` is filled in */
    uint32_t most;    /* readers that can be vanished ones */
};

/* Whether this generation was surveyed. */
bool fsafe_census_is_surveyed(void);

/* Whether a survey found anything that is still there. */
bool fsafe_census_has_orphans(void);

/* Whether the survey noted anything of this lock; one that is just being forgotten counts. */
bool fsafe_census_may_have(uintptr_t lock);

/*
 * Notes what vanished threads left in all rwlocks that they recorded, and drops records that the bytes of the lock
 * deny. `self` asks for `asked` as `stage` meanwhile; 0: for none. Exact while the child is alone; else as good as
 * several looks are. Context: child, under the latch.
 */
void fsafe_census_survey(struct fsafe_thread *self, uintptr_t asked, enum fsafe_stage stage);

/* What the survey noted of the lock; NULL: nothing, or it is over. Context: child, under the latch. */
struct fsafe_orphan *fsafe_census_find(uintptr_t lock);

/* Drops the note and the vanished threads' records about the lock. Context: child, under the latch. */
void fsafe_census_forget(uintptr_t lock);

/*
 * Drops one record of a hold for reading that is not the calling thread's: a vanished thread's if there is one.
 * Context: any thread; in a child under the latch.
 */
void fsafe_census_hand_over(const struct fsafe_thread *self, uintptr_t lock);

/* How many rwlock records vanished threads have; may be too high, never too low. Context: child, under the latch. */
uint32_t fsafe_census_records(void);
