/*
 * jsonb as canonical text: parsing into it, and walking it. Text that json_parse made (or
 * json_is_canonical accepted) is trusted by everything else here. Module-private.
 *
 * Canonical is what PostgreSQL 15 prints: '{"b": 1, "aa": [2, 3.50]}'. Keys are in PostgreSQL's
 * order, each once; numbers keep the zeros of their fraction; one blank behind each colon and comma
 * and none elsewhere. So equal texts are equal values, and for all but numbers the inverse holds
 * too.
 */
#ifndef TAILRACE_CORE_DATA_JSON_H
#define TAILRACE_CORE_DATA_JSON_H

#include "core/data/data_internal.h"

enum { JSON_DEPTH_MAX = 1000 };

/* A piece of canonical text: one value, without space around it. */
struct json {
    const char *s;
    size_t len;
};

/* Scratch of json_parse, for reuse; zero is empty. */
struct json_parser {
    struct buf out;     /* the canonical text */
    struct buf keys;    /* unescaped keys of the objects being parsed */
    struct buf members; /* struct json_member of the objects being parsed */
    struct buf sorted;  /* one object being put in order */
};

/* Canonical text of input into p->out. SQLSTATE 22P02, 22P05, 22003, 54001. */
err_t json_parse(struct json_parser *p, const char *s, size_t len);
/* Zero again: it may be used for the next parse. */
void json_parser_free(struct json_parser *p);

/* Decided by the first character of canonical text. */
enum json_kind {
    JSON_NULL,
    JSON_STRING,
    JSON_NUMBER,
    JSON_BOOL,
    JSON_ARRAY,
    JSON_OBJECT, /* the order of PostgreSQL's btree */
};
enum json_kind json_kind(struct json v);
const char *json_kind_name(enum json_kind kind);

/* Iterates an array (key NULL) or object: *at starts at 0. key: the escaped key with quotes. */
bool json_next(struct json v, size_t *at, struct json *key, struct json *value);
/* Members or elements. */
size_t json_count(struct json v);
/*
 * Member by unescaped key; element by index (negative: from the end). *out is only meaningful when
 * found.
 */
bool json_object_get(struct json v, const char *key, size_t key_len, struct json *out);
bool json_array_get(struct json v, int64_t index, struct json *out);
/* The characters of a JSON string (escaped, with quotes). */
void json_append_unescaped(struct json string, struct buf *out);
void json_append_escaped(const char *s, size_t len, struct buf *out);
/* A value as JSON that json_parse brings to canonical form: numbers as they print, what JSON has
 * not as a string. text: scratch. */
void json_append_value(uint8_t kind, const struct datum *d, struct buf *text, struct buf *out);
/* The text of a value inside JSON: times have a T in their middle there. */
void json_print_scalar(uint8_t kind, const struct datum *d, struct buf *out);
bool json_string_equal(struct json string, const char *s, size_t len);
/*
 * PostgreSQL's order: Object > Array > Boolean > Number > String > null, containers by size first.
 */
int json_compare(struct json a, struct json b);
/* a @> b */
bool json_contains(struct json a, struct json b);

#endif
