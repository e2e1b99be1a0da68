#include "config.h"

#include "base/options.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Before they are read, numbers have their defaults and all else is zero. */
struct fsafe_options fsafe_options = {
#define FSAFE_CHOICE(variable, field, words)
#define FSAFE_NUMBER(variable, field, usual, most) .field = usual,
#define FSAFE_STRING(variable, field, bytes)
#include "base/options.def"
};

const char *fsafe_options_look_up(char *const *environment, const char *variable)
{
    size_t length = strlen(variable);
    for (; environment != NULL && *environment != NULL; environment++)
        if (**environment == *variable && strncmp(*environment, variable, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

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

/* The value in the environment, or "" when it is not there. */
static char *find_value(char *const *environment, const char *variable)
{
    static char none[1];
    const char *value = fsafe_options_look_up(environment, variable);
    return value != NULL ? (char *)(uintptr_t)value : none;
}

static void refuse(const char *variable, char *value, const char *expected, const char *usual,
                   fsafe_options_complain *complain)
{
    complain(variable, value, expected, usual);
    *value = '\0';
}

static void read_choice(const char *variable, char *value, int *field, const char *words,
                        fsafe_options_complain *complain)
{
    if (*value == '\0')
        return;
    int index = index_of(value, words);
    if (index >= 0) {
        *field = index;
        return;
    }
    char usual[32];
    size_t length = word_length(words);
    memcpy(usual, words, length);
    usual[length] = '\0';
    refuse(variable, value, words, usual, complain);
}

static void read_number(const char *variable, char *value, unsigned *field, unsigned usual, unsigned most,
                        fsafe_options_complain *complain)
{
    *field = usual;
    if (*value == '\0')
        return;
    unsigned long number = 0;
    const char *at = value;
    for (; *at >= '0' && *at <= '9' && number <= most; at++)
        number = number * 10 + (unsigned long)(*at - '0');
    if (*at == '\0' && number <= most) {
        *field = (unsigned)number;
        return;
    }
    char range[64], standard[16];
    struct fsafe_text text;
    fsafe_text_begin(&text, range, sizeof range - 1);
    fsafe_text_put(&text, "a whole number from 0 to %u", most);
    range[text.length] = '\0';
    fsafe_text_begin(&text, standard, sizeof standard - 1);
    fsafe_text_put(&text, "%u", usual);
    standard[text.length] = '\0';
    refuse(variable, value, range, standard, complain);
}

static void read_string(const char *variable, char *value, char *field, size_t bytes, fsafe_options_complain *complain)
{
    size_t length = strlen(value);
    char range[32];
    struct fsafe_text text;
    if (length < bytes) {
        memcpy(field, value, length + 1); /* a sanitizer's strcpy is not ready yet */
        return;
    }
    fsafe_text_begin(&text, range, sizeof range - 1);
    fsafe_text_put(&text, "text of at most %u bytes", (unsigned)bytes - 1);
    range[text.length] = '\0';
    refuse(variable, value, range, "empty", complain);
}

static const char *const names[] = {
#define FSAFE_CHOICE(variable, field, words) #variable,
#define FSAFE_NUMBER(variable, field, usual, most) #variable,
#define FSAFE_STRING(variable, field, bytes) #variable,
#include "base/options.def"
};

/* How many letters have to be put in, taken out or changed to make `other` of `one`. */
static unsigned distance(const char *one, const char *other)
{
    enum { MOST = 40 };
    unsigned row[MOST + 1];
    size_t length = strnlen(other, MOST);
    for (size_t i = 0; i <= length; i++)
        row[i] = (unsigned)i;
    for (unsigned n = 1; *one != '\0' && n <= MOST; one++, n++) {
        unsigned corner = row[0];
        row[0] = n;
        for (size_t i = 1; i <= length; i++) {
            unsigned best = corner + (*one != other[i - 1]);
            corner = row[i];
            if (row[i] + 1 < best)
                best = row[i] + 1;
            if (row[i - 1] + 1 < best)
                best = row[i - 1] + 1;
            row[i] = best;
        }
    }
    return row[length];
}

static bool is_ours(const char *entry)
{
    static const char prefix[] = "FORKSAFE_";
    return *entry == *prefix && strncmp(entry, prefix, sizeof prefix - 1) == 0;
}

/* Complains of a variable that begins as our settings do and is none of them. */
static void check_name(char *entry, fsafe_options_complain *complain)
{
    char *equals = strchr(entry, '=');
    char name[40];
    if (equals == NULL || equals[1] == '\0')
        return;
    size_t length = (size_t)(equals - entry) < sizeof name ? (size_t)(equals - entry) : sizeof name - 1;
    memcpy(name, entry, length);
    name[length] = '\0';
    const char *nearest = names[0];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0)
            return;
        if (distance(name, names[i]) < distance(name, nearest))
            nearest = names[i];
    }
    complain(name, equals + 1, NULL, nearest); /* its value stays: it may be a variable of the program's own */
}

/* Whether TERM names a terminal that has colours, and NO_COLOR is not set. */
static bool has_colors(char *const *environment)
{
    const char *terminal = fsafe_options_look_up(environment, "TERM");
    return terminal != NULL && *terminal != '\0' && index_of("dumb", terminal) != 0 &&
           *find_value(environment, "NO_COLOR") == '\0';
}

void fsafe_options_read(char *const *environment, fsafe_options_complain *complain)
{
    memset(&fsafe_options, 0, sizeof fsafe_options);
    fsafe_options.colors = has_colors(environment);
    /* Most programs have no setting: then no row looks through the environment. */
    while (environment != NULL && *environment != NULL && !is_ours(*environment))
        environment++;
#define FSAFE_CHOICE(variable, field, words) \
    read_choice(#variable, find_value(environment, #variable), &fsafe_options.field, words, complain);
#define FSAFE_NUMBER(variable, field, usual, most) \
    read_number(#variable, find_value(environment, #variable), &fsafe_options.field, usual, most, complain);
#define FSAFE_STRING(variable, field, bytes) \
    read_string(#variable, find_value(environment, #variable), fsafe_options.field, bytes, complain);
#include "base/options.def"
    for (char *const *entry = environment; entry != NULL && *entry != NULL; entry++)
        if (is_ours(*entry))
            check_name(*entry, complain);
}
