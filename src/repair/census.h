/*
 * repair/census: which threads have records about one rwlock; the survey of what vanished threads left in all rwlocks.
 */
#pragma once

#include "repair/takeover.h"

/* What the ledgers say about one rwlock. */
struct fsafe_census {
    unsigned own_reads, own_writes;       /* of the calling thread */
    unsigned living_reads, living_writes; /* of other threads of this process, without those that only ask for it */
    unsigned vanished_reads, vanished_writes;
    struct fsafe_claims claims; /* of these: vanished and since, living_was_owner, died_with_it */
};

/*
 * Counts the records about `lock`. `writer`: the owner that its bytes name; 0: none. `stage`: what the calling thread
 * asks for, whose latest record of that stage is not counted; FSAFE_WANTED: it asks for nothing. Context: child, under
 * the latch.
 */
struct fsafe_census fsafe_census_take(const struct fsafe_thread *self, uintptr_t lock, int writer,
                                      enum fsafe_stage stage);

/* What vanished threads left in one rwlock, by its bytes at the survey. */
struct fsafe_orphan {
    uintptr_t lock;
    uint32_t reads;   /* vanished readers that the bytes count */
    uint32_t waiting; /* vanished writers that waited for a writer */
    bool writer;      /* a vanished writer held it or waited for readers */
    bool torn;        /* a vanished thread was in the middle of changing the phase */
    bool assessed;    /* during the survey: `most` is filled in */
    uint32_t most;    /* how many of the readers can be vanished threads */
};

bool fsafe_census_is_surveyed(void);

/* Whether the survey found anything about this lock; also true while that is being forgotten. */
bool fsafe_census_may_have(uintptr_t lock);

/*
 * Finds what vanished threads left in all rwlocks of which they have records, and drops records that the bytes of the
 * rwlock contradict. `self` asks for `asked` as `stage` meanwhile; 0: for none. Exact while the child is alone; with
 * other threads about as good as several looks are. Context: child, under the latch.
 */
void fsafe_census_survey(struct fsafe_thread *self, uintptr_t asked, enum fsafe_stage stage);

/* What the survey found about the lock; NULL: nothing, or it is forgotten. Context: child, under the latch. */
struct fsafe_orphan *fsafe_census_find(uintptr_t lock);

/* Drops what the survey found about the lock, and vanished threads' records of it. Context: child, under the latch. */
void fsafe_census_forget(uintptr_t lock);

/*
 * Drops one record of another thread's hold for reading: a vanished thread's if there is one. Context: any thread; in a
 * child under the latch.
 */
void fsafe_census_hand_over(const struct fsafe_thread *self, uintptr_t lock);

/* How many rwlock records vanished threads have; may be too high, never too low. Context: child, under the latch. */
uint32_t fsafe_census_records(void);
