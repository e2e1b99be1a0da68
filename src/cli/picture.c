/*
 * cli/picture: each kind of event as a picture: a lane for the holder, one for the thread that forked, one for the
 * child. Time goes to the right; the picture shows the order and not how long anything took.
 */
#include "config.h"

#include "base/text.h"
#include "cli/forms.h"
#include "cli/position.h"

#include <string.h>

enum { WIDTH = 900, LEFT = 150, TAKEN = 230, FORK = 420, WANTED = 540, GIVEN = 660, RIGHT = 880, LANE = 56, TOP = 40,
       HEIGHT = TOP + 3 * LANE + 10 };

static void put_escaped(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '&': fputs("&amp;", to); break;
        case '"': fputs("&quot;", to); break;
        default: fputc((unsigned char)*text < ' ' ? '?' : *text, to);
        }
    }
}

static void put_text(FILE *to, int x, int y, const char *anchor, const char *text)
{
    fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">", x, y, anchor);
    put_escaped(to, text);
    fputs("</text>\n", to);
}

static void put_bar(FILE *to, int from, int until, int lane, const char *color)
{
    fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"14\" fill=\"%s\"/>\n", from, TOP + lane * LANE + 12,
            until - from, color);
}

static void put_lane(FILE *to, int from, int lane, const char *name)
{
    int y = TOP + lane * LANE + 19;
    fprintf(to, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#888\"/>\n", from, y, RIGHT, y);
    put_text(to, LEFT - 10, y + 4, "end", name);
}

/* "function() at file:line", under a lane. */
static void put_position(FILE *to, int x, int lane, const char *words, const struct fsafe_position *position)
{
    char text[512];
    if (position->function == NULL)
        return;
    if (position->file != NULL)
        snprintf(text, sizeof text, "%s %s at %s:%d", words, position->function, fsafe_text_last_part(position->file),
                 position->line);
    else
        snprintf(text, sizeof text, "%s %s", words, position->function);
    put_text(to, x, TOP + lane * LANE + 42, "start", text);
}

static void put_event(const struct fsafe_log *log, const struct fsafe_log_event *event, FILE *to, int y)
{
    struct fsafe_position held = fsafe_position_find_holder(log, event);
    struct fsafe_position wanted = fsafe_position_find(log, &event->wanted);
    struct fsafe_position forked = fsafe_position_find(log, &event->fork);
    bool ends = event->deed == FSAFE_TOOK_OVER || event->deed == FSAFE_FORGOT || event->deed == FSAFE_WENT_ROUND ||
                event->deed == FSAFE_RUNS_AGAIN || event->deed == FSAFE_WENT_ON;
    const char *thread = event->since.source.thread != NULL ? event->since.source.thread : event->holder_name;
    char text[512];
    fprintf(to, "<g transform=\"translate(0,%d)\">\n", y);
    snprintf(text, sizeof text, "%s%s (%s), %lu time%s", fsafe_log_deeds[event->deed].words,
             event->lock != NULL ? event->lock : "?", event->kind != NULL ? event->kind : "?", event->times,
             event->times == 1 ? "" : "s");
    fputs("<g font-weight=\"bold\">", to);
    put_text(to, 10, 22, "start", text);
    fputs("</g>\n", to);
    snprintf(text, sizeof text, "%s (parent)", thread != NULL ? thread : "holder");
    put_lane(to, LEFT, 0, text);
    put_lane(to, LEFT, 1, "who forks (parent)");
    snprintf(text, sizeof text, "child %lu", event->pid);
    put_lane(to, FORK, 2, text);
    put_bar(to, TAKEN, RIGHT, 0, "#d08a2e");
    put_position(to, TAKEN, 0, held.has_gone_on ? "at the fork in" : "holds it since", &held);
    fprintf(to, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>\n", FORK,
            TOP, FORK, TOP + 2 * LANE + 30);
    put_position(to, FORK + 6, 1, "fork in", &forked);
    put_bar(to, WANTED, ends ? GIVEN : RIGHT, 2, "#c0392b");
    if (ends)
        put_bar(to, GIVEN, RIGHT, 2, "#3c8d40");
    put_position(to, FORK + 6, 2, ends ? "goes on in" : "waits for ever in", &wanted);
    fputs("</g>\n", to);
}

void fsafe_forms_picture(const struct fsafe_log *log, FILE *to, bool html)
{
    int height = HEIGHT * (log->count != 0 ? (int)log->count : 1);
    if (html)
        fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
              "<title>forksafe explain</title></head>\n<body>\n"
              "<p>Orange: held by a thread that only the parent has. Red: the child waits. Green: it goes on.</p>\n",
              to);
    fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
                "font-size=\"13\">\n", WIDTH, height);
    for (size_t i = 0; i < log->count; i++)
        put_event(log, &log->events[i], to, (int)i * HEIGHT);
    if (log->count == 0)
        put_text(to, 10, 22, "start", "No event");
    fputs("</svg>\n", to);
    if (html)
        fputs("</body></html>\n", to);
}
