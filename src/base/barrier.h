/* base/barrier: a barrier in all threads at once, so that what these threads do often needs none. */
#pragma once

/* Prepares the barriers. Context: start-up. */
void fsafe_barrier_start(void);

/* A full barrier in every running thread of the process, as if each had called it. */
void fsafe_barrier_everywhere(void);
