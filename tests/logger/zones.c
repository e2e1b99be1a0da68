/* The stamp of our syslog client against libc's local time, for a year after libc was last asked. Links core; the
 * clock is ours. Speaks TAP. */
#include "standin/zone.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static time_t moment;

/* What the client reads, instead of the kernel's: linked with --wrap. */
bool __wrap_fsafe_sys_clock(clockid_t clock, struct timespec *now);
bool __wrap_fsafe_sys_clock(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = moment};
    return true;
}

static bool agrees(void)
{
    char ours[FSAFE_STAMP_BYTES], libcs[64];
    struct tm local;
    fsafe_zone_stamp(ours);
    localtime_r(&moment, &local);
    strftime(libcs, sizeof libcs, "%h %e %T ", &local);
    if (strcmp(ours, libcs) == 0)
        return true;
    printf("# %lld: libc \"%s\", ours \"%s\"\n", (long long)moment, libcs, ours);
    return false;
}

/* From `start` on for a year, at every kind of hour, and at each quarter of an hour around a change. */
static bool year_from(time_t start)
{
    enum { STEP = 5 * 60 * 60 + 7, QUARTER = 15 * 60 };
    moment = start;
    fsafe_zone_sample();
    struct tm local, next;
    for (; moment < start + 365 * 86400L; moment += STEP) {
        if (!agrees())
            return false;
        const time_t then = moment, later = then + STEP;
        if (localtime_r(&then, &local)->tm_gmtoff != localtime_r(&later, &next)->tm_gmtoff)
            for (; moment < later; moment += 1)
                if ((moment % QUARTER < 2 || moment % QUARTER == QUARTER - 1) && !agrees())
                    return false;
        moment = then;
    }
    return true;
}

int main(void)
{
    static const char *const zones[] = {
        "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Africa/Casablanca", "Australia/Lord_Howe",
        "Asia/Kathmandu", "Asia/Tehran", "Pacific/Apia", "Pacific/Kiritimati", "Antarctica/Troll", "America/Nuuk",
        "CET-1CEST,M3.5.0,M10.5.0/3", "AAA+12:34:56", "<-03>3<-02>,M3.5.0/-2,M10.5.0/-1", ":/nonexistent", ""};
    static const time_t starts[] = {0,          86400 * 58, 951782399,  1709164800,           1767225599,
                                    1795421000, 2145916800, 4102444799, (time_t)32503680000LL};
    int reported = 0;
    setenv("TZ", ":/nonexistent", 1);
    errno = 77;
    fsafe_zone_sample(); /* libc looks for the file */
    printf("%s %d - errno is the program's\n", errno == 77 ? "ok" : "not ok", ++reported);
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        bool good = true;
        setenv("TZ", zones[i], 1);
        tzset();
        for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++)
            good = year_from(starts[k]) && good;
        printf("%s %d - a year in \"%s\", nine times\n", good ? "ok" : "not ok", ++reported, zones[i]);
    }
    printf("1..%d\n", reported);
    return 0;
}
