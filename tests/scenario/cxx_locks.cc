/* The locks of the C++ library at fork: the mutexes, which end in pthread_mutex_*; call_once; the semaphores and
 * atomic waits of C++20, which end in a futex of their own. std::shared_mutex (rwlock) and
 * std::condition_variable are in cxx_shared and cxx_waits. */
#include "scenario.h"

#include <chrono>
#include <mutex>
#include <sched.h>
#include <version>
#ifdef __cpp_lib_semaphore
#include <semaphore>
#endif

namespace {

using namespace std::chrono_literals;

template <class Lock> struct calls {
    static int take(void *lock)
    {
        static_cast<Lock *>(lock)->lock();
        return 0;
    }

    static int try_take(void *lock)
    {
        return static_cast<Lock *>(lock)->try_lock() ? 0 : EBUSY;
    }

    static int take_for(void *lock)
    {
        return static_cast<Lock *>(lock)->try_lock_for(100ms) ? 0 : ETIMEDOUT;
    }

    static int take_until(void *lock)
    {
        return static_cast<Lock *>(lock)->try_lock_until(std::chrono::system_clock::now() + 100ms) ? 0 : ETIMEDOUT;
    }

    static int give(void *lock)
    {
        static_cast<Lock *>(lock)->unlock();
        return 0;
    }

    static int try_and_give(void *lock)
    {
        const int error = try_take(lock);
        return error != 0 ? error : give(lock);
    }

    static void check(void *lock)
    {
        SCN_IS(scn_elsewhere(try_and_give, lock), EBUSY);
        SCN_IS(give(lock), 0);
        SCN_IS(scn_elsewhere(try_and_give, lock), 0);
        scn_exclusion(take, give, lock, 4, 2000);
        std::lock_guard guard(*static_cast<Lock *>(lock));
    }

    /* Held by a vanished thread, `number` deep. */
    static void vanished(const scn_case *self)
    {
        static Lock lock;
        scn_holder worker;
        scn_hold(&worker, take, give, &lock, static_cast<int>(self->number));
        SCN_IN_CHILD {
            SCN_IS(static_cast<const scn_entry *>(self->entry)->take(&lock), 0);
            check(&lock);
        }
        SCN_IS(try_take(&lock), EBUSY);
        scn_let_go(&worker);
        std::lock_guard guard(lock);
    }

    static void forker(const scn_case *self)
    {
        static Lock lock;
        for (long i = 0; i < self->number; i++)
            lock.lock();
        SCN_IN_CHILD {
            for (long i = 1; i < self->number; i++)
                lock.unlock();
            check(&lock);
        }
        for (long i = 0; i < self->number; i++)
            lock.unlock();
    }
};

template <class Lock> void add(const char *name, bool timed, bool recursive)
{
    static const scn_entry entries[] = {
        {"lock", calls<Lock>::take, "hangs"},
        {"try_lock", calls<Lock>::try_take, "fails EBUSY"},
    };
    for (const scn_entry &entry : entries)
        scn_add({.bare = entry.bare, .says = "once:took over mutex .*held at fork by \\d+ \"worker\"",
                 .run = calls<Lock>::vanished, .entry = &entry, .number = recursive ? 3 : 1},
                "%s-%s", name, entry.name);
    if constexpr (requires(Lock &lock) { lock.try_lock_for(1ms); }) {
        static const scn_entry more[] = {
            {"try_lock_for", calls<Lock>::take_for, "fails ETIMEDOUT"},
            {"try_lock_until", calls<Lock>::take_until, "fails ETIMEDOUT"},
        };
        for (const scn_entry &entry : more)
            if (timed)
                scn_add({.bare = entry.bare, .says = "once:took over mutex", .run = calls<Lock>::vanished,
                         .entry = &entry, .number = recursive ? 3 : 1},
                        "%s-%s", name, entry.name);
    }
    /* std::recursive_mutex::unlock drops the EPERM that it gets: the lock stays locked. */
    scn_add({.bare = recursive ? "fails EBUSY" : "fine", .says = SCN_SILENT, .run = calls<Lock>::forker,
             .number = recursive ? 3 : 1},
            "%s-forker", name);
}

/* --- call_once: glibc begins a pthread_once again that a vanished thread was in --------------------------------- */

int entered, leave;
pid_t slow_in;
std::once_flag once;
std::atomic<int> runs;

void initialise()
{
    runs++;
    if (slow_in == getpid()) {
        scn_ring(entered);
        scn_await(leave);
    }
}

void *call(void *)
{
    std::call_once(once, initialise);
    return nullptr;
}

void call_once(const scn_case *)
{
    entered = scn_bell();
    leave = scn_bell();
    slow_in = getpid();
    const pthread_t worker = scn_start(call, nullptr);
    scn_await(entered);
    SCN_IN_CHILD {
        runs = 0;
        call(nullptr);
        scn_join(scn_start(call, nullptr));
        SCN_CHECK(runs == 1);
    }
    scn_ring(leave);
    scn_join(worker);
}

/* --- C++20 -------------------------------------------------------------------------------------------------------- */

#ifdef __cpp_lib_semaphore /* since gcc 11, as waits for atomics */
std::binary_semaphore token{1};
std::counting_semaphore<8> tokens{2};
std::atomic<int> word;

template <auto &semaphore> struct gives {
    static int take(void *)
    {
        semaphore.acquire();
        return 0;
    }

    static int give(void *)
    {
        semaphore.release();
        return 0;
    }
};

/* A token that a vanished thread has: nobody but the library's own atomics knows, the child waits. */
void semaphore_vanished(const scn_case *)
{
    scn_holder worker;
    using token_calls = gives<token>;
    scn_hold(&worker, token_calls::take, token_calls::give, nullptr, 1);
    SCN_IN_CHILD {
        SCN_CHECK(!token.try_acquire() && !token.try_acquire_for(10ms));
        token.acquire();
    }
    scn_let_go(&worker);
}

/* An atomic that a vanished thread was to change, and whose value could be taken for a lock's. */
void word_vanished(const scn_case *)
{
    word = 2;
    SCN_IN_CHILD {
        word.wait(2);
    }
}

void *wait_for_word(void *tid)
{
    *static_cast<std::atomic<int> *>(tid) = static_cast<int>(gettid());
    word.wait(0);
    return nullptr;
}

void *acquire_third(void *tid)
{
    *static_cast<std::atomic<int> *>(tid) = static_cast<int>(gettid());
    tokens.acquire();
    tokens.release();
    return nullptr;
}

/* Vanished threads were waiting: the child's own use of the same objects, from many threads, is not disturbed. */
void waited_for(const scn_case *)
{
    std::atomic<int> tid[2] = {0, 0};
    tokens.acquire();
    tokens.acquire();
    const pthread_t waiting[2] = {scn_start(wait_for_word, &tid[0]), scn_start(acquire_third, &tid[1])};
    for (std::atomic<int> &one : tid) {
        while (one == 0)
            sched_yield();
        scn_await_asleep(one, nullptr);
    }
    SCN_IN_CHILD {
        std::atomic<int> own{0};
        const pthread_t mine = scn_start(wait_for_word, &own);
        while (own == 0)
            sched_yield();
        scn_await_asleep(own, nullptr);
        word = 1;
        word.notify_all();
        scn_join(mine);
        tokens.release();
        scn_exclusion(gives<tokens>::take, gives<tokens>::give, nullptr, 4, 2000);
    }
    word = 1;
    word.notify_all();
    tokens.release();
    tokens.release();
    for (pthread_t one : waiting)
        scn_join(one);
}
#endif

} // namespace

extern "C" void scn_cases(void)
{
    add<std::mutex>("mutex", false, false);
    add<std::recursive_mutex>("recursive_mutex", false, true);
    add<std::timed_mutex>("timed_mutex", true, false);
    add<std::recursive_timed_mutex>("recursive_timed_mutex", true, true);
    scn_add({.bare = "fine", .says = SCN_SILENT, .run = call_once}, "call_once");
#ifdef __cpp_lib_semaphore
    scn_add({.bare = "hangs", .preloaded = "hangs", .says = "once:child hangs in futex ;; " SCN_NEVER_TAKES,
             .env = "FORKSAFE_HANG_MS=200",
             .run = semaphore_vanished},
            "binary_semaphore");
    scn_add({.bare = "hangs", .preloaded = "hangs", .says = "once:child hangs in futex ;; " SCN_NEVER_TAKES,
             .env = "FORKSAFE_HANG_MS=200",
             .run = word_vanished},
            "atomic-wait");
    scn_add({.bare = "fine", .says = SCN_SILENT, .run = waited_for}, "semaphores-and-atomics-waited-for");
#endif
}
