#include "config.h"

#include "cli/process.h"

#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

FILE *fsafe_process_open(long pid, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    return fopen(path, "re");
}

static FILE *open_of_thread(long pid, long tid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "task/%ld/%s", tid, name);
    return fsafe_process_open(pid, path);
}

/* The last number of a line "word:<tab>number<tab>number"; `otherwise`: there is no such line. Closes the file. */
static long last_number(FILE *file, const char *word, long otherwise)
{
    char line[256];
    size_t length = strlen(word);
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, word, length) == 0 && line[length] == ':' && strrchr(line, '\t') != NULL)
            otherwise = strtol(strrchr(line, '\t'), NULL, 10);
    if (file != NULL)
        fclose(file);
    return otherwise;
}

long fsafe_process_status(long pid, const char *word)
{
    return last_number(fsafe_process_open(pid, "status"), word, 0);
}

bool fsafe_process_has_handler(long pid)
{
    static const int others[] = {SIGINT,  SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP,   SIGSYS,
                                 SIGABRT, SIGPIPE, SIGXFSZ, SIGXCPU, SIGPROF, SIGVTALRM, 32, 33, 34};
    unsigned long long blocked = 0, caught = 0;
    char line[256];
    FILE *file = fsafe_process_open(pid, "status");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "SigBlk: %llx", &blocked);
        sscanf(line, "SigCgt: %llx", &caught);
    }
    if (file != NULL)
        fclose(file);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        caught &= ~(1ULL << (others[i] - 1));
    return (caught & ~blocked) != 0;
}

long fsafe_process_own_id(long pid, long tid)
{
    return last_number(open_of_thread(pid, tid, "status"), "NSpid", tid);
}

/* "id (name) state parent group session terminal its-group flags ..."; the name may contain anything. */
bool fsafe_process_is_fork(long pid)
{
    enum { FORKED_WITHOUT_EXEC = 0x40 };
    char line[512] = "";
    unsigned flags = FORKED_WITHOUT_EXEC;
    FILE *file = fsafe_process_open(pid, "stat");
    if (file != NULL && fgets(line, sizeof line, file) != NULL && strrchr(line, ')') != NULL)
        sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %u", &flags);
    if (file != NULL)
        fclose(file);
    return (flags & FORKED_WITHOUT_EXEC) != 0;
}

void fsafe_process_thread_name(long pid, long tid, char name[64])
{
    FILE *file = open_of_thread(pid, tid, "comm");
    if (file == NULL || fgets(name, 64, file) == NULL)
        strcpy(name, "?");
    name[strcspn(name, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

void fsafe_process_each(void (*see)(long pid, void *context), void *context)
{
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]))
            see(strtol(entry->d_name, NULL, 10), context);
    if (processes != NULL)
        closedir(processes);
}

bool fsafe_process_each_thread(long pid, bool (*see)(long tid, void *context), void *context)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return false;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]) && !see(strtol(entry->d_name, NULL, 10), context))
            break;
    closedir(tasks);
    return true;
}

struct search {
    long pid, own, found;
};

static bool see_thread(long tid, void *context)
{
    struct search *search = context;
    if (fsafe_process_own_id(search->pid, tid) == search->own)
        search->found = tid;
    return search->found == 0;
}

long fsafe_process_find_thread(long pid, long own)
{
    struct search search = {.pid = pid, .own = own};
    fsafe_process_each_thread(pid, see_thread, &search);
    return search.found;
}

bool fsafe_process_peek(long pid, uint64_t from, void *into, size_t bytes)
{
    struct iovec local = {.iov_base = into, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
    return process_vm_readv((pid_t)pid, &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}

bool fsafe_process_call(long pid, long tid, struct fsafe_process_call *call)
{
    memset(call, 0, sizeof *call);
    FILE *file = open_of_thread(pid, tid, "syscall");
    if (file == NULL)
        return false;
    unsigned long *arguments = call->arguments;
    int fields = fscanf(file, "%ld %lx %lx %lx %lx %lx %lx %lx", &call->number, arguments, arguments + 1,
                        arguments + 2, arguments + 3, arguments + 4, arguments + 5, &call->stack);
    int why = ferror(file) ? errno : 0;
    fclose(file);
    errno = why;
    if (fields < 8)
        call->number = -1; /* it runs */
    return why == 0;
}

unsigned fsafe_process_address_bytes(long pid)
{
    unsigned char head[EI_NIDENT] = {0};
    FILE *file = fsafe_process_open(pid, "exe");
    bool known = file != NULL && fread(head, sizeof head, 1, file) == 1;
    if (file != NULL)
        fclose(file);
    return !known ? sizeof(void *) : head[EI_CLASS] == ELFCLASS32 ? 4 : 8;
}

bool fsafe_process_is_futex(long pid, const struct fsafe_process_call *call)
{
#if (defined(__x86_64__) && defined(__LP64__)) || defined(__aarch64__)
    enum { FUTEX_32 = 240, FUTEX_TIME64_32 = 422 }; /* i386 and arm */
    if ((call->number == FUTEX_32 || call->number == FUTEX_TIME64_32) && fsafe_process_address_bytes(pid) == 4)
        return true;
#endif
#ifdef SYS_futex_time64
    if (call->number == SYS_futex_time64)
        return true;
#endif
    (void)pid;
    return call->number == SYS_futex;
}
