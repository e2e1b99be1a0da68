/*
 * base/string: the small pure functions of <string.h>, hidden in this library. The loader would look up each that was
 * libc's in every program that starts; and those of a sanitizer in the program are not ready when we start. memcpy and
 * memset, which the compiler calls for long objects, are libc's.
 */
#include "config.h"

#include "base/compiler.h"

#include <stdint.h>
#include <string.h>

/* The names are in parentheses: they may be macros. Without NEXT a compiler turns the loop into a call of libc's. */
#define NEXT() FSAFE_ORDER()

size_t(strlen)(const char *string)
{
    size_t length = 0;
    for (; string[length] != '\0'; length++)
        NEXT();
    return length;
}

size_t(strnlen)(const char *string, size_t most)
{
    size_t length = 0;
    for (; length < most && string[length] != '\0'; length++)
        NEXT();
    return length;
}

int(strncmp)(const char *one, const char *other, size_t most)
{
    size_t i = 0;
    for (; i < most && one[i] == other[i] && one[i] != '\0'; i++)
        NEXT();
    return i == most ? 0 : (int)(unsigned char)one[i] - (unsigned char)other[i];
}

int(strcmp)(const char *one, const char *other)
{
    for (; *one == *other && *one != '\0'; one++, other++)
        NEXT();
    return (unsigned char)*one - (unsigned char)*other;
}

char *(strchr)(const char *string, int c)
{
    for (; *string != (char)c; string++) {
        if (*string == '\0')
            return NULL;
        NEXT();
    }
    return (char *)(uintptr_t)string;
}

char *(strrchr)(const char *string, int c)
{
    const char *found = NULL;
    for (; *string != '\0'; string++) {
        if (*string == (char)c)
            found = string;
        NEXT();
    }
    return (char *)(uintptr_t)(c == '\0' ? string : found);
}

char *(strstr)(const char *string, const char *part)
{
    size_t length = (strlen)(part);
    for (; (*part != '\0' && *string != *part) || (strncmp)(string, part, length) != 0; string++)
        if (*string == '\0')
            return NULL;
    return (char *)(uintptr_t)string;
}

void *(memchr)(const void *memory, int c, size_t bytes)
{
    const unsigned char *at = memory;
    for (; bytes > 0; at++, bytes--) {
        if (*at == (unsigned char)c)
            return (void *)(uintptr_t)at;
        NEXT();
    }
    return NULL;
}

int(memcmp)(const void *one, const void *other, size_t bytes)
{
    const unsigned char *a = one, *b = other;
    for (uintptr_t x, y; bytes >= sizeof x; a += sizeof x, b += sizeof y, bytes -= sizeof x) {
        __builtin_memcpy(&x, a, sizeof x);
        __builtin_memcpy(&y, b, sizeof y);
        if (x != y)
            break;
    }
    for (; bytes > 0 && *a == *b; a++, b++, bytes--)
        NEXT();
    return bytes == 0 ? 0 : *a - *b;
}
