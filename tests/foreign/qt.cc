/*
 * A thread holds a lock of Qt's when the process forks; the child takes it, twice. Ends with 0, or with 1 when the
 * child hangs or does not get it. Which lock: by the first argument; limited: the child asks with a limit first.
 */
#include <QtCore/QMutex>

#include <atomic>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

static QMutex mutex;
static QRecursiveMutex recursive;
static std::atomic<int> held;

static void take(bool again)
{
    again ? recursive.lock() : mutex.lock();
}

static void give(bool again)
{
    again ? recursive.unlock() : mutex.unlock();
}

int main(int, char **arguments)
{
    const bool again = std::strcmp(arguments[1], "recursive") == 0;
    const bool limited = std::strcmp(arguments[1], "limited") == 0;
    std::thread([again] {
        take(again);
        held = 1;
        pause();
    }).detach();
    while (!held)
        std::this_thread::yield();
    const pid_t child = fork();
    if (child == 0) {
        alarm(10);
        if (limited) {
            if (!mutex.tryLock(100))
                _exit(1);
            give(false);
        }
        take(again);
        if (again)
            take(again);
        give(again);
        if (again)
            give(again);
        std::thread([again] { take(again), give(again); }).join();
        take(again);
        give(again);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    _exit(status != 0);
}
