/*
 * python/owners: RLocks up to 3.13 name their owner by its pthread_t, and a child's new thread may get that of a
 * vanished one, because libc gives it that thread's stack: then the lock looks like its own. The new thread enters the
 * critical section, beside a thread that takes the lock over, and its release frees the lock. (tests/python/state.py
 * owners: on 3.11 and 3.13 two were inside, and the child hung at the end.) The semaphore inside the RLock tells the
 * two apart: its words have a ticket, which no second thread gets.
 *
 * From 3.14 on an RLock is a lock of python/locks, which looks at the mark.
 */
#pragma once

/*
 * From here on, in this process and its children, the methods that look at the owner go through functions of ours,
 * which cost a call more. Context: child, about to make a thread; has the GIL, any Python code may run.
 */
void fsafe_python_owners_start(void);
