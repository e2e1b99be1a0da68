/*
 * A small real program for the company it is put into: another preloaded library, a sanitizer, a debugger, a sandbox.
 * It needs no header of ours, because the tests compile it themselves, with flags of their own.
 *
 *     victim held SECONDS          a thread holds a mutex, main forks, the child wants it: bare it hangs
 *     victim storm FORKS SECONDS [BLOCKS]
 *                                  two threads are busy with a mutex, malloc and libc's time zone while main forks
 *     victim plain                 right without help: threads, conditions, fork, exec, popen
 *     victim many                  right without help: one thread holds very many locks, and lets go of them
 *
 * SECONDS is what a child is given before its alarm ends it. Exit status 0 if all was right.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t taken, release;
static volatile int stop;
static unsigned blocks = 1; /* that each thread of the storm has at a time, up to 16 */

static int wrong;

static void check(int right, const char *what)
{
    printf("%s: %s\n", what, right ? "right" : "WRONG");
    fflush(stdout);
    wrong += !right;
}

static void *hold(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    sem_post(&taken);
    sem_wait(&release);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *use(void *number)
{
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        char *text = malloc(100 + (size_t)i);
        memset(text, i, 100 + (size_t)i);
        free(text);
        ++*(int *)number;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* No malloc outside the lock: tcmalloc has spin locks of its own, inline, which no drain can see. */
static void *churn(void *unused)
{
    (void)unused;
    for (unsigned i = 0; !stop; i++) {
        struct tm tm;
        time_t now = (time_t)i;
        char *texts[16];
        pthread_mutex_lock(&lock);
        for (unsigned k = 0; k < blocks; k++) {
            texts[k] = malloc(1 + (i + 3001 * k) % 50000); /* large ones, too: allocators lock for those */
            *(volatile char *)texts[k] = 1;
        }
        localtime_r(&now, &tm);
        for (unsigned k = 0; k < blocks; k++)
            free(texts[k]);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static int has_two_threads_count(void)
{
    int number = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, use, &number) != 0)
        return 0;
    use(&number);
    pthread_join(thread, NULL);
    return number == 200;
}

static int ended_with(pid_t pid)
{
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void held(unsigned seconds)
{
    pthread_t thread;
    sem_init(&taken, 0, 0);
    sem_init(&release, 0, 0);
    pthread_create(&thread, NULL, hold, NULL);
    sem_wait(&taken);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(seconds);
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        _exit(has_two_threads_count() ? 7 : 1);
    }
    check(ended_with(pid) == 7, "child");
    check(pthread_mutex_trylock(&lock) != 0, "parent's thread still holds it");
    sem_post(&release);
    pthread_join(thread, NULL);
    check(pthread_mutex_lock(&lock) == 0 && pthread_mutex_unlock(&lock) == 0, "parent got it after the thread");
}

static void storm(int forks, unsigned seconds)
{
    pthread_t threads[2];
    int right = 0;
    tzset(); /* or the first localtime_r mallocs inside libc's lock: see jemalloc in src/README */
    pthread_create(&threads[0], NULL, churn, NULL);
    pthread_create(&threads[1], NULL, churn, NULL);
    for (int i = 0; i < forks; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct tm tm;
            time_t now = 0;
            alarm(seconds);
            pthread_mutex_lock(&lock);
            free(malloc(3000));
            localtime_r(&now, &tm);
            pthread_mutex_unlock(&lock);
            setenv("VICTIM", "child", 1);
            _exit(7);
        }
        int end = ended_with(pid);
        if (end != 7)
            printf("child %d ended with %d\n", i, end);
        right += end == 7;
    }
    stop = 1;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("%d of %d children\n", right, forks);
    check(right == forks, "storm");
}

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *own)
{
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != *(int *)own)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void plain(void)
{
    pthread_t threads[2];
    int parity[] = {0, 1};
    char line[20] = "";
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, take_turns, &parity[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    check(turn == 100, "turns");
    pid_t pid = fork();
    if (pid == 0)
        _exit(has_two_threads_count() ? 7 : 1);
    check(ended_with(pid) == 7, "child with threads");
    pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 5", (char *)NULL);
        _exit(1);
    }
    check(ended_with(pid) == 5, "child that execs");
    FILE *stream = popen("echo popen", "r");
    check(stream != NULL && fgets(line, sizeof line, stream) != NULL && strcmp(line, "popen\n") == 0 &&
              pclose(stream) == 0, "popen");
    check(system("exit 3") >> 8 == 3, "system");
}

static void many(void)
{
    enum { LOCKS = 200 };
    static pthread_mutex_t locks[LOCKS];
    static sem_t tokens[LOCKS];
    int right = 0;
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&locks[i], NULL);
        sem_init(&tokens[i], 0, 1);
        right += pthread_mutex_lock(&locks[i]) == 0 && sem_wait(&tokens[i]) == 0;
    }
    check(right == LOCKS, "taken");
    pid_t pid = fork();
    for (int i = 0; i < LOCKS; i++) {
        right -= pthread_mutex_unlock(&locks[i]) == 0 && sem_post(&tokens[i]) == 0;
        pthread_mutex_destroy(&locks[i]);
    }
    if (pid == 0)
        _exit(right == 0 ? 7 : 1);
    check(ended_with(pid) == 7, "child");
    check(right == 0, "released");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "held") == 0)
        held((unsigned)atoi(argv[2]));
    else if (strcmp(what, "storm") == 0) {
        blocks = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
        storm(atoi(argv[2]), (unsigned)atoi(argv[3]));
    } else if (strcmp(what, "plain") == 0)
        plain();
    else if (strcmp(what, "many") == 0)
        many();
    else
        return 2;
    return wrong != 0;
}
