/* track/slots: claims slots for threads that join. What others may ask of slots is in thread.h. Within track only. */
#pragma once

#include "track/thread.h"

/* `clear`: see struct fsafe_thread_calls. Context: start-up. */
void fsafe_slots_start(void (*clear)(struct fsafe_thread *vanished));

/*
 * A slot that nobody needs any more, or of new memory; NULL: there is none. It is marked FSAFE_JOINING and has a
 * ticket. Context: any thread, signals blocked.
 */
struct fsafe_thread *fsafe_slots_claim(void);

/* The generation in which the slot's thread lives; 0: the slot is free. Context: its thread. */
FSAFE_AT_FORK void fsafe_slots_set_generation(struct fsafe_thread *thread, uint32_t generation);
