/* glog: all its mutexes are write-locked pthread_rwlock_t, in 0.4 pthread_mutex_t. */
#include "logger.hh"

#include <glog/logging.h>

namespace {

struct slow_sink final : google::LogSink {
    void send(google::LogSeverity, const char *, const char *, int, const struct ::tm *, const char *, size_t) override
    {
        logger::written();
    }
};

void initialise()
{
    static const bool once = [] {
        FLAGS_stderrthreshold = google::NUM_SEVERITIES;
        FLAGS_log_dir = "/nonexistent";
        google::InitGoogleLogging("victim");
        google::SetLogDestination(google::GLOG_INFO, "");
        return true;
    }();
    static_cast<void>(once);
}

} // namespace

/* The sink is called with the lock of all destinations held, be the line for one of them or not. */
void logger::log_here()
{
    initialise();
    static slow_sink sink;
    LOG_TO_SINK_BUT_NOT_TO_LOGFILE(&sink, INFO) << "a line by " << getpid();
}

void logger::log_to_file()
{
    initialise();
    LOG(INFO) << "a line by " << getpid();
}

extern "C" void scn_cases(void)
{
    scn_add({.bare = "hangs", .says = "once:took over (rwlock|mutex) .* held at fork by \\d+ \"worker\"",
             .run = logger::inside},
            "inside");
    scn_add({.bare = "hangs", .run = logger::storm}, "storm");
}
