/* log4cplus: an appender has a recursive mutex. */
#include "logger.hh"

#include <log4cplus/log4cplus.h>

namespace {

struct slow_appender final : log4cplus::Appender {
    ~slow_appender() override { destructorImpl(); }
    void close() override { closed = true; }
    void append(const log4cplus::spi::InternalLoggingEvent &) override { logger::written(); }
};

log4cplus::Logger get(const char *name, log4cplus::Appender *appender)
{
    static log4cplus::Initializer *const for_ever = new log4cplus::Initializer;
    static_cast<void>(for_ever);
    log4cplus::Logger found = log4cplus::Logger::getInstance(name);
    found.addAppender(log4cplus::SharedAppenderPtr(appender));
    return found;
}

} // namespace

void logger::log_here()
{
    static const log4cplus::Logger once = get("here", new slow_appender);
    LOG4CPLUS_WARN(once, "a line by " << getpid());
}

void logger::log_to_file()
{
    static const log4cplus::Logger once = get("file", new log4cplus::FileAppender("/dev/null"));
    LOG4CPLUS_WARN(once, "a line by " << getpid());
}

extern "C" void scn_cases(void)
{
    scn_add({.bare = "hangs", .says = "took over mutex .*\\(recursive\\) for .* held at fork by \\d+ \"worker\"",
             .run = logger::inside},
            "inside");
    scn_add({.bare = "hangs", .run = logger::storm}, "storm");
}
