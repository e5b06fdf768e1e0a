/*
 * What the operators of a recursion share: rows as words, and trails of them by iteration.
 *
 * Within a scope (plan.h) operators see inner times: base + iteration, where base grows from one
 * outer time to the next (op_iterate.c). Outer times are gone through one by one, so of all earlier
 * ones only the iteration of an update matters: a trail holds rows x (iteration, diff), and its
 * sum through iteration i is the input through (now, i).
 *
 * A row is its key and its value, in words. If all columns are words (batch_kind_is_word) those are
 * the columns; else a key is one word, the address of its canonical bytes, and a value the address
 * of the row's bytes. Such bytes are interned: held once in an operator, counted by what refers to
 * them.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_ITERATE_H
#define TAILRACE_CORE_ENGINE_ITERATE_H

#include "core/engine/divide.h"
#include "core/engine/engine_internal.h"
#include "core/engine/htable.h"
#include "core/engine/trail.h"

enum {
    ITERATE_ROWS = 64,      /* of a block */
    ITERATE_VALUES_MAX = 8, /* words of a value */
    ITERATE_COLS_MAX = 2 * (CELLS_KEYS_MAX + ITERATE_VALUES_MAX),
};

/* ---- bytes as words -------------------------------------------------------------------------- */

struct interns {
    struct htable table; /* bytes -> uint64_t references */
    struct pool pool;
};

void interns_init(struct interns *interns, struct account *account);
void interns_free(struct interns *interns);
/* The word of these bytes, with one more reference. */
uint64_t interns_word(struct interns *interns, const void *bytes, size_t len);
/* NULL interns: words are values, and nothing is counted. */
void interns_retain(struct interns *interns, uint64_t word);
void interns_release(struct interns *interns, uint64_t word);
/* Valid while a reference is held. */
const uint8_t *interns_bytes(const struct interns *interns, uint64_t word, uint32_t *len);

/* ---- rows of a port -------------------------------------------------------------------------- */

/* Which columns of an input are what. */
struct iterate_input {
    bool flat; /* words are columns */
    const uint32_t *keys;
    uint32_t keys_len;
    uint32_t key_words; /* at least one, so that tables have a key */
    uint32_t values[ITERATE_VALUES_MAX]; /* columns, when flat */
    uint32_t values_len;
    uint32_t words; /* of a value */
};

/* Rows at hand, of one port. What they refer to is held until the next block is loaded. */
struct iterate_block {
    uint32_t port;
    uint32_t len, at;
    uint32_t rows[ITERATE_ROWS];
    uint64_t column[ITERATE_ROWS];
    uint64_t keys[ITERATE_ROWS * CELLS_KEYS_MAX];       /* row after row */
    uint64_t values[ITERATE_ROWS * ITERATE_VALUES_MAX]; /* row after row */
    uint32_t key_nulls[ITERATE_ROWS], nulls[ITERATE_ROWS];
    int64_t diffs[ITERATE_ROWS];
    uint64_t hash[ITERATE_ROWS];
};

/* Words; as keys only kinds whose equal values are equal words. */
bool iterate_is_flat_key(uint8_t kind);

/*
 * What an operator takes in: a pass, which is one iteration, block after block. A large one of
 * words is divided by hash first (divide.h), so that block after block meets the same part of the
 * table.
 */
struct iterate_feed {
    const struct iterate_input *inputs; /* of each port */
    struct interns *interns;            /* NULL: flat */
    struct intake intake;
    struct divide divide;
    uint32_t count_chunk, count_row; /* while the rows are counted that are to be divided */
    uint32_t part;                   /* of the hashes, that the last block was of */
    struct buf scratch;
    struct iterate_block block;
};

void iterate_feed_init(struct iterate_feed *feed, const struct iterate_input *inputs,
                       uint32_t inputs_len, struct interns *interns, struct account *account);
void iterate_feed_free(struct iterate_feed *feed);
/* Opens a pass, if there is one. cells: of the table that its rows will meet. */
bool iterate_open(struct iterate_feed *feed, struct op *op, uint64_t cells);
/* True when out of fuel before blocks can be taken. */
bool iterate_divide(struct iterate_feed *feed, struct op *op);
/* No rows are left behind the block at hand. */
bool iterate_is_done(const struct iterate_feed *feed);
/* All rows of the keys taken so far have been taken. */
bool iterate_is_part_done(const struct iterate_feed *feed);
/* The next rows of a pass; there must be some. */
void iterate_load(struct iterate_feed *feed);
/* The pass is over. */
void iterate_close(struct iterate_feed *feed);

/* ---- scopes (op_iterate.c) ------------------------------------------------------------------- */

/* The inner time of iteration 0 of the outer time at hand. */
uint64_t scope_base(const struct op *op);
/*
 * A row is there more than 2^63 times, or so often that its changes cannot be told. Its diffs would
 * go on modulo 2^64 and mean something else, so the dataflow fails.
 */
void scope_out_of_range(struct op *op);

#endif
