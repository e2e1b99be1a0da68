/*
 * base/pages: memory of our own, from the kernel and never from malloc: the program may have a malloc that takes the
 * locks we watch. Context: any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Returns zeroed private memory of at least `bytes`, page-aligned, or NULL. errno kept. */
void *fsafe_pages_map(size_t bytes);

/* Gives back what fsafe_pages_map returned for the same `bytes`. errno kept. */
void fsafe_pages_unmap(void *pages, size_t bytes);

/*
 * Maps one page that the kernel zeroes in every forked child (MADV_WIPEONFORK, Linux 4.14); NULL where it cannot. A
 * child that shares our memory (vfork) sees the page unchanged. `emulated` becomes true in an emulator of another
 * processor that accepts every advice about pages and follows none (qemu-user 7.2).
 */
void *fsafe_pages_map_wiped(bool *emulated);

/* Maps zeroed pages that forked children share with their parent, or returns NULL. errno kept. */
void *fsafe_pages_map_shared(size_t bytes);
