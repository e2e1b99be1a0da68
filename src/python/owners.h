/*
 * python/owners: RLocks up to 3.13 name their owner by its pthread_t, and a child's new thread may get that of a
 * vanished one, because libc gives it the stack: then the lock looks like its own. It goes in without a word, beside
 * whoever takes the lock over, and a release frees it. (tests/python/state.py owners: on 3.11 and 3.13 two were inside,
 * and the child hung at the end.) The semaphore inside knows better: its words bear a ticket, which nobody gets twice.
 *
 * From 3.14 on an RLock is a lock of python/locks, which looks at the mark.
 */
#ifndef FSAFE_PYTHON_OWNERS_H
#define FSAFE_PYTHON_OWNERS_H

/*
 * Leads the methods that look at the owner through functions of ours: from here on, in this process and its children.
 * What runs there only costs a call more. Context: child, about to make a thread; has the GIL, any Python code may run.
 */
void fsafe_python_owners_start(void);

#endif
