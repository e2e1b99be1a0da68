/* The moment that lies so many microseconds from now, by that clock. */
#pragma once

#include <time.h>

static inline struct timespec moment_in_us(clockid_t clock, long long us)
{
    struct timespec then;
    clock_gettime(clock, &then);
    then.tv_sec += (time_t)(us / 1000000);
    then.tv_nsec += (long)(us % 1000000) * 1000;
    if (then.tv_nsec >= 1000000000) {
        then.tv_sec++;
        then.tv_nsec -= 1000000000;
    }
    return then;
}
