#include "config.h"

#include "base/latch.h"
#include "base/text.h"
#include "standin/zone.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { DAY = 24 * 60 * 60, STEP = 5 * DAY, AHEAD = 370 * DAY, RENEW = 180 * DAY, CHANGES = 8 };

struct zone {
    bool known; /* libc was asked */
    time_t made;
    long offset; /* seconds east of UTC when it was made */
    unsigned count;
    struct {
        time_t at;
        long offset;
    } changes[CHANGES];
};

/* One of two is valid: a child of a fork in the middle of a change has the old one. Changed under the latch. */
static struct zone zones[2];
static _Atomic unsigned valid;
static struct fsafe_latch latch = FSAFE_LATCH_FREE;
static _Atomic time_t sampled = -1;

static time_t now(void)
{
    struct timespec moment;
    fsafe_sys_clock(CLOCK_REALTIME_COARSE, &moment); /* time()'s clock, and syslog's */
    return moment.tv_sec;
}

static long offset_at(const struct zone *zone, time_t moment)
{
    long offset = zone->offset;
    for (unsigned i = 0; i < zone->count && zone->changes[i].at <= moment; i++)
        offset = zone->changes[i].offset;
    return offset;
}

static long libc_offset_at(time_t moment)
{
    struct tm local;
    return localtime_r(&moment, &local) != NULL ? local.tm_gmtoff : 0;
}

static struct zone recall(void)
{
    FSAFE_HOLD(&latch);
    return zones[atomic_load_explicit(&valid, memory_order_acquire)];
}

static void keep(const struct zone *zone)
{
    FSAFE_HOLD(&latch);
    unsigned other = !atomic_load_explicit(&valid, memory_order_relaxed);
    zones[other] = *zone;
    atomic_store_explicit(&valid, other, memory_order_release);
}

/* The first second in (from, to] with another offset than `offset`, which is that of `from`; `to` has another. */
static time_t change_between(time_t from, long offset, time_t to)
{
    while (to - from > 1) {
        time_t middle = from + (to - from) / 2;
        if (libc_offset_at(middle) == offset)
            from = middle;
        else
            to = middle;
    }
    return to;
}

static void look_ahead(struct zone *zone)
{
    long offset = zone->offset;
    for (time_t at = zone->made; at < zone->made + AHEAD && zone->count < CHANGES; at += STEP) {
        long next = libc_offset_at(at + STEP);
        if (next == offset)
            continue;
        zone->changes[zone->count].at = change_between(at, offset, at + STEP);
        zone->changes[zone->count++].offset = offset = next;
    }
}

void fsafe_zone_sample(void)
{
    time_t moment = now();
    if (atomic_load_explicit(&sampled, memory_order_relaxed) == moment ||
        atomic_exchange_explicit(&sampled, moment, memory_order_relaxed) == moment)
        return;
    int saved = errno;
    struct zone zone = recall();
    long offset = libc_offset_at(moment);
    if (!zone.known || moment < zone.made || moment - zone.made > RENEW || offset_at(&zone, moment) != offset) {
        memset(&zone, 0, sizeof zone);
        zone.known = true;
        zone.made = moment;
        zone.offset = offset;
        keep(&zone); /* the thread may vanish while it looks ahead */
        look_ahead(&zone);
        keep(&zone);
    }
    errno = saved;
}

static FSAFE_APART char *put_two(char *at, long value, char fill)
{
    *at++ = value < 10 ? fill : (char)('0' + value / 10);
    *at++ = (char)('0' + value % 10);
    return at;
}

void fsafe_zone_stamp(char stamp[FSAFE_STAMP_BYTES])
{
    time_t moment = now();
    struct zone zone = recall();
    /* If libc was never asked: its standard time, which is UTC if it never read the zone. */
    long offset = zone.known ? offset_at(&zone, moment) : -timezone;
    long long local = (long long)moment + offset;
    long second = (long)((local % DAY + DAY) % DAY); /* a clock that was never set may be before 1970 here */
    const struct fsafe_date date = fsafe_text_date((long)((local - second) / DAY));
    memcpy(stamp, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * (date.month - 1)], 3);
    char *at = stamp + 3;
    *at++ = ' ';
    at = put_two(at, (long)date.day, ' ');
    *at++ = ' ';
    at = put_two(at, second / 3600, '0');
    *at++ = ':';
    at = put_two(at, second / 60 % 60, '0');
    *at++ = ':';
    at = put_two(at, second % 60, '0');
    *at++ = ' ';
    *at = '\0';
}

void fsafe_zone_adopt(void)
{
    fsafe_latch_reset(&latch);
}
