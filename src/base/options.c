/* base/options: see options.h. */
#include "config.h"

#include "base/options.h"

#include <string.h>

/* Until they are read everything is zero but what a row says. */
struct fsafe_options fsafe_options = {
#define FSAFE_CHOICE(variable, field, words)
#define FSAFE_NUMBER(variable, field, usual, most) .field = usual,
#define FSAFE_STRING(variable, field, bytes)
#include "base/options.def"
#undef FSAFE_CHOICE
#undef FSAFE_NUMBER
#undef FSAFE_STRING
};

const char *fsafe_options_look_up(char *const *environment, const char *variable)
{
    size_t length = strlen(variable);
    for (; environment != NULL && *environment != NULL; environment++)
        if (**environment == *variable && strncmp(*environment, variable, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

/* Not strcspn: ThreadSanitizer's own, linked into the program, crashes this early. */
static size_t word_length(const char *words)
{
    size_t length = 0;
    while (words[length] != '\0' && words[length] != '|')
        length++;
    return length;
}

/* Returns the index of `value` among the words of "a|b|c", or -1. */
static int index_of(const char *value, const char *words)
{
    size_t length = strlen(value);
    for (int index = 0;; index++) {
        size_t word = word_length(words);
        if (word == length && strncmp(words, value, length) == 0)
            return index;
        if (words[word] == '\0')
            return -1;
        words += word + 1;
    }
}

static void read_choice(const char *variable, const char *value, int *field, const char *words,
                        fsafe_options_complain *complain)
{
    if (value == NULL || *value == '\0')
        return;
    int index = index_of(value, words);
    if (index >= 0)
        *field = index;
    else
        complain(variable, value, words);
}

static void read_number(const char *variable, const char *value, unsigned *field, unsigned usual, unsigned most,
                        fsafe_options_complain *complain)
{
    *field = usual;
    if (value == NULL || *value == '\0')
        return;
    unsigned long number = 0;
    const char *at = value;
    for (; *at >= '0' && *at <= '9' && number <= most; at++)
        number = number * 10 + (unsigned long)(*at - '0');
    if (*at == '\0' && number <= most)
        *field = (unsigned)number;
    else
        complain(variable, value, "a whole number in its range");
}

static void read_string(const char *variable, const char *value, char *field, size_t bytes,
                        fsafe_options_complain *complain)
{
    if (value == NULL)
        return;
    if (strlen(value) < bytes)
        strcpy(field, value);
    else
        complain(variable, value, "a shorter text");
}

void fsafe_options_read(char *const *environment, fsafe_options_complain *complain)
{
    memset(&fsafe_options, 0, sizeof fsafe_options);
#define FSAFE_CHOICE(variable, field, words) \
    read_choice(#variable, fsafe_options_look_up(environment, #variable), &fsafe_options.field, words, complain);
#define FSAFE_NUMBER(variable, field, usual, most) \
    read_number(#variable, fsafe_options_look_up(environment, #variable), &fsafe_options.field, usual, most, complain);
#define FSAFE_STRING(variable, field, bytes) \
    read_string(#variable, fsafe_options_look_up(environment, #variable), fsafe_options.field, bytes, complain);
#include "base/options.def"
#undef FSAFE_CHOICE
#undef FSAFE_NUMBER
#undef FSAFE_STRING
}
