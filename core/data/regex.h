/*
 * Regular expressions: PCRE2 with PostgreSQL's flags. A regex keeps the last pattern it compiled,
 * so that a constant one is compiled once for each user. Patterns come from users and can be made
 * to backtrack without end: their steps and memory are bounded. Module-private; one thread.
 */
#ifndef TAILRACE_CORE_DATA_REGEX_H
#define TAILRACE_CORE_DATA_REGEX_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/data/vec.h"

#include <pcre2.h>

/* As in PostgreSQL, a dot matches a line feed and $ only the very end, unless a flag says so. */
#define REGEX_DEFAULT (PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY)

/* Zero-initialised is empty. */
struct regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    char *pattern;
    size_t pattern_len;
    uint32_t options;
    uint64_t work; /* since somebody set it to 0; see regex_find */
};

enum { REGEX_MESSAGE_MAX = 160 };

/* Compiles unless that is what it has; false: message says what is wrong with the pattern. */
bool regex_set(struct regex *re, struct slice pattern, uint32_t options,
               char message[REGEX_MESSAGE_MAX]);
/*
 * The next match from a byte offset on: 1, 0, or -1 when it takes too much time or memory. Adds to
 * the work the bytes it looked at, and all the steps it may take when they were too few.
 */
int regex_find(struct regex *re, struct slice s, size_t from);
/* Flags as PostgreSQL's functions take them; false when one is unknown. *all: the flag g. */
bool regex_flags(struct slice flags, uint32_t *options, bool *all);
/* Bytes of the character that starts at s. */
static inline size_t regex_char_len(const char *s)
{
    uint8_t c = (uint8_t)*s;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}
/* Where to look after the match that is at hand: behind it, or a character on when it is empty. */
size_t regex_after(const struct regex *re, struct slice s);
/* Frees what it has; it is empty again. */
void regex_clear(struct regex *re);

#endif
