/* Storms: threads that make libc calls without pause, a process that forks meanwhile, children that make them too.
 *
 * A victim is a table of rows (storm_rows). `run` starts each row bare, to see how many children hang, and under the
 * library, where none may. A victim never knows which of the two it is: every result that can be checked is checked,
 * in the children and in the parent.
 *
 * What the storm itself needs keeps away from libc's locks: counters are atomics, what a child tells lies in shared
 * memory, each child carries an alarm that ends it, and the parent ends by pid a child that outlives its alarm.
 */
#ifndef STORM_H
#define STORM_H

#include <stdbool.h>
#include <stddef.h>

/* Who makes a call: one worker thread of the parent, or a child. */
struct storm_seat {
    bool is_child;
    unsigned number; /* of the worker, or of the child */
    unsigned long round;
};

enum {
    STORM_CHILD = 1,  /* only children make this call */
    STORM_WORKER = 2, /* only workers do */
    STORM_ENDS = 4,   /* a child's last call: it does not return */
    STORM_APART = 8,  /* not by the workers of the row that runs all at once: it would break other rows' calls */
    STORM_SLOW = 16   /* starts processes or threads: in the row that runs all at once, made now and then */
};

struct storm_call {
    const char *name;
    bool (*make)(const struct storm_seat *seat); /* false: a wrong result */
    unsigned flags;
};

struct storm_row {
    const char *name;
    const struct storm_call *calls; /* up to one without a name; NULL: those of all rows */
    /* Runs once before there are threads; returns why the row cannot run here, or NULL. */
    const char *(*prepare)(void);
    void (*end)(void); /* after the last thread and child, whatever happened */
    unsigned threads;  /* 0: as --threads says */
    unsigned forkers;  /* threads that fork; 0: the main thread */
    bool is_apart;     /* not part of the row that runs all at once */
};

/* Each victim defines this: its rows, up to one without a name. */
extern const struct storm_row storm_rows[];

/* A wrong result. errno is told with it. */
#define STORM_CHECK(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return storm_is_wrong(#condition, __LINE__);                                                               \
    } while (0)
bool storm_is_wrong(const char *condition, int line); /* returns false */

/* How many forks there have been. For calls that use up memory and must not outrun the forks. */
unsigned long storm_forks(void);

/* Is there where tests/surroundings/apart has made an /etc for the tests; holds files that only they need. */
#define STORM_ETC "/etc/forksafe-test"

/* For a row that resolves, logs or reads what the machine has in /etc. Returns why it cannot run, or NULL. */
const char *storm_needs_etc(void);

#endif
