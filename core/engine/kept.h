/*
 * The rows of two inputs by key, as words: what a join keeps whose keys are words. One table of
 * cells for both sides, so that a row finds its own side's rows and the other's in one place. A
 * side's first row of a key lies in the cell, more of them in a list behind it. What of a row is no
 * word lies behind its last one (rest.h).
 *
 *   cell    head   key ...   side 0's value words or list   side 1's
 *   mark    bit 0, bit 1: that side has a list, whose address stands in place of the values
 *           bit 2, bit 3: it has several, and it is the address of their directory
 *           bit 4, bit 5: it has one row, once: the values; bits 8.., 16..: which of them are NULL
 *   row     head   value words ...      head   diff << 8 | a bit for each value that is NULL
 *
 * So the usual row costs its values, and cells are small: what is there several times is in a list.
 *
 * No times: who uses this goes through times in order and needs the rows of one moment only. Equal
 * rows add up: at once in a short list; in a long one, when it is full and at least half of it is
 * new, which costs O(1) a change. The one change that finds it so goes through all of the list. So
 * a list that grows beyond KEPT_PART_MAX rows becomes two, by the hash of its rows, and each of
 * them again (extendible hashing): however many rows a key has, a change goes through few of them.
 * Two that come to few rows are one again.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_KEPT_H
#define TAILRACE_CORE_ENGINE_KEPT_H

#include "core/engine/cells.h"
#include "core/engine/rest.h"

enum {
    KEPT_VALUES_MAX = 8, /* as many bits a row's head has for NULLs */
    KEPT_PART_MAX = 2048,
};

struct kept {
    struct cells table;
    struct pool pool;   /* of the lists and rests */
    uint32_t values[2]; /* words of a row but its head, by side */
    uint32_t rest[2];   /* values behind the last of them; 0: it is a value itself */
    uint32_t list_words[2]; /* that a list has at least */
    uint64_t len;       /* rows stored, of both sides */
    uint32_t part_max;  /* rows of a list, before it becomes several: KEPT_PART_MAX but in tests */
    uint64_t gone_through; /* rows of lists since the user last set it to 0: its fuel */
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
    uint32_t depth;    /* of one of several: top bits of the hash that its rows share */
    int64_t net;       /* sum of all diffs */
    uint64_t row[];
};

/* Several lists: a row's is found by the top bits of its hash. One whose rows share fewer bits
 * stands in several places, one after another. */
struct kept_wide {
    uint64_t len;   /* rows of all lists */
    uint32_t depth; /* bits; there are 1 << depth places */
    struct kept_list *part[];
};

/* The rows of a key as they stand. */
struct kept_span {
    const uint64_t *row; /* 1 + values words each */
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

/* Where a side's values or list stand in a cell: one word at least. */
static inline uint64_t *kept_place(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    uint32_t first = rows->values[0] > 0 ? rows->values[0] : 1;
    return cells_payload(&rows->table, cell) + (side == 0 ? 0 : first);
}

static inline bool kept_is_one(const uint64_t *cell, uint32_t side)
{
    return (cell[0] >> (4 + side) & 1) != 0;
}

/* Of the one row: which values are NULL. */
static inline uint32_t kept_one_nulls(const uint64_t *cell, uint32_t side)
{
    return (uint32_t)(cell[0] >> (8 + 8 * side)) & 0xFF;
}

/* The directory behind a cell; NULL: there is at most one list. */
static inline struct kept_wide *kept_wide(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    bool wide = (cell[0] >> (2 + side) & 1) != 0;
    return wide ? (struct kept_wide *)(uintptr_t)*kept_place(rows, cell, side) : NULL;
}

/* The list behind a cell that has no directory; NULL: a row is in it, or none. */
static inline struct kept_list *kept_list(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    bool listed = (cell[0] >> side & 1) != 0;
    return listed ? (struct kept_list *)(uintptr_t)*kept_place(rows, cell, side) : NULL;
}

/* Starts loading a list: the shortest has a line or two, and its rows may lie in the second. */
static inline void kept_load(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    const struct kept_list *list = kept_list(rows, cell, side);
    if (list != NULL && kept_wide(rows, cell, side) == NULL) {
        (void)*(const volatile uint32_t *)&list->len;
        (void)*((const volatile uint64_t *)list + rows->list_words[side] - 1);
    }
}

/*
 * The rows of a key on one side, a list at a time: from part 0 on, while *part is less than
 * kept_parts; *next is then the next part. Valid until that side's next change. one: room for the
 * only row, 1 + KEPT_VALUES_MAX words.
 */
static inline uint32_t kept_parts(const struct kept *rows, uint64_t *cell, uint32_t side)
{
    const struct kept_wide *wide = kept_wide(rows, cell, side);
    return wide != NULL ? 1u << wide->depth : 1;
}
static inline struct kept_span kept_part(const struct kept *rows, uint64_t *cell, uint32_t side,
                                         uint32_t part, uint32_t *next, uint64_t *one)
{
    ASSERT(part < kept_parts(rows, cell, side));
    const struct kept_wide *wide = kept_wide(rows, cell, side);
    const struct kept_list *list = kept_list(rows, cell, side);
    *next = part + 1;
    if (wide != NULL) {
        list = wide->part[part];
        *next = part + (1u << (wide->depth - list->depth));
    }
    if (list != NULL) {
        return (struct kept_span){list->row, list->len};
    }
    if (!kept_is_one(cell, side)) {
        return (struct kept_span){0};
    }
    const uint64_t *values = kept_place(rows, cell, side);
    one[0] = 1 << 8 | kept_one_nulls(cell, side);
    for (uint32_t v = 0; v < rows->values[side]; v++) {
        one[1 + v] = values[v];
    }
    return (struct kept_span){one, 1};
}

#endif
