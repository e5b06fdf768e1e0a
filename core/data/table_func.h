/*
 * Set-returning functions: a call of one gives rows, any number of them, one after another, so that
 * whoever takes them may rest between two. Which rows and in which order is a function of the
 * arguments alone.
 *
 *   generate_series(1, 5, 2)             1, 3, 5
 *   unnest('{a,NULL}')                   a, NULL
 *   jsonb_each('{"a": 1, "b": [2]}')     (a, 1), (b, [2])
 *   regexp_matches('ab', '.', 'g')       {a}, {b}
 */
#ifndef TAILRACE_CORE_DATA_TABLE_FUNC_H
#define TAILRACE_CORE_DATA_TABLE_FUNC_H

#include "core/data/type.h"

enum { TABLE_FUNC_ARGS_MAX = 3, TABLE_FUNC_COLS_MAX = 2 };

/* One of the catalogue. The id is part of the plan format and never changes. */
struct table_func {
    uint32_t id;
    const char *name;
    uint8_t args_len;
    uint8_t cols_len;
    bool not_strict; /* has rows although arguments are NULL */
    uint8_t args[TABLE_FUNC_ARGS_MAX]; /* enum type_kind */
    uint8_t cols[TABLE_FUNC_COLS_MAX]; /* likewise; 0: of any type (unnest) */
    bool nullable; /* a column may be NULL in a row the function gives */
    uint32_t array;  /* OID of the array the column is, or 0 */
    const char *names[TABLE_FUNC_COLS_MAX]; /* of the columns; NULL: as the function */
};

/* NULL when there is none: ids come in plans. They are 1, 2, ... without a gap; those of one name
 * stand together. */
const struct table_func *table_func_by_id(uint32_t id);

/* A call at work, and its scratch memory; one thread. */
struct table_call;
/* first: the kind of its first column, which of unnest is the elements'. */
struct table_call *table_call_new(const struct table_func *func, uint8_t first);
/* NULL is allowed. */
void table_call_free(struct table_call *call);
/* Begins anew. What variable arguments point to must stay until the last row was taken. */
void table_call_start(struct table_call *call, const struct datum *args);
/*
 * The next row, whose variable bytes stay until the next call; *more false: there is none. After
 * the last row or an error it has no more.
 */
err_t table_call_next(struct table_call *call, struct datum *row, bool *more);
/* Units of fuel for the matches since it was last asked: 0 while they were short. */
uint32_t table_call_work(struct table_call *call);

#endif
