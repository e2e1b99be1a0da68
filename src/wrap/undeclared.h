/* wrap/undeclared: prototypes of functions that libc exports and that none of its headers declares. */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#ifdef FSAFE_LIBC_GLIBC
#include "wrap/prototypes.h"
#endif

/* Names from before 2.34 and fork's second name: each is defined as the alias of our wrapper. */
#define FSAFE_SYMBOL(name)
#define FSAFE_ALIAS(name, of) extern __typeof__(of) name;
#include "wrap/symbols.def"

/* The C++ ABI's. A guard is 64 bits, zero at first. */
#if defined(__LP64__) || defined(__i386__)
int __cxa_guard_acquire(uint64_t *guard);
void __cxa_guard_release(uint64_t *guard);
void __cxa_guard_abort(uint64_t *guard);
#endif

/* gcc warns unless an alias has all attributes of its target; clang has no such attribute and does not warn. */
#if defined(__has_attribute) && __has_attribute(copy)
#define FSAFE_LIKE(of) , copy(of)
#else
#define FSAFE_LIKE(of)
#endif

#define FSAFE_DEFINE_ALIAS(name, of) \
    FSAFE_EXPORT extern __typeof__(of) name __attribute__((alias(#of) FSAFE_LIKE(of)))
