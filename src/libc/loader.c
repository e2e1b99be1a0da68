/*
 * Measured, at a load of 14 on two processors. fork() renews the loading's lock in the child, so a child may find the
 * loader's data half changed: 60 to 107 of 300 children hung or crashed; with the lock held over the fork 0 of 600. To
 * ask for the lock is not enough: a thread that loads without end had it again before the forking thread was awake, 3
 * of 300 forks waited a second in vain and all 37 ms on average. So dlopen stops at the gate.
 */
#include "config.h"

#include "base/compiler.h"
#include "libc/late.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "libc/symbol.h"

#include <dlfcn.h>
#include <sys/auxv.h>

pthread_mutex_t *fsafe_loader_list_lock;
pthread_mutex_t *fsafe_loader_loading_lock;

static struct fsafe_loader_calls next;

struct search {
    void (*enter)(struct search *search); /* makes a call that calls visit() while it holds the lock */
    uintptr_t begin, end;                 /* the loader's data */
    int self;                             /* the calling thread, as libc names owners */
    unsigned depth;                       /* of such calls within each other */
    unsigned found;                       /* how many mutexes this thread holds once during the outer call */
    pthread_mutex_t *lock;
};

static FSAFE_INLINE bool is_held(const pthread_mutex_t *mutex, int self, unsigned times)
{
    /* Every program that starts asks this of a thousand places; the first question is enough for nearly all. */
    return fsafe_layout_mutex_may_be_of(mutex, self) && fsafe_layout_mutex_owner(mutex) == self &&
           fsafe_layout_mutex_kind(mutex) == FSAFE_MUTEX_RECURSIVE && fsafe_layout_mutex_locked(mutex) &&
           fsafe_layout_mutex_depth(mutex) == times;
}

/* Where the loader keeps what it writes. */
static int find_data(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    (void)size;
    if (info->dlpi_addr != getauxval(AT_BASE) || info->dlpi_addr == 0)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) != 0) {
            search->begin = (info->dlpi_addr + segment->p_vaddr + 15) & ~(uintptr_t)15;
            search->end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        }
    }
    return 1;
}

static void visit(struct search *search)
{
    if (++search->depth == 1) {
        const uintptr_t end = search->end - sizeof(pthread_mutex_t);
        const int self = search->self;
        for (uintptr_t at = search->begin; at <= end; at += sizeof(void *)) {
            pthread_mutex_t *mutex = (pthread_mutex_t *)at;
            if (FSAFE_UNLIKELY(is_held(mutex, self, 1))) {
                search->lock = mutex;
                search->found++;
            }
        }
        if (search->found == 1)
            search->enter(search);
    } else if (!is_held(search->lock, search->self, 2)) {
        search->found = 0;
    }
    search->depth--;
}

static int visit_in_callback(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info;
    (void)size;
    visit(data);
    return 1;
}

static void enter_iteration(struct search *search)
{
    next.iterate(visit_in_callback, search);
}

/* dlsym holds the lock while it asks which variant of an indirect function to use. Nobody calls this function. */
static struct search *choosing;
static void never_called(void) {}
static __attribute__((used)) void (*choose_probe(void))(void)
{
    if (choosing != NULL)
        visit(choosing);
    return never_called;
}
FSAFE_EXPORT void fsafe_loader_probe(void) __attribute__((ifunc("choose_probe")));

static void enter_choice(struct search *search)
{
    /* By a pointer: dlsym's declaration says that it calls nobody back, which the compiler would believe. */
    static void *(*volatile ask)(void *object, const char *name) = fsafe_late_dlsym;
    struct search *outer = choosing;
    choosing = search;
    ask(RTLD_DEFAULT, "fsafe_loader_probe");
    choosing = outer;
}

static pthread_mutex_t *find(struct search search)
{
    search.enter(&search);
    bool found = search.found == 1 && !fsafe_layout_mutex_locked(search.lock) &&
                 fsafe_layout_mutex_owner(search.lock) == 0 &&
                 fsafe_layout_mutex_kind(search.lock) == FSAFE_MUTEX_RECURSIVE;
    return found ? search.lock : NULL;
}

static FSAFE_APART void find_both(struct search search)
{
    search.enter = enter_iteration;
    fsafe_loader_list_lock = find(search);
    search.enter = enter_choice;
    fsafe_loader_loading_lock = find(search);
}

/* glibc has both in one variable of the loader's, a third of its data. The rest is searched if they are not there. */
void fsafe_loader_find(const struct fsafe_loader_calls *calls)
{
    struct search search = {0};
    next = *calls;
    if (!fsafe_layout.mutex_bytes)
        return;
    search.self = fsafe_layout_probe_owner();
    size_t bytes;
    uintptr_t variable = (uintptr_t)fsafe_symbol_variable("_rtld_global", &bytes);
    if (variable != 0) {
        search.begin = variable;
        search.end = variable + bytes;
        find_both(search);
    }
    if ((fsafe_loader_list_lock == NULL || fsafe_loader_loading_lock == NULL) && next.iterate(find_data, &search) == 1)
        find_both(search);
}

bool fsafe_loader_try(void)
{
    return fsafe_loader_loading_lock != NULL && next.trylock(fsafe_loader_loading_lock) == 0;
}

void fsafe_loader_release(void)
{
    next.unlock(fsafe_loader_loading_lock);
}

int fsafe_loader_owner(void)
{
    return fsafe_loader_loading_lock == NULL ? 0 : fsafe_layout_mutex_owner(fsafe_loader_loading_lock);
}
