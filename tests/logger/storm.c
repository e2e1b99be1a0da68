/* What daemon.py starts, bare and under the library.
 *
 *   storm CHILDREN SECONDS   four threads log without a pause while CHILDREN processes are forked, which log too; a
 *                            child that needs more than SECONDS hangs, and three that do are enough. Prints "hung N"
 *                            and, for each sender whose messages 0 to N - 1 must have arrived, "sent SENDER N". Its
 *                            last message is "storm over".
 *   storm --private COMMAND  runs COMMAND with a /dev of its own; 77 where that is not allowed. */
#include "private_dev.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>

enum { THREADS = 4, OF_A_CHILD = 3, OF_A_THREAD = 20000, ENOUGH = 3 };

static atomic_int stop, sent[THREADS];

static void *log_on(void *raw)
{
    const int self = (int)(long)raw;
    while (!atomic_load(&stop) && sent[self] < OF_A_THREAD) {
        syslog(LOG_INFO, "from thread%d number %d.", self, sent[self]);
        atomic_fetch_add(&sent[self], 1);
        usleep(20); /* or no child ever gets its turn: libc's lock is not fair */
    }
    return NULL;
}

static void be_child(int self, unsigned seconds, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    alarm(seconds);
    for (int i = 0; i < OF_A_CHILD; i++)
        syslog(LOG_WARNING, "from child%d number %d.", self, i);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--private") == 0) {
        if (!private_dev())
            return 77;
        execvp(argv[2], argv + 2);
        return 127;
    }
    if (argc != 3)
        return 2;
    const int children = atoi(argv[1]);
    const unsigned seconds = (unsigned)atoi(argv[2]);
    const pid_t parent = getpid();
    int hung = 0;
    pthread_t thread[THREADS];
    openlog("storm", LOG_PID, LOG_LOCAL5);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, log_on, (void *)i) != 0)
            return 2;
    for (int i = 0; i < THREADS; i++)
        while (atomic_load(&sent[i]) == 0)
            sched_yield();
    for (int i = 0; i < children && hung < ENOUGH; i++) {
        const pid_t child = fork();
        if (child == 0)
            be_child(i, seconds, parent);
        int status;
        while (waitpid(child, &status, 0) != child)
            ;
        if (status == 0)
            printf("sent child%d %d\n", i, OF_A_CHILD);
        hung += status != 0;
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        printf("sent thread%d %d\n", i, sent[i]);
    }
    syslog(LOG_INFO, "storm over");
    printf("hung %d\n", hung);
    return 0;
}
