/* std::condition_variable and std::condition_variable_any in which threads waited that vanished, and std::thread::join
 * of such threads. */
#include "scenario.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace {

using namespace std::chrono_literals;

enum how { WAIT, WAIT_FOR, WAIT_UNTIL };

/* Threads that wait, each in its own way, for `gone`. */
template <class Condition> struct crew {
    static inline std::mutex mutex;
    static inline bool gone = false;
    static inline std::atomic<int> tid[5];

    static void wait_in(Condition *condition, enum how how, int index)
    {
        std::unique_lock lock(mutex);
        tid[index] = static_cast<int>(gettid());
        while (!gone) {
            if (how == WAIT)
                condition->wait(lock);
            else if (how == WAIT_FOR)
                condition->wait_for(lock, 100s);
            else
                condition->wait_until(lock, std::chrono::system_clock::now() + 100s);
        }
    }

    static void gather(std::thread *threads, int count, Condition *condition)
    {
        for (int i = 0; i < count; i++) {
            threads[i] = std::thread(wait_in, condition, static_cast<enum how>(i % 3), i);
            while (tid[i] == 0)
                std::this_thread::yield();
            scn_await_asleep(tid[i], nullptr);
            std::lock_guard past(mutex);
        }
    }

    static void dismiss(std::thread *threads, int count, Condition *condition)
    {
        {
            std::lock_guard lock(mutex);
            gone = true;
        }
        condition->notify_all();
        for (int i = 0; i < count; i++)
            threads[i].join();
    }

    /* Two of the child's threads wake each other, over many rounds. */
    static void ping_pong(Condition *condition, bool all)
    {
        int turn = 0;
        const auto play = [&](int mine) {
            for (int i = 0; i < 200; i++) {
                std::unique_lock lock(mutex);
                condition->wait(lock, [&] { return turn == mine; });
                turn = !mine;
                if (all)
                    condition->notify_all();
                else
                    condition->notify_one();
            }
        };
        std::thread other(play, 1);
        play(0);
        other.join();
    }

    static void finish(std::thread *threads, int count, Condition *condition)
    {
        dismiss(threads, count, condition);
        delete condition;
    }

    static void deleted(const scn_case *self)
    {
        std::thread threads[5];
        const int count = static_cast<int>(self->number);
        auto *condition = new Condition;
        gather(threads, count, condition);
        SCN_IN_CHILD {
            delete condition;
        }
        finish(threads, count, condition);
    }

    static void notifies(const scn_case *self)
    {
        std::thread threads[5];
        const int count = static_cast<int>(self->number);
        auto *condition = new Condition;
        gather(threads, count, condition);
        SCN_IN_CHILD {
            for (int i = 0; i < 20; i++) {
                condition->notify_one();
                condition->notify_all();
            }
            ping_pong(condition, true);
            ping_pong(condition, false);
            delete condition;
        }
        finish(threads, count, condition);
    }

    /* exit() destroys a static one. */
    static void exits(const scn_case *self)
    {
        static Condition condition;
        static std::thread threads[5];
        const int count = static_cast<int>(self->number);
        gather(threads, count, &condition);
        const pid_t child = scn_fork();
        if (child == 0) {
            for (int i = 0; i < count; i++)
                threads[i].detach();
            std::exit(0);
        }
        scn_reap(child);
        dismiss(threads, count, &condition);
    }
};

/* std::thread objects whose threads vanished, 1 or more than glibc's cache of stacks holds. They took a lock once or,
 * negative, never. */
void sleep_on(int bell, bool locks)
{
    static std::mutex mutex;
    if (locks)
        std::unique_lock(mutex).unlock();
    scn_await(bell);
}

void joins(const scn_case *self)
{
    const int bell = scn_bell();
    const int count = std::abs(static_cast<int>(self->number));
    auto *threads = new std::thread[count];
    for (int i = 0; i < count; i++)
        threads[i] = std::thread(sleep_on, bell, self->number > 0);
    SCN_IN_CHILD {
        for (int i = 0; i < count; i++)
            threads[i].join();
        std::thread(scn_ring, bell).join();
    }
    for (int i = 0; i < count; i++)
        scn_ring(bell);
    for (int i = 0; i < count; i++)
        threads[i].join();
    delete[] threads;
}

template <class Condition> void add(const char *name)
{
    for (long waiters : {1L, 5L}) {
        scn_add({.bare = "hangs", .says = "child forgot \\d vanished threads? in condition variable",
                 .run = crew<Condition>::deleted, .number = waiters}, "%s-deleted-%ld", name, waiters);
        scn_add({.bare = "hangs", .says = "child forgot \\d vanished threads? in condition variable",
                 .run = crew<Condition>::notifies, .number = waiters}, "%s-notifies-%ld", name, waiters);
        scn_add({.bare = "hangs", .says = "child forgot \\d vanished threads? in condition variable",
                 .run = crew<Condition>::exits, .number = waiters}, "%s-exits-%ld", name, waiters);
    }
}

} // namespace

extern "C" void scn_cases(void)
{
    add<std::condition_variable>("condition_variable");
    add<std::condition_variable_any>("condition_variable_any");
    const bool waits = scn_glibc_since(43); /* see join_vanished.c */
    const char *const many = waits ? "hangs" : "dies SIGSEGV";
    scn_add({.bare = waits ? "hangs" : "fine", .says = SCN_SILENT, .run = joins, .number = 1}, "thread-join");
    scn_add({.bare = many, .says = SCN_SILENT, .run = joins, .number = 12}, "thread-join-many");
    scn_add({.bare = many, .says = SCN_SILENT, .run = joins, .number = -12}, "thread-join-many-lockless");
}
