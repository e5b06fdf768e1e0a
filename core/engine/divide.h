/*
 * A large round of one time, divided by hash before an operator takes it: rows of one part meet
 * cells of one part of the table, which fits the second-level cache. Taken as they come, each row
 * would miss the caches for its cell.
 *
 * Rows are records of words, dealt out twice: first counted, then placed.
 *
 *     record   key ...   value ...   if wide: NULLs of key << 32 | of values, diff
 *     parts    0 of port 0, 0 of port 1, 1 of port 0, 1 of port 1 ...
 *
 * So within a part, and hence of each key, the rows of port 0 come first, each port's in the order
 * they came: an operator that handles keys by themselves sees no other order than without.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_DIVIDE_H
#define TAILRACE_CORE_ENGINE_DIVIDE_H

#include "core/engine/chunk.h"

enum divide_phase { DIVIDE_NONE, DIVIDE_COUNT, DIVIDE_PLACE, DIVIDE_TAKE };

struct divide {
    enum divide_phase phase;
    bool wide;         /* there are NULLs, or several diffs */
    int64_t diff;      /* of all rows unless wide */
    uint64_t time;     /* of all rows */
    uint32_t keys;     /* words */
    uint32_t values[2]; /* words, by port */
    uint32_t bits;     /* of the hash: there are 1 << bits parts of each port */
    uint32_t part;     /* that is taken, both ports' counted */
    size_t at;         /* words that were taken */
    size_t *ends;      /* of each part, in words */
    uint64_t *words;
    size_t words_len;
    struct account *account;
};

/* Rows on their way in or out, of one port: arrays of len; keys and values row after row. */
struct divide_rows {
    uint32_t port, len;
    uint64_t *hash; /* only read */
    uint64_t *keys, *values;
    uint32_t *key_nulls, *nulls;
    int64_t *diffs;
};

void divide_init(struct divide *divide, uint32_t keys, const uint32_t values[2],
                 struct account *account);
/* Of chunks all of one time; about part_rows go to a part. */
void divide_begin(struct divide *divide, const struct chunk_list *chunks, uint64_t part_rows);
/* Phase COUNT: of all rows their port and hash, then divide_counted. */
void divide_count(struct divide *divide, uint32_t port, const uint64_t *hash, uint32_t len);
void divide_counted(struct divide *divide);
/* Phase PLACE: the same rows; when all are there, TAKE begins. */
void divide_place(struct divide *divide, const struct divide_rows *rows);
/* Phase TAKE: the next rows of one port and part, at most max; the last ones end the phase. */
void divide_take(struct divide *divide, uint32_t max, struct divide_rows *rows);
/* Phase TAKE: the part of the hashes that the next rows are of. */
uint32_t divide_part(const struct divide *divide);
/* Forgets everything. */
void divide_clear(struct divide *divide);

#endif
