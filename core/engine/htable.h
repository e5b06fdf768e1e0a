/*
 * A hash table from key bytes to a fixed-size payload, made for bounded pauses: extendible hashing.
 * A directory indexed by the top bits of the hash points to segments of at most 512 slots; a full
 * segment splits in two, so that no insertion moves more than one segment, however large the table
 * is. Entries live in a pool and do not move until removed.
 *
 * Scans go in the order of the hash, a segment at a time, and stay exact while the table grows and
 * shrinks between steps: the cursor is a hash, and a split only divides a range of hashes.
 */
#ifndef TAILRACE_CORE_ENGINE_HTABLE_H
#define TAILRACE_CORE_ENGINE_HTABLE_H

#include "core/engine/pool.h"

#include <stdbool.h>

enum { TABLE_SEGMENT_MAX = 512 };

/* Payload (payload_size bytes, 8-byte aligned), then the key, follow the header. */
struct htable_entry {
    uint64_t hash;
    uint32_t key_len; /* bytes */
    uint32_t flags; /* the user's */
};

struct htable_slot {
    uint64_t hash;
    struct htable_entry *entry; /* NULL: empty */
};

struct htable_segment {
    uint32_t depth; /* top bits of the hash all its entries share */
    uint32_t cap;   /* slots: a power of two */
    uint32_t used;  /* slots with an entry: never more than three quarters */
    struct htable_slot *slots;
};

struct htable {
    struct htable_segment **directory; /* 1 << depth pointers; NULL while empty */
    uint32_t depth;        /* bits of the hash the directory is indexed by */
    uint32_t payload_size; /* bytes; a multiple of 8 */
    uint64_t len;          /* entries */
    struct pool *pool;     /* of the entries; not owned */
    struct account *account; /* of directory and segments */
};

static inline void *htable_payload(const struct htable_entry *entry)
{
    return (uint8_t *)entry + sizeof(*entry);
}

static inline uint8_t *htable_key(const struct htable *table, const struct htable_entry *entry)
{
    return (uint8_t *)entry + sizeof(*entry) + table->payload_size;
}

/*
 * An empty table holds no memory. pool and account must outlive it; payload_size is a multiple of
 * 8.
 */
void htable_init(struct htable *table, uint32_t payload_size, struct pool *pool,
                struct account *account);
/* Forgets all entries (their memory belongs to the pool) and frees the rest. */
void htable_clear(struct htable *table);
/* Starts loading the slot a lookup of this hash will read. */
void htable_prefetch(const struct htable *table, uint64_t hash);
/* Then, starts loading the entry a lookup of this hash will most likely find; NULL: none. Valid
 * until the table changes. */
const struct htable_entry *htable_prefetch_entry(const struct htable *table, uint64_t hash);
/*
 * The entry of a key, or NULL. hash must be a function of the key's bytes alone, well mixed in both
 * its top and its low bits.
 */
struct htable_entry *htable_find(const struct htable *table, uint64_t hash, const void *key,
                               size_t len);
/* Adds a key that is not there; the payload is zero. */
struct htable_entry *htable_add(struct htable *table, uint64_t hash, const void *key, size_t len);
/* The entry must be in this table; it and its key are gone after the call. */
void htable_remove(struct htable *table, struct htable_entry *entry);

struct htable_cursor {
    uint64_t at;   /* the next hash to visit */
    uint64_t from; /* of the segment just returned: entries with a lower hash were visited before */
    bool done;
};

/* The next segment of a scan, NULL at the end. While it is looked at nothing may be added or
 * removed; between two calls it may. */
const struct htable_segment *htable_scan(const struct htable *table, struct htable_cursor *cursor);

#endif
