/*
 * An arrangement: a multi-versioned index key -> rows x (time, diff). Keys are canonical encoded
 * bytes, rows encoded bytes. Per key the updates lie packed in one piece of memory, which is
 * compacted in place when it fills up; no memory is allocated per update.
 *
 * Reads at any time t >= since are exact: the sum of the diffs of a row over times <= t. Compaction
 * moves times below since up to since and adds up what became equal; it happens
 *   - when an update meets an equal one on insertion into a short list,
 *   - when a list is full and at least half of it is new (amortised: O(log n) an update),
 *   - from a queue of keys whose updates may cancel once since passes (arrange_maintain).
 */
#ifndef TAILRACE_CORE_ENGINE_ARRANGE_H
#define TAILRACE_CORE_ENGINE_ARRANGE_H

#include "core/engine/htable.h"

/*
 * Bounds of one key: its list is at most 4 GiB, because sizes within it are 32 bits wide. A row
 * comes from one batch, whose variable columns are at most 4 GiB as well.
 */

/* One update; the next follows after arrange_next. */
struct arrange_update {
    uint64_t time;
    int64_t diff;
    uint32_t len;
    uint8_t row[];
};

/* The payload of a key's table entry. */
struct arrange_key {
    uint8_t *data; /* updates, packed */
    uint32_t used; /* bytes */
    uint32_t cap;
    uint32_t count;    /* updates */
    uint32_t appended; /* since the last compaction of this key */
    int64_t net;       /* sum of all diffs */
};

enum { ARRANGE_QUEUED = 1, ARRANGE_PINNED = 2 };

struct arrange_dirty {
    struct htable_entry *entry;
    uint64_t time; /* worth compacting when since reaches it */
};

struct arrange {
    struct htable table;
    struct pool pool;
    struct account account; /* the table's own and the queue; parent of pool's */
    uint64_t since;
    uint64_t updates;       /* stored */
    struct arrange_dirty *dirty; /* ring */
    size_t dirty_head, dirty_len, dirty_cap;
    struct arrange_update **sort; /* scratch of compaction */
    size_t sort_cap;
    uint8_t *copy;
    size_t copy_cap;
};

void arrange_init(struct arrange *a, struct account *account);
/* Frees everything in a time that follows the memory, not the number of keys. */
void arrange_free(struct arrange *a);

/* Reads below since are given up from now on; never moves back. */
void arrange_set_since(struct arrange *a, uint64_t since);

struct htable_entry *arrange_find(const struct arrange *a, uint64_t hash, const void *key,
                                 size_t key_len);
static inline struct arrange_key *arrange_key(const struct htable_entry *entry)
{
    return htable_payload(entry);
}

/* Adds an update with time >= since. */
void arrange_insert(struct arrange *a, uint64_t hash, const void *key, size_t key_len,
                    const void *row, size_t row_len, uint64_t time, int64_t diff);
/* The entry of a key, kept in the table even when empty until arrange_unpin. */
struct htable_entry *arrange_pin(struct arrange *a, uint64_t hash, const void *key, size_t key_len);
void arrange_unpin(struct arrange *a, struct htable_entry *entry);

static inline size_t arrange_update_size(size_t row_len)
{
    return (offsetof(struct arrange_update, row) + row_len + 7) & ~(size_t)7;
}

static inline const struct arrange_update *arrange_first(const struct arrange_key *key)
{
    return (const struct arrange_update *)key->data;
}

static inline const struct arrange_update *arrange_next(const struct arrange_update *update)
{
    return (const struct arrange_update *)((const uint8_t *)update +
                                           arrange_update_size(update->len));
}

/* Compacts queued keys, looking at no more than about budget updates; true when more is due. */
bool arrange_maintain(struct arrange *a, size_t budget);

/*
 * The rows of a key as of a time: each(arg, row, len, diff) once per distinct row whose diffs add
 * up to something else than zero. Order: first appearance when short, by bytes otherwise.
 */
void arrange_read(struct arrange *a, const struct htable_entry *entry, uint64_t time,
                  void (*each)(void *arg, const uint8_t *row, uint32_t len, int64_t diff),
                  void *arg);

#endif
