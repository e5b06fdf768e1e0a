/*
 * JSON lines: one object a line, its members by column name. Module-private. jansson decides what
 * is JSON; numbers are then taken as they are written, because a double would change decimals.
 */
#ifndef TAILRACE_CORE_STORAGE_JSONL_H
#define TAILRACE_CORE_STORAGE_JSONL_H

#include "core/base/err.h"
#include "core/data/type.h"

struct jsonl_value {
    bool null;   /* missing, or null */
    size_t at;   /* of its text in the parser's buffer */
    uint32_t len;
};

struct jsonl_parser {
    const struct type *types; /* of the caller */
    const char *const *names;
    size_t cols;
    struct jsonl_value *value; /* one a column */
    struct buf text; /* of all values of the line */
};

void jsonl_init(struct jsonl_parser *parser, const struct type *types, const char *const *names,
                size_t cols);
void jsonl_free(struct jsonl_parser *parser);
/*
 * One line without its end. Strings are given as their text, everything else (and all that goes to
 * a jsonb column) as JSON text. Of a name given twice the last counts. Error: 22P02, not an object.
 */
err_t jsonl_parse(struct jsonl_parser *parser, const char *line, size_t len);
const char *jsonl_text(const struct jsonl_parser *parser, size_t col);

#endif
