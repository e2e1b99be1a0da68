#include "config.h"

#include "base/text.h"

#include <stdarg.h>

void fsafe_text_begin(struct fsafe_text *text, char *buffer, size_t capacity)
{
    *text = (struct fsafe_text){.buffer = buffer, .capacity = capacity};
}

void fsafe_text_char(struct fsafe_text *text, char c)
{
    if (text->length < text->capacity)
        text->buffer[text->length++] = c;
    else
        text->cut = true;
}

void fsafe_text_string(struct fsafe_text *text, const char *string)
{
    while (*string)
        fsafe_text_char(text, *string++);
}

void fsafe_text_clean(struct fsafe_text *text, const char *string, size_t most)
{
    for (; most > 0 && *string; most--, string++) {
        unsigned char c = (unsigned char)*string;
        fsafe_text_char(text, c < ' ' || c == 0x7f || c == '"' ? '?' : (char)c);
    }
}

size_t fsafe_text_utf8_length(const unsigned char *at, size_t most)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
    if (length > most)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

void fsafe_text_bytes(struct fsafe_text *text, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fsafe_text_char(text, "0123456789abcdef"[bytes[i] >> 4]);
        fsafe_text_char(text, "0123456789abcdef"[bytes[i] & 15]);
    }
}

void fsafe_text_json(struct fsafe_text *text, const char *string, size_t most)
{
    while (most > 0 && *string) {
        size_t length = fsafe_text_utf8_length((const unsigned char *)string, most);
        if (length == 0) {
            fsafe_text_string(text, "\\ufffd");
            length = 1;
        } else if (*string == '"' || *string == '\\') {
            fsafe_text_char(text, '\\');
            fsafe_text_char(text, *string);
        } else if ((unsigned char)*string < ' ' || *string == 0x7f) {
            fsafe_text_string(text, "\\u00");
            fsafe_text_bytes(text, (const unsigned char *)string, 1);
        } else {
            for (size_t i = 0; i < length; i++)
                fsafe_text_char(text, string[i]);
        }
        string += length;
        most -= length;
    }
}

static void put_digits(struct fsafe_text *text, unsigned long value, unsigned base)
{
    char digits[3 * sizeof value];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n > 0)
        fsafe_text_char(text, digits[--n]);
}

void fsafe_text_put(struct fsafe_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            fsafe_text_char(text, *format);
            continue;
        }
        bool is_word = *++format == 'l' || *format == 'z';
        format += is_word;
        if (*format == 's')
            fsafe_text_string(text, va_arg(arguments, const char *));
        else
            put_digits(text, is_word ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned),
                       *format == 'x' ? 16 : 10);
    }
    va_end(arguments);
}

static void put_field(struct fsafe_text *text, unsigned long value, unsigned long first, char behind)
{
    for (; first > 0; first /= 10)
        fsafe_text_char(text, (char)('0' + value / first % 10));
    fsafe_text_char(text, behind);
}

/* gmtime would take libc's lock of time zones. Years begin in March here, so that the leap day is the last day. */
struct fsafe_date fsafe_text_date(long days)
{
    enum { FOUR_CENTURIES = 146097, CENTURY = 36524, FOUR_YEARS = 1461, YEAR = 365 };
    unsigned long day = (unsigned long)(days + 719468) /* from March 1 of the year 0 */, era = day / FOUR_CENTURIES;
    day %= FOUR_CENTURIES;
    unsigned long year = (day - day / (FOUR_YEARS - 1) + day / CENTURY - day / (FOUR_CENTURIES - 1)) / YEAR;
    day -= YEAR * year + year / 4 - year / 100;
    unsigned long month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    return (struct fsafe_date){.year = era * 400 + year + (month >= 10),
                               .month = (unsigned)(month < 10 ? month + 3 : month - 9), .day = (unsigned)day + 1};
}

void fsafe_text_time(struct fsafe_text *text, unsigned long seconds, unsigned ms)
{
    const struct fsafe_date date = fsafe_text_date((long)(seconds / (24 * 60 * 60)));
    put_field(text, date.year, 1000, '-');
    put_field(text, date.month, 10, '-');
    put_field(text, date.day, 10, 'T');
    put_field(text, seconds / 3600 % 24, 10, ':');
    put_field(text, seconds / 60 % 60, 10, ':');
    put_field(text, seconds % 60, 10, '.');
    put_field(text, ms, 100, 'Z');
}

uint64_t fsafe_text_read(const char **at, unsigned base)
{
    uint64_t value = 0;
    while (**at == ' ' || **at == '\t')
        ++*at;
    if ((*at)[0] == '0' && (*at)[1] == 'x') {
        *at += 2;
        base = 16;
    }
    for (;; ++*at) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
        if (digit >= base)
            return value;
        value = value * base + digit;
    }
}

void fsafe_text_end_line(struct fsafe_text *text)
{
    if (text->length == text->capacity && text->length > 0)
        text->length--;
    fsafe_text_char(text, '\n');
}
