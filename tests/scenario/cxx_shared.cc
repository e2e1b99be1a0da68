/* std::shared_mutex and std::shared_timed_mutex at fork: they end in pthread_rwlock_*. */
#include "scenario.h"

#include <chrono>
#include <mutex>
#include <shared_mutex>

namespace {

using namespace std::chrono_literals;

template <class Lock> struct calls {
    static Lock &of(void *lock)
    {
        return *static_cast<Lock *>(lock);
    }

    static int write(void *lock)
    {
        of(lock).lock();
        return 0;
    }

    static int try_write(void *lock)
    {
        return of(lock).try_lock() ? 0 : EBUSY;
    }

    static int write_for(void *lock)
    {
        return of(lock).try_lock_for(100ms) ? 0 : ETIMEDOUT;
    }

    static int read(void *lock)
    {
        of(lock).lock_shared();
        return 0;
    }

    static int try_read(void *lock)
    {
        return of(lock).try_lock_shared() ? 0 : EBUSY;
    }

    static int read_until(void *lock)
    {
        return of(lock).try_lock_shared_until(std::chrono::system_clock::now() + 100ms) ? 0 : ETIMEDOUT;
    }

    static int unwrite(void *lock)
    {
        of(lock).unlock();
        return 0;
    }

    static int unread(void *lock)
    {
        of(lock).unlock_shared();
        return 0;
    }

    static int try_write_and_give(void *lock)
    {
        const int error = try_write(lock);
        return error != 0 ? error : unwrite(lock);
    }

    static int try_read_and_give(void *lock)
    {
        const int error = try_read(lock);
        return error != 0 ? error : unread(lock);
    }

    static bool is_read(scn_call *take)
    {
        return take == read || take == try_read || take == takes_until();
    }

    static scn_call *takes_until()
    {
        if constexpr (requires(Lock &lock) { lock.try_lock_for(1ms); })
            return read_until;
        return nullptr;
    }

    /* Held by 1 or 5 vanished readers, or by a vanished writer (0). */
    static void vanished(const scn_case *self)
    {
        static Lock lock;
        const auto *entry = static_cast<const scn_entry *>(self->entry);
        const int readers = static_cast<int>(self->number);
        scn_holder worker[5];
        for (int i = 0; i < readers; i++)
            scn_hold(&worker[i], read, unread, &lock, 1);
        if (readers == 0)
            scn_hold(&worker[0], write, unwrite, &lock, 1);
        SCN_IN_CHILD {
            SCN_IS(entry->take(&lock), 0);
            const bool reads = is_read(entry->take);
            SCN_IS(scn_elsewhere(try_write_and_give, &lock), EBUSY);
            SCN_IS(scn_elsewhere(try_read_and_give, &lock), reads ? 0 : EBUSY);
            SCN_IS(reads ? unread(&lock) : unwrite(&lock), 0);
            scn_exclusion(write, unwrite, &lock, 4, 1000);
            std::unique_lock guard(lock);
        }
        SCN_IS(try_write(&lock), EBUSY);
        for (int i = 0; i < (readers != 0 ? readers : 1); i++)
            scn_let_go(&worker[i]);
        std::unique_lock guard(lock);
    }

    /* Written by the forking thread; or read by it, beside a vanished reader. */
    static void forker(const scn_case *self)
    {
        static Lock lock;
        scn_holder worker;
        if (self->number == 0) {
            lock.lock();
        } else {
            lock.lock_shared();
            scn_hold(&worker, read, unread, &lock, 1);
        }
        SCN_IN_CHILD {
            SCN_IS(scn_elsewhere(try_write_and_give, &lock), EBUSY);
            if (self->number == 0)
                lock.unlock();
            else
                lock.unlock_shared();
            SCN_IS(scn_elsewhere(try_write_and_give, &lock), 0);
            scn_exclusion(write, unwrite, &lock, 4, 1000);
        }
        if (self->number == 0) {
            lock.unlock();
        } else {
            lock.unlock_shared();
            scn_let_go(&worker);
        }
    }
};

template <class Lock> void add(const char *name)
{
    static const scn_entry entries[] = {
        {"lock", calls<Lock>::write, "hangs"},
        {"try_lock", calls<Lock>::try_write, "fails EBUSY"},
        {"lock_shared", calls<Lock>::read, "hangs"},
        {"try_lock_shared", calls<Lock>::try_read, "fails EBUSY"},
    };
    const auto add_entry = [name](const scn_entry &entry, bool reads) {
        for (long readers : {0L, 1L, 5L})
            if (readers == 0 || !reads)
                scn_add({.bare = entry.bare, .says = "once:took over rwlock .*held at fork by \\d+ \"worker\"",
                         .run = calls<Lock>::vanished, .entry = &entry, .number = readers},
                        "%s-%s-%ld-readers", name, entry.name, readers);
    };
    for (const scn_entry &entry : entries)
        add_entry(entry, calls<Lock>::is_read(entry.take));
    if constexpr (requires(Lock &lock) { lock.try_lock_for(1ms); }) {
        static const scn_entry timed[] = {
            {"try_lock_for", calls<Lock>::write_for, "fails ETIMEDOUT"},
            {"try_lock_shared_until", calls<Lock>::read_until, "fails ETIMEDOUT"},
        };
        for (const scn_entry &entry : timed)
            add_entry(entry, calls<Lock>::is_read(entry.take));
    }
    /* Bare the unlock of a writer loses the lock. */
    scn_add({.bare = "fails EBUSY", .says = SCN_SILENT, .run = calls<Lock>::forker}, "%s-forker-writes", name);
    scn_add({.bare = "fails EBUSY", .says = "took over rwlock", .run = calls<Lock>::forker, .number = 1},
            "%s-forker-reads", name);
}

} // namespace

extern "C" void scn_cases(void)
{
    add<std::shared_mutex>("shared_mutex");
    add<std::shared_timed_mutex>("shared_timed_mutex");
}
