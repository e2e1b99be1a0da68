/* spdlog: a sink has a std::mutex; an asynchronous logger a queue with a mutex and two condition variables, and a
 * thread behind it, which no child has. */

/*
 * Measured, on glibc 2.36 and x86-64 where nothing else is said.
 *
 * spdlog 1.10, log4cplus 2.0.8, glog 0.6 with two threads that log, one-line children, of 300 forks: see tests.
 * spdlog's asynchronous logger: room in the queue, the child's line is lost; queue full, the child waits (block) or
 * overwrites (overrun_oldest); exit(), pthread_cond_destroy waits for the vanished pool thread, joining that thread
 * does not.
 */
#include "logger.hh"

#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

namespace {

struct slow_sink final : spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg &) override { logger::written(); }
    void flush_() override {}
};

/* The thread that writes. */
std::atomic<int> writer;
struct telling_sink final : spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg &) override { writer = gettid(); }
    void flush_() override {}
};

spdlog::logger &here()
{
    static const auto once = std::make_shared<spdlog::logger>("here", std::make_shared<slow_sink>());
    return *once;
}

spdlog::logger &to_file()
{
    static const auto once = spdlog::basic_logger_mt("file", "/dev/null");
    return *once;
}

enum { PLACES = 8 };

/* The child logs three times as often as the queue has places. */
template <typename Logger> void log_much(Logger &&log, pid_t &child)
{
    log->info("a line");
    log->flush();
    child = scn_fork();
    for (int i = 0; child == 0 && i < 3 * PLACES; i++)
        log->info("line {} of the child", i);
}

void async_blocks(const scn_case *)
{
    spdlog::init_thread_pool(PLACES, 1);
    pid_t child;
    log_much(spdlog::create_async<spdlog::sinks::basic_file_sink_mt>("async", "/dev/null"), child);
    if (child == 0)
        scn_fine();
    scn_reap(child);
}

void async_overruns(const scn_case *)
{
    spdlog::init_thread_pool(PLACES, 1);
    pid_t child;
    log_much(spdlog::create_async_nb<spdlog::sinks::basic_file_sink_mt>("async", "/dev/null"), child);
    if (child == 0)
        scn_fine();
    scn_reap(child);
}

/* Destructors of the pool: it waits for its thread to take the last message and to end. */
void async_exits(const scn_case *)
{
    spdlog::init_thread_pool(PLACES * 100, 1);
    spdlog::create_async<telling_sink>("async")->info("a line");
    scn_await_sleeper(&writer); /* waiting for work */
    const pid_t child = scn_fork();
    if (child == 0)
        exit(0);
    scn_reap(child);
}

} // namespace

void logger::log_here()
{
    here().info("a line by {}", getpid());
}

void logger::log_to_file()
{
    to_file().info("a line by {}", getpid());
}

extern "C" void scn_cases(void)
{
    scn_add({.bare = "hangs", .says = "once:took over mutex .*\\(normal\\) for .* held at fork by \\d+ \"worker\"",
             .run = logger::inside},
            "inside");
    scn_add({.bare = "hangs", .run = logger::storm}, "storm");
    /* No thread of the child takes anything out of the queue: not a lock, not ours to give. */
    scn_add({.bare = "hangs", .preloaded = "hangs", .says = "child hangs in condition variable ;; " SCN_NEVER_TAKES,
             .env = "FORKSAFE_HANG_MS=200", .run = async_blocks},
            "async-queue-full");
    scn_add({.bare = "fine", .says = SCN_NEVER_TAKES, .run = async_overruns}, "async-queue-overruns");
    /* pthread_cond_destroy waits for the vanished waiter: fine once condition variables are looked after. */
    scn_add({.bare = "hangs", .run = async_exits}, "async-exits");
}
