/* A thread has a lock of some library's when the process forks, and nothing shows that it is a lock or who has it; the child
 * wants it, and hangs until its alarm. Which lock: by the first argument; without one, which there are. */
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <semaphore>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

struct lock {
    const char *name;
    void (*take)();
};

#if defined(WITH_QT)
#include <QtCore/QReadWriteLock>
#include <QtCore/QSemaphore>
static QReadWriteLock rwlock;
static QSemaphore tokens(1);
static const lock locks[] = {{"QReadWriteLock", [] { rwlock.lockForWrite(); }}, {"QSemaphore", [] { tokens.acquire(); }}};
#elif defined(WITH_GLIB)
#include <glib.h>
static gsize once;
static gint bits = 6; /* others are set */
static const lock locks[] = {{"g_once_init_enter", [] { (void)g_once_init_enter(&once); }},
                             {"g_bit_lock", [] { g_bit_lock(&bits, 0); }}};
#elif defined(WITH_ABSL)
#include <absl/synchronization/mutex.h>
static absl::Mutex mutex;
static const lock locks[] = {{"absl::Mutex", [] { mutex.Lock(); }}};
#elif defined(WITH_NSPR)
#include <prinit.h>
#include <prmon.h>
static PRMonitor *monitor = PR_NewMonitor();
static const lock locks[] = {{"PRMonitor", [] { PR_EnterMonitor(monitor); }}};
#elif defined(WITH_LIBXML2)
#include <libxml/threads.h>
static xmlRMutexPtr mutex = xmlNewRMutex();
static const lock locks[] = {{"xmlRMutex", [] { xmlRMutexLock(mutex); }}};
#elif defined(WITH_BOOST)
#include <boost/thread/shared_mutex.hpp>
static boost::shared_mutex mutex;
static const lock locks[] = {{"boost::shared_mutex", [] { mutex.lock(); }}};
#elif defined(WITH_OPENMP)
#include <omp.h>
static omp_lock_t lock_of_openmp;
static void make() { omp_init_lock(&lock_of_openmp); }
static const lock locks[] = {{"omp_set_lock", [] {
                                 static const bool made = (make(), true);
                                 (void)made;
                                 omp_set_lock(&lock_of_openmp);
                             }}};
#else
static std::counting_semaphore<> tokens(1);
static std::atomic<int> word;
static const lock locks[] = {{"std::counting_semaphore", [] { tokens.acquire(); }}, {"std::atomic::wait", [] {
                                 for (int free = 0; !word.compare_exchange_strong(free, 1); free = 0)
                                     word.wait(1);
                             }}};
#endif

static std::atomic<bool> held;

int main(int count, char **arguments)
{
    for (const lock &one : locks) {
        if (count < 2) {
            std::puts(one.name);
            continue;
        }
        if (std::strcmp(one.name, arguments[1]) != 0)
            continue;
        std::thread([&one] {
            one.take();
            held = true;
            pause();
        }).detach();
        while (!held)
            std::this_thread::yield();
        const pid_t child = fork();
        if (child == 0) {
            alarm(2);
            one.take();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        std::printf("%s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "went on");
        std::fflush(stdout);
        _exit(0);
    }
    return 0;
}
