/* What waiters.c does, by C++'s condition variables. */
#include <chrono>
#include <condition_variable>
#include <mutex>

static struct {
    std::mutex mutex;
    std::condition_variable condvar;
    std::condition_variable_any any;
} of_seat[64];

extern "C" bool waiters_wait_cxx(unsigned seat, bool any, void (*with_mutex)(unsigned))
{
    const auto wait = std::chrono::microseconds(20);
    std::unique_lock<std::mutex> lock(of_seat[seat].mutex);
    if (any)
        of_seat[seat].any.wait_for(lock, wait);
    else
        of_seat[seat].condvar.wait_for(lock, wait);
    with_mutex(seat);
    return true;
}
