/*
 * repair/secluded: whether a wait of a child's for descriptors can be ended by this process alone. That is so where the
 * child itself has made each of them, as one end of a pair of sockets whose other end it has, too, and has made no
 * process since: asyncio's loop waits for nothing else when the child has given work to an executor's thread that only
 * the parent has. Of other descriptors the parent, or anybody, may have the other end.
 */
#pragma once

#include <stdbool.h>

/* Slow; errno kept. Context: child, alone. */
bool fsafe_secluded_epoll(int epoll);
