/*
 * The elements of an array's text, '{a,"b c",NULL}', one after another. As PostgreSQL's array_in
 * reads them: blanks around elements do not count, quotes and backslashes take what is between as
 * it is, NULL without quotes is NULL. Elements of arrays in arrays follow one another.
 */
#ifndef TAILRACE_CORE_DATA_ARRAY_H
#define TAILRACE_CORE_DATA_ARRAY_H

#include "core/data/type.h"

enum array_next { ARRAY_END, ARRAY_ITEM, ARRAY_NULL, ARRAY_BAD };
enum { ARRAY_DEPTH_MAX = 6 };

/* The position in a text that its owner keeps: a reader may rest between two elements. */
struct array_reader {
    const char *s;
    size_t len, at;
    uint8_t state; /* what was read last; array.c */
    uint8_t depth; /* braces open */
    bool nested;   /* more than one dimension was seen */
};

static inline struct array_reader array_open(const char *s, size_t len)
{
    return (struct array_reader){.s = s, .len = len};
}
/* How much of a text a message shows; whole characters. */
static inline size_t array_shown(const char *s, size_t len)
{
    size_t shown = len < 100 ? len : 100;
    while (shown > 0 && shown < len && ((uint8_t)s[shown] & 0xC0) == 0x80) {
        shown--;
    }
    return shown;
}
/* The next element, unescaped, into item. ARRAY_BAD: the text is none of an array. */
enum array_next array_next(struct array_reader *r, struct buf *item);
/* Appends the array as array_out prints it, its elements read as values of a type; 22P02 and what
 * the type's input says. An array of arrays stays as it is written. */
err_t array_convert(const char *s, size_t len, const struct type *element, struct buf *out);
/* Appends an element as array_out does: quoted where it must be. s is not in out. */
void array_append(const char *s, size_t len, struct buf *out);

#endif
