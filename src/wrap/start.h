/* wrap/start: the part of the start-up that waits until a process gets its second thread. */
#pragma once

/*
 * Asks this libc what its condition variables and barriers look like. A process that always has one thread leaves
 * nothing behind in them. Context: a thread about to make another, any number of times.
 */
void fsafe_start_second_thread(void);
