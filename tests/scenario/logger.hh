/* What the logger_*.cc have in common. A thread is inside a log library's lock, by way of a destination of ours
 * that waits, or two of them log all the time; the process forks, the child logs. */
#ifndef LOGGER_HH
#define LOGGER_HH

#include "scenario.h"

#include <sched.h>

namespace logger {

enum { STORM_FORKS = 300 };

/* Each victim's: one line to a destination that calls written(), one to a file. */
void log_here();
void log_to_file();

inline int entered, leave;
inline pid_t slow_in;
inline std::atomic<bool> stop;
inline std::atomic<int> lines, child_lines;

/* The destination, with the library's lock held. */
inline void written()
{
    if (slow_in == getpid()) {
        slow_in = 0;
        scn_ring(entered);
        scn_await(leave);
    }
    child_lines++;
}

inline void *log_once(void *)
{
    pthread_setname_np(pthread_self(), "worker");
    log_here();
    return nullptr;
}

inline void inside(const scn_case *)
{
    log_here(); /* whatever is made at the first line is made */
    entered = scn_bell();
    leave = scn_bell();
    slow_in = getpid();
    const pthread_t worker = scn_start(log_once, nullptr);
    scn_await(entered);
    SCN_IN_CHILD {
        slow_in = 0;
        child_lines = 0;
        log_here();
        pthread_t thread[4];
        for (pthread_t &one : thread)
            one = scn_start(log_once, nullptr);
        for (pthread_t one : thread)
            scn_join(one);
        SCN_CHECK(child_lines == 5);
    }
    scn_ring(leave);
    scn_join(worker);
    log_here();
}

inline void *log_always(void *)
{
    pthread_setname_np(pthread_self(), "worker");
    while (!stop) {
        log_to_file();
        lines++;
    }
    return nullptr;
}

inline void storm(const scn_case *)
{
    pthread_t thread[2];
    for (pthread_t &one : thread)
        one = scn_start(log_always, nullptr);
    while (lines < 100)
        sched_yield();
    for (int i = scn_often(STORM_FORKS); i > 0; i--) {
        SCN_IN_CHILD {
            log_to_file();
        }
        usleep(500); /* for the threads to get somewhere else */
    }
    stop = true;
    for (pthread_t one : thread)
        scn_join(one);
}

} // namespace logger

#endif
