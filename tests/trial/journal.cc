// A service in C++: a thread holds a journal's lock while it writes slowly, and a child wants to write, too. Whoever
// looks for the cause of the hang has to be led to the line of flush() that takes the lock.
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>
#include <signal.h>

namespace service {

class Journal {
public:
    void flush()
    {
        std::lock_guard<std::mutex> guard(mutex_); // (the culprit)
        std::fputs("flushing\n", stdout);
        std::fflush(stdout);
        if (write(held_[1], "", 1) == 1)
            pause(); // a disk that takes its time (it stands here)
        pending_.clear();
    }

    void add(const std::string &line)
    {
        std::lock_guard<std::mutex> guard(mutex_);
        pending_.push_back(line);
    }

    void wait_for_flush()
    {
        char byte;
        if (read(held_[0], &byte, 1) != 1)
            _exit(9);
    }

    Journal()
    {
        if (pipe(held_) != 0)
            _exit(9);
    }

private:
    std::mutex mutex_;
    std::vector<std::string> pending_;
    int held_[2];
};

Journal journal;

void serve(const std::string &request)
{
    journal.add(request);
}

} // namespace service

int main()
{
    std::thread(&service::Journal::flush, &service::journal).detach();
    service::journal.wait_for_flush();
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        service::serve("hello");
        write(1, "served\n", 7);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
