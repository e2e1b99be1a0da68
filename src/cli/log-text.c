/* cli/log-text: reads the form for people, which libforksafe(7) explains. */
#include "config.h"

#include "cli/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *from, const char *to)
{
    return to > from ? strndup(from, (size_t)(to - from)) : NULL;
}

/* "SYMBOL+0xOFFSET in MODULE+0xADDRESS", without the symbol, or "0xADDRESS" alone. */
static void read_place(struct fsafe_log_place *place, const char *text)
{
    const char *in = strstr(text, " in "), *module = in != NULL ? in + 4 : text, *plus;
    if (in != NULL && (plus = strstr(text, "+0x")) != NULL && plus < in) {
        place->symbol = copy(text, plus);
        place->offset = strtoull(plus + 1, NULL, 16);
    }
    if ((plus = strrchr(module, '+')) != NULL) {
        place->module = copy(module, plus);
        place->in_module = strtoull(plus + 1, NULL, 16);
    } else {
        place->address = strtoull(module, NULL, 16);
    }
}

/* "FUNCTION() in FILE:LINE (thread "NAME")"; false when the text is a native place. */
static bool read_source(struct fsafe_log_source *source, const char *text)
{
    const char *in = strstr(text, "() in "), *thread = strstr(text, " (thread \"");
    const char *file = in != NULL ? in + 6 : text, *end = thread != NULL ? thread : text + strlen(text);
    const char *colon = end;
    while (colon > file && isdigit((unsigned char)colon[-1]))
        colon--;
    bool numbered = colon < end && colon > file && colon[-1] == ':';
    if (in == NULL && !numbered)
        return false;
    source->function = in != NULL ? copy(text, in) : NULL;
    source->file = copy(file, numbered ? colon - 1 : end);
    source->line = numbered ? (unsigned)strtoul(colon, NULL, 10) : 0;
    if (thread != NULL)
        source->thread = copy(thread + 10, strrchr(thread, '"'));
    return true;
}

/* What follows " held at fork by " or " in use at fork by ", and ", so far N times". */
static void read_holder(struct fsafe_log_event *event, const char *text)
{
    static const char held[] = "held at fork by ", used[] = "in use at fork by ", far[] = ", so far ";
    const char *by = strstr(text, held), *times = strstr(text, far), *quote;
    if (by == NULL && (by = strstr(text, used)) != NULL)
        event->in_use = true;
    if (times != NULL)
        event->times = strtoul(times + sizeof far - 1, NULL, 10);
    if (by == NULL)
        return;
    by += event->in_use ? sizeof used - 1 : sizeof held - 1;
    event->holder_tid = strtoul(by, NULL, 10);
    if ((quote = strchr(by, '"')) != NULL)
        event->holder_name = copy(quote + 1, strrchr(quote, '"'));
}

/* The deed of a line that begins an event; FSAFE_DEEDS for all other lines. *rest: behind the deed's words. */
static enum fsafe_deed find_deed(const char *line, unsigned long *pid, unsigned long *tid, const char **rest)
{
    int used = 0;
    if (sscanf(line, "forksafe[%lu.%lu] %n", pid, tid, &used) != 2 || used == 0)
        return FSAFE_DEEDS;
    for (enum fsafe_deed deed = 0; deed < FSAFE_DEEDS; deed++) {
        size_t length = strlen(fsafe_log_deeds[deed].words);
        if (strncmp(line + used, fsafe_log_deeds[deed].words, length) == 0) {
            *rest = line + used + length;
            return deed;
        }
    }
    return FSAFE_DEEDS;
}

/* Reads "LOCK 0xADDRESS (KIND) for BRIEF" and perhaps the holder. */
static void begin_event(struct fsafe_log_event *event, const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (end > text && strncmp(end, " vanished thread", 16) == 0 && strstr(end, " in ") != NULL) {
        event->threads = number;
        text = strstr(end, " in ") + 4;
    }
    const char *kind = strstr(text, " ("), *close = kind != NULL ? strstr(kind, ") for ") : NULL;
    if (close == NULL)
        return;
    const char *address = strstr(text, " 0x");
    bool has_address = address != NULL && address < kind;
    event->lock = copy(text, has_address ? address : kind);
    if (has_address)
        event->lock_place.address = strtoull(address + 1, NULL, 16);
    event->kind = copy(kind + 2, close);
    const char *brief = close + 6, *behind = strstr(brief, " held at fork by ");
    if (behind == NULL)
        behind = strstr(brief, " in use at fork by ");
    if (behind == NULL)
        behind = strstr(brief, ", so far ");
    event->brief = copy(brief, behind != NULL ? behind : brief + strlen(brief));
    if (behind != NULL)
        read_holder(event, behind);
}

/* Whether the line begins with `with`; *rest: behind that. */
static bool begins(const char *line, const char *with, const char **rest)
{
    size_t length = strlen(with);
    *rest = line + length;
    return strncmp(line, with, length) == 0;
}

/* Reads an indented line. *stack: the stack to which "from" lines belong. */
static void read_detail(struct fsafe_log *log, struct fsafe_log_event *event, struct fsafe_log_stack **stack,
                        const char *line)
{
    const char *rest, *is;
    line += strspn(line, " ");
    if (begins(line, "held at fork by ", &rest) || begins(line, "in use at fork by ", &rest)) {
        read_holder(event, line);
    } else if (begins(line, "from ", &rest)) {
        if (*stack != NULL && (*stack)->caller_count < FSAFE_LOG_CALLERS &&
            read_source(&(*stack)->callers[(*stack)->caller_count], rest))
            (*stack)->caller_count++;
        else if (*stack != NULL && (*stack)->frame_count < FSAFE_LOG_FRAMES)
            read_place(&(*stack)->frames[(*stack)->frame_count++], rest);
    } else if (begins(line, "since ", &rest) || begins(line, "at fork in ", &rest) ||
               begins(line, "wanted in ", &rest) || begins(line, "forked in ", &rest)) {
        *stack = *line == 'w' ? &event->wanted : *line == 'f' ? &event->fork : &event->since;
        (*stack)->source.at_fork |= *line == 'a';
        if (!read_source(&(*stack)->source, rest))
            read_place(&(*stack)->at, rest);
        event->whole = true;
    } else if (begins(line, "the lock is", &rest)) {
        const char *in = strstr(rest, " in ");
        if (in != NULL)
            read_place(&event->lock_place, in + 4);
        if (*rest == ' ' && rest[1] == '<')
            event->lock_place.symbol = copy(rest + 2, strchr(rest, '>'));
    } else if (begins(line, "fork ", &rest) && isdigit((unsigned char)*rest)) {
        char *end;
        event->fork_number = strtoul(rest, &end, 10);
        if (strncmp(end, " by ", 4) == 0)
            event->fork_tid = strtoul(end + 4, &end, 10);
        if (strncmp(end, " in ", 4) == 0)
            read_place(&event->fork.at, end + 4);
        const char *age = strrchr(end, ',');
        if (age != NULL && strstr(age, " ms before ") != NULL)
            event->fork_age_ms = strtol(age + 1, NULL, 10);
    } else if (begins(line, "not taken over because ", &rest)) {
        event->why = strdup(rest);
        if (event->deed == FSAFE_MAY_HANG) /* the two begin with the same words */
            event->deed = FSAFE_REFUSED;
    } else if ((is = strstr(line, " is /")) != NULL && memchr(line, ' ', (size_t)(is - line)) == NULL) {
        const char *id = strstr(is, ", build-id ");
        char *name = copy(line, is), *path = copy(is + 4, id != NULL ? id : is + strlen(is));
        fsafe_log_add_module(log, name, path, id != NULL ? id + 11 : NULL);
        free(name);
        free(path);
    }
}

void fsafe_log_read(struct fsafe_log *log, FILE *file)
{
    char *line = NULL;
    size_t room = 0, prefix = 0;
    bool inside = false;
    struct fsafe_log_stack *stack = NULL;
    while (getline(&line, &room, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        const char *ours = strstr(line, "forksafe["), *rest, *object = strstr(line, "{\"event\":\"");
        unsigned long pid, tid;
        enum fsafe_deed deed = ours != NULL ? find_deed(ours, &pid, &tid, &rest) : FSAFE_DEEDS;
        if (deed != FSAFE_DEEDS) {
            prefix = (size_t)(ours - line);
            inside = true;
            stack = NULL;
            struct fsafe_log_event *event = fsafe_log_add_event(log);
            event->deed = deed;
            event->pid = pid;
            event->tid = tid;
            begin_event(event, rest);
        } else if (inside && strlen(line) > prefix && strncmp(line + prefix, "    ", 4) == 0) {
            read_detail(log, &log->events[log->count - 1], &stack, line + prefix);
        } else {
            inside = false;
            if (object != NULL)
                fsafe_log_read_object(log, object);
        }
    }
    free(line);
}
