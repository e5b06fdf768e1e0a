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

/* Rows at hand, of one chunk. What they refer to is held until the next block is loaded. */
struct iterate_block {
    const struct batch *batch;
    uint32_t port;
    uint32_t len, at;
    uint32_t rows[ITERATE_ROWS];
    uint64_t column[ITERATE_ROWS];
    uint64_t keys[ITERATE_ROWS * CELLS_KEYS_MAX];       /* row after row */
    uint64_t values[ITERATE_ROWS * ITERATE_VALUES_MAX]; /* row after row */
    uint32_t key_nulls[ITERATE_ROWS], nulls[ITERATE_ROWS];
    uint64_t hash[ITERATE_ROWS];
};

/* Words; as keys only kinds whose equal values are equal words. */
bool iterate_is_flat_key(uint8_t kind);
/* The next rows of a pass; there must be one. interns: NULL when flat. */
void iterate_load(struct iterate_block *block, const struct iterate_input inputs[],
                  struct intake *intake, struct interns *interns, struct buf *scratch);
/* Gives back what the block's rows refer to. */
void iterate_unload(struct iterate_block *block, const struct iterate_input inputs[],
                    struct interns *interns);

/* ---- scopes (op_iterate.c) ------------------------------------------------------------------- */

/* The inner time of iteration 0 of the outer time at hand. */
uint64_t scope_base(const struct op *op);

#endif
