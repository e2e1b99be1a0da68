/*
 * The gate (src/track/gate.c) and the rounds of a drain (src/fork/drain.c) as a model for spin; `check` runs it.
 *
 * A name that the code has means here what it means there. What depends on time in the code is chance here: when a
 * thread has been stopped for enough, when a slice is over, when a fork gives up. Memory: the store of a fast push
 * stays in a store buffer for as long as chance will, or until a fork's barrier; all other stores here are made by, or
 * before, a locked instruction or a fence of the code. Not here: that a stopped thread goes on after FORKSAFE_DRAIN_MS.
 *
 * Checked at each clone: nobody else is in a call of libc's, or has a mutex and has gone on with it, unless that fork
 * gave up on him, or both fork in the middle of calls. Checked at the end: everybody got there, so nobody sleeps for
 * ever; the word is 0.
 *
 * Besides FORKERS threads that fork there are one who waits for a condition and one who calls libc; -DONE: only this;
 * -DHANDLER: only this, and a signal handler of it forks; -DQUEUE: three who queue for a mutex. -DREVOKES: who is
 * stopped may open the gate (without it a wake-up that is lost shows); -DGIVES_UP: a fork may give up. Each of the
 * following leaves out a line that the code has, and must be found: -DNO_LOOK, -DNO_BARRIER, -DNO_SECOND_TRY,
 * -DNO_COMMIT, -DREUSED, -DNO_WAKE; the code names them at that line.
 *
 * On a machine whose memory is weaker, as aarch64's, two pairs of threads write one word and then read the other's:
 *   a fast push   depth = n; read the word             | word = CLOSED; membarrier; read depth
 *     membarrier makes a full barrier (dmb ish) in each running thread of the process, between two of its
 *     instructions; one that does not run passes one as it is switched to. If that comes before the thread reads
 *     the word, the read sees CLOSED, which was written before the call; else depth was written before that barrier,
 *     and the fork, which reads after the call has returned, sees it.
 *   a slow one    depth = n, or unmark; fence; read the word | word = CLOSED, locked; membarrier; read depth, mark
 *     both sides have a full barrier between write and read: the store buffering test with two dmb ish, which forbids
 *     that both read the old value.
 * A commit needs no third: that the gate was opened, and that it was closed anew, are changes of the one word that it
 * compares and swaps, and all threads agree on the order of those. Leaving is a release that the fork's read acquires:
 * it sees all that was done inside, and so does its child.
 */
#ifndef FORKERS
#define FORKERS 2
#endif
#define ROUNDS 1
#define WORKERS 3
#define THREADS 5
#define SHARERS 2
#define BEARS 1

/* fsafe_gate_word */
bool CLOSED;
byte users, firms;
#define IS_CLOSED (CLOSED || firms > 0)
#define IS_ZERO (!CLOSED && users == 0 && firms == 0)

/* Each thread's ledger: it has one record at most. `buffered`: reserved, and nobody else sees that yet. */
bool recorded[THREADS], buffered[THREADS], marked[THREADS];
bool forking[THREADS];
#define INSIDE(t, me) (recorded[t] && !marked[t] && (!forking[t] || !calls[me]))

/* turns: whether the thread has read the word and it has not changed since */
bool same_turn[THREADS];

/* What must not be seen by a clone: in a call of libc's, has a mutex. given_up: a fork has waited for this in vain. */
bool calls[THREADS], holds[THREADS], given_up[THREADS];

/* A mutex that is locked in place, and who sleeps for it. */
byte word;
bool queued[WORKERS];
byte done;

inline wake_sleepers()
{
#ifndef NO_WAKE
    d_step {
        same_turn[0] = false; same_turn[1] = false; same_turn[2] = false; same_turn[3] = false; same_turn[4] = false
    }
#else
    skip
#endif
}

/* --- Those who are stopped ----------------------------------------------------------------------------------- */

inline wait_until_open(t)
{
    do
    :: same_turn[t] = true;
       if
       :: !IS_CLOSED -> same_turn[t] = false; break
       :: else ->
          if
          :: !same_turn[t]
#ifdef REVOKES
          :: atomic { CLOSED && firms == 0 -> CLOSED = false }; wake_sleepers()
#endif
          fi
       fi
    od
}

/* fsafe_gate_push, and fsafe_gate_push_slowly where that fails */
inline push(t)
{
    buffered[t] = true;
    if :: recorded[t] = true; buffered[t] = false :: skip fi;
    if
    :: IS_ZERO -> if :: recorded[t] = true; buffered[t] = false :: skip fi
    :: else ->
       buffered[t] = false; recorded[t] = false;
       do
       :: recorded[t] = true;
          if :: !IS_CLOSED -> break :: else -> recorded[t] = false; wait_until_open(t) fi
       od
    fi
}

inline pop(t) { d_step { buffered[t] = false; recorded[t] = false; marked[t] = false; given_up[t] = false } }

/* fsafe_gate_suspend, fsafe_gate_resume */
inline suspend(t) { marked[t] = true }
inline resume(t)
{
#ifdef NO_LOOK
    d_step { marked[t] = false; given_up[t] = false }
#else
    do
    :: d_step { marked[t] = false; given_up[t] = false };
       if :: !IS_CLOSED -> break :: else -> marked[t] = true; wait_until_open(t) fi
    od
#endif
}

/* --- Forks --------------------------------------------------------------------------------------------------- */

inline barrier_everywhere()
{
#ifndef NO_BARRIER
    d_step {
        i = 0;
        do :: i < THREADS -> recorded[i] = recorded[i] || buffered[i]; buffered[i] = false; i++ :: else -> break od
    }
#else
    skip
#endif
}

/* fsafe_gate_close: returns when it has; `firm` only for who was overruled */
inline gate_close(me)
{
    if
    :: atomic { CLOSED && users < SHARERS -> users++ }
#ifdef REUSED
    :: atomic { !CLOSED && firms == 0 -> CLOSED = true; users++ }
#else
    :: atomic { IS_ZERO -> CLOSED = true; users++ }
#endif
    :: atomic { overruled >= BEARS -> firms++; firm = true; is_user = false }
    fi;
    forking[me] = true;
    barrier_everywhere()
}

inline gate_open(me)
{
    forking[me] = false;
    atomic {
        if :: firm -> firms-- :: else fi;
        if :: is_user -> users-- :: else fi;
        if :: users == 0 -> CLOSED = false :: else fi;
        if :: IS_CLOSED -> wakes = false :: else -> wakes = true fi
    };
    if :: wakes -> wake_sleepers() :: else fi;
    firm = false
}

inline do_fork(me)
{
    overruled = 0;
    do
    :: is_user = true; firm = false; inside = false;
       gate_close(me);
       /* count_inside, thread after thread */
       t = 0;
       do :: t < THREADS -> inside = inside || (t != me && INSIDE(t, me)); t++ :: else -> break od;
       if
       :: inside -> skip /* the slice is over, or look again: the same */
#ifdef GIVES_UP
       :: inside -> /* give_up_on_all */
          t = 0;
          do
          :: t < THREADS ->
             if
             :: atomic { t != me && INSIDE(t, me) -> marked[t] = true; given_up[t] = true }
             :: else
             fi;
             t++
          :: else -> break
          od;
          inside = false
#endif
       :: !inside
       fi;
       if
       :: inside
       :: else ->
          /* fsafe_gate_commit */
#ifdef NO_COMMIT
          firms++; firm = true
#else
          atomic { if :: !firm && CLOSED -> firms++; firm = true :: else fi };
#endif
          if
          :: firm ->
             t = 0;
             d_step { /* the clone is an instant */
                 do
                 :: t < THREADS ->
                    assert(t == me || given_up[t] || (forking[t] && calls[me]) || (!calls[t] && !holds[t]));
                    t++
                 :: else -> break
                 od
             };
             gate_open(me);
             break
          :: else -> overruled = BEARS
          fi
       fi;
       gate_open(me)
    od
}

proctype forker(byte me)
{
    byte t, i, n, overruled; bool firm, is_user, inside, wakes;
    do :: n < ROUNDS -> n++; do_fork(me) :: else -> break od;
    done++
}

/* --- Workers ------------------------------------------------------------------------------------------------- */

/* A call of libc's. */
proctype caller(byte me)
{
    byte t, i, n, overruled; bool firm, is_user, inside, wakes;
    do
    :: n < 2 ->
       n++;
       push(me);
       calls[me] = true;
#ifdef HANDLER
       if :: n == 1 -> do_fork(me) :: skip fi; /* a signal handler forks in the middle of it */
#endif
       calls[me] = false;
       pop(me)
    :: else -> break
    od;
    done++
}

/* pthread_cond_wait: libc has the mutex taken again, unseen, before the waiter looks at the gate. */
proctype waiter(byte me)
{
    byte n;
    push(me);
    suspend(me);
    do
    :: n < 2 ->
       n++;
       resume(me);
       holds[me] = true;
       calls[me] = true; calls[me] = false; /* a call inside the lock is recorded, too, and stops nobody */
       holds[me] = false;
       suspend(me)
    :: else -> break
    od;
    pop(me);
    done++
}

inline wake_queued()
{
    if
    :: queued[0] -> queued[0] = false
    :: queued[1] -> queued[1] = false
    :: queued[2] -> queued[2] = false
    :: !queued[0] && !queued[1] && !queued[2]
    fi
}

/* wait_in_place of wrap/mutex, and the unlock */
proctype queuer(byte me; bool timed)
{
    byte old, n; bool time_left, got;
    do
    :: n < ROUNDS ->
       n++; time_left = true; got = false;
       push(me);
       if :: atomic { word == 0 -> word = 1; got = true } :: else fi;
       do
       :: got -> break
       :: else ->
#ifdef NO_SECOND_TRY
          if :: !time_left -> break :: else fi;
#endif
          atomic { old = word; word = 2 }; /* a woken waiter always tries once more */
          if :: old == 0 -> got = true; break :: else fi;
          if :: !time_left -> break :: else fi;
          suspend(me);
          if
          :: atomic { word == 2 -> queued[me] = true };
             if
             :: !queued[me]
             :: timed -> atomic { queued[me] = false; time_left = false } /* just when it is woken, perhaps */
             fi
          :: word != 2
          fi;
          resume(me)
       od;
       if
       :: got ->
          assert(!holds[0] && !holds[1] && !holds[2]);
          holds[me] = true;
          holds[me] = false;
          atomic { old = word; word = 0 };
          if :: old == 2 -> atomic { wake_queued() } :: else fi
       :: else
       fi;
       pop(me)
    :: else -> break
    od;
    done++
}

init
{
    byte f;
    atomic {
#if defined(QUEUE)
        run queuer(0, false); run queuer(1, true); run queuer(2, false);
#elif defined(ONE) || defined(HANDLER)
        run caller(0); done = 2;
#else
        run waiter(0); run caller(1); done = 1;
#endif
        for (f : 1 .. FORKERS) { run forker(WORKERS + f - 1) }
    };
    done == WORKERS + FORKERS;
    assert(IS_ZERO && word == 0);
    for (f : 0 .. 4) { assert(!recorded[f] && !buffered[f] && !forking[f]) }
}
