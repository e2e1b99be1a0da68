/* cli/forms: the forms in which explain writes events, grouped. */
#pragma once

#include "cli/log.h"

#include <stdbool.h>
#include <stdio.h>

/* For people, to standard output. */
void fsafe_forms_text(const struct fsafe_log *log);

/* For machines. Returns false where there is no JSON. */
bool fsafe_forms_json(const struct fsafe_log *log, FILE *to);

/* A picture of each kind; with `html` in a page, else alone. */
void fsafe_forms_picture(const struct fsafe_log *log, FILE *to, bool html);
