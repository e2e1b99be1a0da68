/*
 * A thread has a lock of some library's when the process forks, and mostly nothing shows that it is a lock or who has
 * it; the child wants it, and hangs until its alarm. Which lock: by the first argument; without one, which there are.
 */
#include <atomic>
#include <latch>
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

/* The first who comes would have ended the wait of the second. */
static bool comes_first()
{
    static std::atomic<int> came;
    return came++ == 0;
}

#if defined(WITH_QT)
#include <QtCore/QMutex>
#include <QtCore/QReadWriteLock>
#include <QtCore/QSemaphore>
#include <QtCore/QWaitCondition>
static QReadWriteLock rwlock;
static QSemaphore tokens(1);
static QMutex mutex;
static QWaitCondition condition;
static const lock locks[] = {{"QReadWriteLock", [] { rwlock.lockForWrite(); }},
                             {"QSemaphore", [] { tokens.acquire(); }},
                             {"QWaitCondition", [] {
                                  if (!comes_first()) {
                                      mutex.lock();
                                      condition.wait(&mutex);
                                  }
                              }}};
#elif defined(WITH_GLIB)
#include <glib.h>
static gsize once;
static gint bits = 6; /* others are set */
static GMutex mutex;
static GCond condition;
/* The number of wake-ups that g_cond_wait sleeps on then looks like a mutex, or like a bit lock. */
template <int wakeups> static void wait_after_wakeups()
{
    if (comes_first())
        return;
    for (int i = 0; i < wakeups; i++)
        g_cond_signal(&condition);
    g_mutex_lock(&mutex);
    g_cond_wait(&condition, &mutex);
}
static const lock locks[] = {{"g_cond_wait, woken twice before", wait_after_wakeups<2>},
                             {"g_cond_wait, woken four times before", wait_after_wakeups<4>},
                             {"g_once_init_enter", [] { (void)g_once_init_enter(&once); }},
                             {"g_bit_lock", [] { g_bit_lock(&bits, 0); }}};
#elif defined(WITH_ABSL)
#include <absl/synchronization/mutex.h>
static absl::Mutex mutex;
static const lock locks[] = {{"absl::Mutex", [] { mutex.Lock(); }}};
#elif defined(WITH_NSPR)
#include <prinit.h>
#include <prmon.h>
static PRMonitor *monitor = PR_NewMonitor();
static const lock locks[] = {{"PRMonitor", [] { PR_EnterMonitor(monitor), PR_EnterMonitor(monitor); }}};
#elif defined(WITH_LIBXML2)
#include <libxml/threads.h>
static xmlRMutexPtr mutex = xmlNewRMutex();
static const lock locks[] = {{"xmlRMutex", [] { xmlRMutexLock(mutex), xmlRMutexLock(mutex); }}};
#elif defined(WITH_HDF5)
#include <hdf5.h>
static std::atomic<bool> calls_back;
static herr_t stay(hid_t, const char *, const H5L_info_t *, void *)
{
    calls_back = true;
    for (;;)
        pause();
}
/* Who comes first stays in a call, so that the lock is kept; main goes on when that calls back. */
static const lock locks[] = {{"HDF5", [] {
                                 if (!comes_first()) {
                                     H5Sclose(H5Screate(H5S_SCALAR));
                                     return;
                                 }
                                 const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
                                 H5Pset_fapl_core(access, 1 << 16, false);
                                 static hid_t file = H5Fcreate("none", H5F_ACC_TRUNC, H5P_DEFAULT, access);
                                 H5Gclose(H5Gcreate(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
                                 std::thread([] {
                                     H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, nullptr, stay, nullptr);
                                 }).detach();
                                 while (!calls_back)
                                     std::this_thread::yield();
                             }}};
#elif defined(WITH_KJ)
#include <kj/mutex.h>
static kj::MutexGuarded<int> guarded;
static kj::Lazy<int> once;
static std::atomic<bool> initialises;
template <class guard> static void keep(guard &&taken) { new guard(kj::mv(taken)); }
static void write() { *guarded.lockExclusive() = 1; }
static void read() { (void)*guarded.lockShared(); }
static int stay()
{
    initialises = true;
    for (;;)
        pause();
}
static const lock locks[] = {
    {"kj::Mutex, written", [] { comes_first() ? keep(guarded.lockExclusive()) : (write(), read(), write()); }},
    {"kj::Mutex, written, to be read", [] { comes_first() ? keep(guarded.lockExclusive()) : (read(), write()); }},
    {"kj::Mutex, read", [] { comes_first() ? keep(guarded.lockShared()) : (write(), read(), write()); }},
    {"kj::Once", [] {
         if (!comes_first()) {
             once.get([](kj::SpaceFor<int> &space) { return space.construct(1); });
             return;
         }
         std::thread([] { once.get([](kj::SpaceFor<int> &space) { return space.construct(stay()); }); }).detach();
         while (!initialises)
             std::this_thread::yield();
     }}};
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
static std::latch gate(1);
static const lock locks[] = {{"std::counting_semaphore", [] { tokens.acquire(); }},
                             {"std::atomic::wait", [] {
                                  for (int free = 0; !word.compare_exchange_strong(free, 1); free = 0)
                                      word.wait(1);
                              }},
                             {"std::latch", [] {
                                  if (!comes_first())
                                      gate.wait();
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
