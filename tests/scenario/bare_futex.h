/* A wait without a limit by an instruction of the program's own: nothing is seen of it. */
#ifndef BARE_FUTEX_H
#define BARE_FUTEX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#if defined(__x86_64__) && defined(__LP64__)
static inline long bare_futex(uint32_t *word, int operation, uint32_t value)
{
    register const struct timespec *limit __asm__("r10") = NULL;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(SYS_futex), "D"(word), "S"(operation), "d"(value), "r"(limit)
                     : "rcx", "r11", "memory");
    return answer;
}
#define HAVE_BARE_FUTEX 1
#elif defined(__i386__)
static inline long bare_futex(uint32_t *word, int operation, uint32_t value)
{
    const struct timespec *limit = NULL;
    long answer;
    __asm__ volatile("int $0x80"
                     : "=a"(answer)
                     : "a"(SYS_futex), "b"(word), "c"(operation), "d"(value), "S"(limit)
                     : "memory");
    return answer;
}
#define HAVE_BARE_FUTEX 1
#elif defined(__aarch64__)
static inline long bare_futex(uint32_t *word, int operation, uint32_t value)
{
    register long number __asm__("x8") = SYS_futex;
    register long first __asm__("x0") = (long)word;
    register long second __asm__("x1") = operation;
    register long third __asm__("x2") = value;
    register long fourth __asm__("x3") = 0;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second), "r"(third), "r"(fourth) : "memory");
    return first;
}
#define HAVE_BARE_FUTEX 1
#endif

#endif
