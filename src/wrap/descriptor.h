/*
 * wrap/descriptor: a program that gives itself another stderr calls dup2, dup3 or freopen. A descriptor 2 that it gets
 * in another way is a file of its own, and no line of ours goes there.
 */
#pragma once

/* One of these calls has returned `descriptor`, or failed with -1. errno kept. */
void fsafe_descriptor_note(int descriptor);
