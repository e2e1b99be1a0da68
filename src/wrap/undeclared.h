/*
 * wrap/undeclared: prototypes of functions that libc exports and no header of its declares.
 */
#ifndef FSAFE_WRAP_UNDECLARED_H
#define FSAFE_WRAP_UNDECLARED_H

#include <pthread.h>
#include <unistd.h>

/* Names from before 2.34 and fork's second name: each is defined as the alias of our wrapper. */
#define FSAFE_SYMBOL(name)
#define FSAFE_ALIAS(name, of) extern __typeof__(of) name;
#include "wrap/symbols.def"
#undef FSAFE_SYMBOL
#undef FSAFE_ALIAS

/* gcc wants an alias to promise all that its target does; clang has no word for that and does not ask. */
#if defined(__has_attribute) && __has_attribute(copy)
#define FSAFE_LIKE(of) , copy(of)
#else
#define FSAFE_LIKE(of)
#endif

#define FSAFE_DEFINE_ALIAS(name, of) \
    FSAFE_EXPORT extern __typeof__(of) name __attribute__((alias(#of) FSAFE_LIKE(of)))

#endif
