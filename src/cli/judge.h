/*
 * cli/judge: which lock a thread of another process sleeps on, which thread has that lock, and whether only the parent
 * has that thread; or for what else the thread may wait that only a thread of the parent's would do.
 */
#pragma once

#include <stdbool.h>

/* Whether a process hangs because of a fork. */
enum fsafe_judgement { FSAFE_BECAUSE_OF_FORK, FSAFE_NOT_BECAUSE, FSAFE_CANNOT_TELL };

/* Looks at one thread, its system call, its stack and its lock, and prints what it finds. */
enum fsafe_judgement fsafe_judge_thread(long pid, long tid);

/* Whether the thread waits for a lock, or for data that nobody else can write. */
bool fsafe_judge_may_hang(long pid, long tid);
