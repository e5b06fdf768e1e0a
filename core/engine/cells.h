/*
 * A hash table of cells: a few words each, kept in the table itself. For keys of one to four words
 * and a payload of words, which is what most groups and most join keys are: one miss a lookup, and
 * no memory but the cell.
 *
 *   cell    head   key words ...   payload words ...
 *   head    63: used   32..: a bit for each key word that is NULL   0..31: the user's mark
 *
 * Extendible hashing like htable.h: no insertion moves more than one segment of CELLS_SEGMENT_MAX
 * cells. Unlike there, cells move: a pointer to one is valid until the next cells_add or
 * cells_remove. Whoever must find a cell again keeps its hash and a mark of its own in the cell.
 * Segments never shrink or join: a table keeps the memory of the most cells it ever had until the
 * last one goes.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_CELLS_H
#define TAILRACE_CORE_ENGINE_CELLS_H

#include "core/base/hash.h"
#include "core/engine/pool.h"

#include <stdbool.h>

enum { CELLS_KEYS_MAX = 4, CELLS_SEGMENT_MAX = 512 };

#define CELL_USED (1ULL << 63)
#define CELL_MARK 0xFFFFFFFFULL

struct cells_segment {
    uint32_t depth; /* top bits of the hash all its cells share */
    uint32_t used;  /* never more than seven eighths of its cells */
    bool paged;     /* lies in a page of the table, not in memory of its own */
    struct cells_segment *next; /* while free */
    uint64_t pad[5]; /* cells start on a line */
    uint64_t cells[];
};

/*
 * The directory holds each segment's address and, in its low bits, the logarithm of its number of
 * cells: so a lookup touches the directory and the cell, nothing between.
 */
struct cells {
    uintptr_t *directory; /* 1 << depth places; NULL while empty */
    uint32_t depth;
    uint32_t keys;   /* words of a key */
    uint32_t stride; /* words of a cell */
    uint64_t len;    /* cells in use */
    struct account *account; /* of directory, segments and pages */
    size_t bytes;            /* of segments and pages */
    /* A large table cuts its segments from the system's large pages: a lookup beyond the caches
     * then misses in the caches only, not in the page tables as well. */
    struct cells_page *pages;
    struct cells_segment *free; /* segments of pages, all of one size */
    size_t page_left;           /* bytes behind the last segment of the newest page */
};

/* An empty table holds no memory. */
void cells_init(struct cells *table, uint32_t keys, uint32_t payload, struct account *account);
/* Forgets all cells and frees everything. */
void cells_clear(struct cells *table);

/* Well mixed in both its top and its low bits. nulls: a bit a key word, whose value is then 0. */
static inline uint64_t cells_hash(const uint64_t *key, uint32_t keys, uint32_t nulls)
{
    uint64_t h = nulls;
    for (uint32_t i = 0; i < keys; i++) {
        h = hash_u64((h ^ key[i]) + 0x9E3779B97F4A7C15ULL);
    }
    return h;
}

/* Where the cells of a hash are looked for. */
struct cells_place {
    struct cells_segment *segment;
    uint32_t mask; /* cells of the segment, less one */
};

/* Not for an empty table. A shift by 64 is undefined, hence in two steps. */
static inline struct cells_place cells_place(const struct cells *table, uint64_t hash)
{
    uintptr_t at = table->directory[hash >> 1 >> (63 - table->depth)];
    return (struct cells_place){(struct cells_segment *)(at & ~(uintptr_t)63),
                                (1u << (at & 63)) - 1};
}

/*
 * Starts loading the cell a lookup of this hash will look at first. By plain loads whose result
 * nobody waits for: measured, more of them are under way at once than of prefetches.
 */
static inline void cells_load(const struct cells *table, uint64_t hash)
{
    if (table->directory != NULL) {
        struct cells_place place = cells_place(table, hash);
        const uint64_t *cell = &place.segment->cells[(hash & place.mask) * table->stride];
        (void)*(const volatile uint64_t *)cell;
        (void)*(const volatile uint64_t *)(cell + table->stride - 1);
    }
}

static inline bool cells_same_key(const uint64_t *a, const uint64_t *b, uint32_t keys)
{
    if (keys == 1) { /* the most common case by far */
        return a[0] == b[0];
    }
    uint64_t differ = 0;
    for (uint32_t i = 0; i < keys; i++) {
        differ |= a[i] ^ b[i];
    }
    return differ == 0;
}

/* The cell of a key, or NULL. */
static inline uint64_t *cells_find(const struct cells *table, uint64_t hash, const uint64_t *key,
                                   uint32_t nulls)
{
    if (table->directory == NULL) {
        return NULL;
    }
    struct cells_place place = cells_place(table, hash);
    uint64_t head = CELL_USED >> 32 | nulls;
    for (uint32_t i = (uint32_t)hash & place.mask;; i = (i + 1) & place.mask) {
        uint64_t *cell = &place.segment->cells[(size_t)i * table->stride];
        if (cell[0] >> 32 == head && cells_same_key(cell + 1, key, table->keys)) {
            return cell;
        }
        if (cell[0] == 0) {
            return NULL;
        }
    }
}

/* The cell of this hash that carries this mark, which must be there: no key is compared. */
static inline uint64_t *cells_find_mark(const struct cells *table, uint64_t hash, uint32_t mark)
{
    ASSERT(mark != 0 && table->directory != NULL);
    struct cells_place place = cells_place(table, hash);
    for (uint32_t i = (uint32_t)hash & place.mask;; i = (i + 1) & place.mask) {
        uint64_t *cell = &place.segment->cells[(size_t)i * table->stride];
        if ((cell[0] & CELL_MARK) == mark) {
            return cell;
        }
        ASSERT(cell[0] != 0);
    }
}

static inline uint64_t *cells_payload(const struct cells *table, uint64_t *cell)
{
    return cell + 1 + table->keys;
}

static inline uint32_t cells_nulls(const uint64_t *cell)
{
    return (uint32_t)(cell[0] >> 32) & ~(1u << 31);
}

/* The place of a column among the columns of a key, or keys_len. */
static inline uint32_t cells_key_at(const uint32_t *keys, uint32_t keys_len, uint32_t col)
{
    uint32_t k = 0;
    while (k < keys_len && keys[k] != col) {
        k++;
    }
    return k;
}

/* Adds a key that is not there; mark and payload are zero. Moves other cells. */
uint64_t *cells_add(struct cells *table, uint64_t hash, const uint64_t *key, uint32_t nulls);
/* Moves other cells. An empty table frees its memory. */
void cells_remove(struct cells *table, uint64_t hash, uint64_t *cell);

#endif
