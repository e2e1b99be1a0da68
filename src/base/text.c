/* base/text: see text.h. */
#include "config.h"

#include "base/text.h"

void fsafe_text_begin(struct fsafe_text *text, char *buffer, size_t capacity)
{
    text->buffer = buffer;
    text->capacity = capacity;
    text->length = 0;
}

void fsafe_text_char(struct fsafe_text *text, char c)
{
    if (text->length < text->capacity)
        text->buffer[text->length++] = c;
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

void fsafe_text_decimal(struct fsafe_text *text, unsigned long value)
{
    put_digits(text, value, 10);
}

void fsafe_text_hex(struct fsafe_text *text, unsigned long value)
{
    fsafe_text_string(text, "0x");
    put_digits(text, value, 16);
}

void fsafe_text_end_line(struct fsafe_text *text)
{
    if (text->length == text->capacity && text->length > 0)
        text->length--;
    fsafe_text_char(text, '\n');
}
