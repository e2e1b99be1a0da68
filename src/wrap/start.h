/* wrap/start: the part of the start-up that waits until a process gets its second thread. */
#pragma once

/*
 * Learns what this libc's condition variables and barriers look like, at the first call. In a process that always has
 * one thread no thread can vanish inside them. Context: a thread about to make another.
 */
void fsafe_start_second_thread(void);
