/*
 * The rows of two inputs by key, as words: what a join keeps whose keys are words. One table of
 * cells for both sides, so that a row finds its own side's rows and the other's in one place. A
 * side's first row of a key lies in the cell, more of them in a list behind it. What of a row is no
 * word lies behind its last one (rest.h).
 *
 *   row     head   value words ...      head   diff << 8 | a bit for each value that is NULL
 *   cell    head   key ...   side 0's row or list   side 1's row or list
 *   mark    bit 0, bit 1: that side has a list; its address stands in place of the row
 *
 * No times: who uses this goes through times in order and needs the rows of one moment only. Equal
 * rows add up: at once in a short list; in a long one, when it is full and at least half of it is
 * new, which costs O(1) a change. The one change that finds it so goes through all n rows of the
 * key on its side, in one piece that no step can divide; its user pays the fuel afterwards.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_KEPT_H
#define TAILRACE_CORE_ENGINE_KEPT_H

#include "core/engine/cells.h"
#include "core/engine/rest.h"

enum { KEPT_VALUES_MAX = 8 }; /* as many bits a row's head has for NULLs */

struct kept {
    struct cells table;
    struct pool pool;   /* of the lists and rests */
    uint32_t values[2]; /* words of a row but its head, by side */
    uint32_t rest[2];   /* values behind the last of them; 0: it is a value itself */
    uint32_t list_words[2]; /* that a list has at least */
    uint64_t len;       /* rows stored, of both sides */
    uint64_t added_up;  /* rows of lists since the user last set it to 0: its fuel */
    uint32_t *slots;    /* scratch of adding up; accounted */
    int64_t *sums;      /* half as many */
    size_t slots_cap;   /* a power of two */
    struct kept_dead *dead; /* rests of rows that are gone: the user may have them in its output */
    size_t dead_len, dead_cap;
};

struct kept_dead {
    struct rest *rest;
    uint32_t cols;
};

/* Behind a cell; rows follow. */
struct kept_list {
    uint32_t len, cap;
    uint32_t appended; /* at the end of a long list, since it was last added up */
    uint32_t pad;
    int64_t net;       /* sum of all diffs */
    uint64_t row[];
};

/* The rows of a key as they stand. */
struct kept_span {
    const uint64_t *row; /* 1 + values words each; of one with diff 0 there are none */
    uint32_t len;
};

void kept_init(struct kept *rows, uint32_t keys, const uint32_t values[2], const uint32_t rest[2],
               struct account *account);
void kept_free(struct kept *rows);

/*
 * Adds diff copies of a row of a key on one side; zero: no change. cell: the key's, or NULL when it
 * has none. Moves cells. A rest among the values is taken over.
 */
struct kept_key {
    uint64_t hash;
    const uint64_t *words;
    uint32_t nulls;
};
void kept_change(struct kept *rows, uint32_t side, const struct kept_key *key, uint64_t *cell,
                 const uint64_t *values, uint32_t nulls, int64_t diff);
/* A row that is not added after all: gives up its rest, if it has one. */
void kept_drop(struct kept *rows, uint32_t side, const uint64_t *values);
/* Rests of rows that are gone are not looked at any more. */
void kept_bury(struct kept *rows);

static inline int64_t kept_diff(const uint64_t *row)
{
    return (int64_t)row[0] >> 8;
}

static inline uint32_t kept_nulls(const uint64_t *row)
{
    return (uint32_t)(row[0] & 0xFF);
}

/* Where a side's row or list stands in a cell. */
static inline uint64_t *kept_place(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    return cells_payload(&rows->table, cell) + (side == 0 ? 0 : 1 + rows->values[0]);
}

/* The list behind a cell, or NULL when a row is in it, or none. */
static inline struct kept_list *kept_list(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    bool listed = (cell[0] >> side & 1) != 0;
    return listed ? (struct kept_list *)(uintptr_t)*kept_place(rows, cell, side) : NULL;
}

/* Starts loading a list: the shortest has a line or two, and its rows may lie in the second. */
static inline void kept_load(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    const struct kept_list *list = kept_list(rows, cell, side);
    if (list != NULL) {
        (void)*(const volatile uint32_t *)&list->len;
        (void)*((const volatile uint64_t *)list + rows->list_words[side] - 1);
    }
}

/* Valid until the next change. */
static inline struct kept_span kept_of(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    const struct kept_list *list = kept_list(rows, cell, side);
    if (list != NULL) {
        return (struct kept_span){list->row, list->len};
    }
    const uint64_t *row = kept_place(rows, cell, side);
    return (struct kept_span){row, kept_diff(row) != 0};
}

#endif
