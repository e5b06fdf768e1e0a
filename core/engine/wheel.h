/*
 * Updates that are due later, by time: a timing wheel of levels (Varghese and Lauck, 1987). The
 * place of an update is the highest digit (of WHEEL_BITS) in which its time differs from the
 * wheel's base, and that digit: so what lies on a lower level is due earlier, and within a level
 * what lies in a lower slot.
 *
 *   base 0x1234 (digits of 4 bits)      0x1237  level 0, slot 7
 *                                       0x1251  level 1, slot 5
 *                                       0x9000  level 3, slot 9
 *
 * When the base comes into a slot's range, its updates are placed anew, on lower levels. Each
 * update moves down at most once a level, a column at a time; rows of words are words throughout.
 *
 * An update and its opposite cancel when the opposites of a slot are a quarter of it, so that
 * deleting everything leaves nothing, and when the base comes into the slot's range: then in steps.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_WHEEL_H
#define TAILRACE_CORE_ENGINE_WHEEL_H

#include "core/engine/chunk.h"

enum {
    WHEEL_BITS = 6,
    WHEEL_SLOTS = 1 << WHEEL_BITS,
    WHEEL_LEVELS = 64 / WHEEL_BITS + 1,
    WHEEL_CHUNK_ROWS = 4096,     /* a slot's open batch is closed with as many */
    WHEEL_TIDY_ROWS = 1 << 15,   /* as many are consolidated at once, more in steps */
};

/* Updates of one range of times. */
struct wheel_slot {
    struct batch_builder *open; /* NULL: none */
    uint64_t open_bytes;        /* accounted */
    struct chunk_list closed;
    uint64_t plus, minus;       /* updates by their sign */
    uint64_t opposed;           /* the lesser of both when opposites were last looked for */
};

/* Updates that are consolidated in steps. */
struct wheel_merge {
    struct batch_merge *merge;    /* NULL: there is none */
    struct batch_builder *builder;
    struct chunk_list from;
    const struct batch **views;   /* of from */
    uint64_t bytes;               /* accounted */
};

struct wheel {
    const uint8_t *kinds;
    uint32_t cols;
    struct account *account;
    uint64_t base; /* no earlier update is held or may come */
    uint64_t rows;
    uint64_t used[WHEEL_LEVELS];             /* a bit per slot that has updates */
    struct wheel_slot *slots[WHEEL_LEVELS];  /* WHEEL_SLOTS each, or NULL */
    struct wheel_merge tidied;               /* a slot taken out, before it is due */
    struct chunk_list due;                   /* of a slot taken out, to be placed or given out */
    uint16_t *places;                        /* of the rows being added */
    uint32_t *order;
    size_t places_cap;
};

/* kinds outlives the wheel. */
void wheel_init(struct wheel *wheel, const uint8_t *kinds, uint32_t cols, struct account *account,
                uint64_t base);
void wheel_free(struct wheel *wheel);
/* Holds the rows listed, until their times. Columns behind those of the wheel are left out. */
void wheel_add(struct wheel *wheel, const struct batch *b, const uint32_t *sel, uint32_t n);
/*
 * A piece of work on the way to upper; false: there is nothing before upper any more, and upper is
 * the base. *out: updates before upper, to be freed by the caller, or NULL. *rows: looked at.
 */
bool wheel_turn(struct wheel *wheel, uint64_t upper, struct chunk **out, uint32_t *rows);

/* No update is held that is due before this time, and some on the way to it may have to be placed
 * anew; FRONTIER_EMPTY: there is none. */
uint64_t wheel_next(const struct wheel *wheel);

#endif
