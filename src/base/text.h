/*
 * base/text: builds one line in a caller's buffer; no stdio, no locale, no malloc.
 * What does not fit is cut; the buffer is never overrun. Context: any thread, signal handlers too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline const char *fsafe_text_last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

struct fsafe_text {
    char *buffer;
    size_t capacity;
    size_t length; /* bytes written, never above capacity */
    bool cut;      /* something did not fit */
};

void fsafe_text_begin(struct fsafe_text *text, char *buffer, size_t capacity);
void fsafe_text_char(struct fsafe_text *text, char c);
void fsafe_text_string(struct fsafe_text *text, const char *string);

/* Puts by a format of printf's: %s, and numbers that are not negative by %d, %u, %x, with l or z before the letter. */
void fsafe_text_put(struct fsafe_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How many bytes the UTF-8 character at `at` has; 0: it is none, a surrogate, not the shortest form, or too long. */
size_t fsafe_text_utf8_length(const unsigned char *at, size_t most);

/* As fsafe_text_string, but bytes that could break a line or a terminal become '?'; reads at most `most` bytes. */
void fsafe_text_clean(struct fsafe_text *text, const char *string, size_t most);

/* The day that is `days` after 1 January 1970; months count from 1. */
struct fsafe_date {
    unsigned long year;
    unsigned month, day;
};
struct fsafe_date fsafe_text_date(long days);

/* Seconds since 1970 and milliseconds as 2026-11-26T18:30:02.007Z. */
void fsafe_text_time(struct fsafe_text *text, unsigned long seconds, unsigned ms);

/*
 * The inside of a JSON string: UTF-8 stays, whatever else could end or break it becomes an escape, a byte that is no
 * UTF-8 becomes U+FFFD. Reads at most `most` bytes.
 */
void fsafe_text_json(struct fsafe_text *text, const char *string, size_t most);

/* Two digits of base 16 for each byte. */
void fsafe_text_bytes(struct fsafe_text *text, const unsigned char *bytes, size_t count);

/* Reads a number in base 10 or 16, lower-case, after blanks; 0x makes it base 16. Sets `*at` behind the number. */
uint64_t fsafe_text_read(const char **at, unsigned base);

/* Ends the line with a newline, over the last byte where the buffer is full. */
void fsafe_text_end_line(struct fsafe_text *text);
