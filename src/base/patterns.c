#include "config.h"

#include "base/patterns.h"

#include <stddef.h>

static bool is_end(char c)
{
    return c == '\0' || c == ',' || c == ':';
}

/* Whether the first pattern is `name`. If what follows a * does not match, the * takes one character more. */
static bool match(const char *pattern, const char *name)
{
    const char *star = NULL, *taken = NULL;
    while (*name != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            taken = name;
        } else if (!is_end(*pattern) && (*pattern == '?' || *pattern == *name)) {
            pattern++;
            name++;
        } else if (star != NULL) {
            pattern = star;
            name = ++taken;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return is_end(*pattern);
}

bool fsafe_patterns_match(const char *patterns, const char *name)
{
    bool begins = true;
    for (; *name != '\0' && *patterns != '\0'; patterns++) {
        if (begins && match(patterns, name))
            return true;
        begins = is_end(*patterns);
    }
    return false;
}
