/*
 * Extendible hashing. The directory is indexed by the top bits of the hash; within a segment
 * entries are found by linear probing from the low bits, so the two uses of the hash are
 * independent.
 *
 * Why it is correct: every entry lies in the one segment its top bits select, at or after its home
 * slot with no empty slot in between. segment_put keeps that by taking the first empty slot,
 * segment_take by moving later entries back into the gap, so a probe may stop at the first empty
 * slot and no tombstones pile up under insert and delete pairs. A segment never fills beyond three
 * quarters, so a probe always ends.
 *
 * Pauses: an insertion moves at most one segment of TABLE_SEGMENT_MAX slots. Doubling the directory
 * is the one step that follows the size of the table, at 8 bytes a segment: 32 KiB are copied for a
 * table of a million keys.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/htable.h"

enum { SEGMENT_MIN = 8 }; /* slots of a first segment: small tables stay small */

void htable_init(struct htable *table, uint32_t payload_size, struct pool *pool,
                struct account *account)
{
    ASSERT(payload_size % 8 == 0);
    *table = (struct htable){.payload_size = payload_size, .pool = pool, .account = account};
}

/* A shift by 64 is undefined, hence the case of a directory of one. */
static size_t directory_index(const struct htable *table, uint64_t hash)
{
    return table->depth == 0 ? 0 : hash >> (64 - table->depth);
}

static size_t segment_bytes(uint32_t cap)
{
    return sizeof(struct htable_segment) + cap * sizeof(struct htable_slot);
}

/* Slots start empty: a zero entry pointer says so. */
static struct htable_segment *segment_new(struct htable *table, uint32_t depth, uint32_t cap)
{
    ASSERT(depth <= 64 && cap >= SEGMENT_MIN && (cap & (cap - 1)) == 0);
    struct htable_segment *segment = MEM_NEW(struct htable_segment);
    segment->depth = depth;
    segment->cap = cap;
    segment->slots = mem_zalloc(cap * sizeof(struct htable_slot));
    account_add(table->account, (int64_t)segment_bytes(cap));
    return segment;
}

static void segment_free(struct htable *table, struct htable_segment *segment)
{
    account_add(table->account, -(int64_t)segment_bytes(segment->cap));
    free(segment->slots);
    free(segment);
}

/*
 * A segment of lesser depth than the directory stands in several of its places, all in a row:
 * stepping by that many frees each segment once.
 */
void htable_clear(struct htable *table)
{
    if (table->directory != NULL) {
        size_t n = (size_t)1 << table->depth;
        for (size_t i = 0; i < n;) {
            struct htable_segment *segment = table->directory[i];
            ASSERT(segment->depth <= table->depth);
            i += (size_t)1 << (table->depth - segment->depth);
            segment_free(table, segment);
        }
        account_add(table->account, -(int64_t)(n * sizeof(table->directory[0])));
        free(table->directory);
    }
    table->directory = NULL;
    table->depth = 0;
    table->len = 0;
}

/*
 * Only the slot, not the entry behind it: which entry that is, is not known before the slot is
 * here.
 */
void htable_prefetch(const struct htable *table, uint64_t hash)
{
    if (table->directory != NULL) {
        const struct htable_segment *segment = table->directory[directory_index(table, hash)];
        __builtin_prefetch(&segment->slots[hash & (segment->cap - 1)]);
    }
}

/* The key stands behind header and payload: an entry may lie across two lines. */
const struct htable_entry *htable_prefetch_entry(const struct htable *table, uint64_t hash)
{
    if (table->directory == NULL) {
        return NULL;
    }
    const struct htable_segment *segment = table->directory[directory_index(table, hash)];
    uint32_t mask = segment->cap - 1;
    for (uint32_t i = (uint32_t)hash & mask; segment->slots[i].entry != NULL; i = (i + 1) & mask) {
        if (segment->slots[i].hash == hash) {
            __builtin_prefetch(segment->slots[i].entry);
            __builtin_prefetch(htable_key(table, segment->slots[i].entry));
            return segment->slots[i].entry;
        }
    }
    return NULL;
}

/* Most keys are a column or two of fixed width: two words, which may overlap, and no call. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint64_t words[4];
    if (len < 8 || len > 16) {
        return len == 0 || memcmp(a, b, len) == 0;
    }
    memcpy(&words[0], a, 8);
    memcpy(&words[1], b, 8);
    memcpy(&words[2], a + len - 8, 8);
    memcpy(&words[3], b + len - 8, 8);
    return words[0] == words[1] && words[2] == words[3];
}

/* The full hash is compared before the key: on a miss the entry itself is almost never touched. */
struct htable_entry *htable_find(const struct htable *table, uint64_t hash, const void *key,
                               size_t len)
{
    if (table->directory == NULL) {
        return NULL;
    }
    const struct htable_segment *segment = table->directory[directory_index(table, hash)];
    uint32_t mask = segment->cap - 1;
    for (uint32_t i = (uint32_t)hash & mask; segment->slots[i].entry != NULL; i = (i + 1) & mask) {
        struct htable_entry *entry = segment->slots[i].entry;
        if (segment->slots[i].hash == hash && entry->key_len == len &&
            same_bytes(htable_key(table, entry), key, len)) {
            return entry;
        }
    }
    return NULL;
}

/* Only for keys known to be absent, in a segment with room: nothing is compared. */
static void segment_put(struct htable_segment *segment, uint64_t hash, struct htable_entry *entry)
{
    ASSERT(entry != NULL && segment->used < segment->cap);
    uint32_t mask = segment->cap - 1;
    uint32_t i = (uint32_t)hash & mask;
    while (segment->slots[i].entry != NULL) {
        i = (i + 1) & mask;
    }
    segment->slots[i] = (struct htable_slot){.hash = hash, .entry = entry};
    segment->used++;
    ASSERT(segment->used < segment->cap);
}

/* The whole segment is hashed again, as every home slot changes with the mask. */
static void segment_grow(struct htable *table, struct htable_segment *segment)
{
    struct htable_slot *old = segment->slots;
    uint32_t old_cap = segment->cap;
    account_add(table->account, (int64_t)(old_cap * sizeof(*old)));
    segment->cap = old_cap * 2;
    segment->used = 0;
    segment->slots = mem_zalloc(segment->cap * sizeof(*old));
    for (uint32_t i = 0; i < old_cap; i++) {
        if (old[i].entry != NULL) {
            segment_put(segment, old[i].hash, old[i].entry);
        }
    }
    free(old);
}

/* Each place becomes two neighbours that share a segment: nothing is hashed again. */
static void directory_double(struct htable *table)
{
    ASSERT(table->depth < 63); /* segment_with_room gives up on splitting far earlier */
    size_t n = (size_t)1 << table->depth;
    struct htable_segment **wide = mem_alloc(2 * n * sizeof(*wide));
    for (size_t i = 0; i < n; i++) {
        wide[2 * i] = table->directory[i];
        wide[2 * i + 1] = table->directory[i];
    }
    free(table->directory);
    table->directory = wide;
    table->depth++;
    account_add(table->account, (int64_t)(n * sizeof(*wide)));
}

/* Divides a segment by the next bit of the hash. */
static void segment_split(struct htable *table, uint64_t hash)
{
    struct htable_segment *old = table->directory[directory_index(table, hash)];
    ASSERT(old->depth <= table->depth && old->used <= old->cap);
    if (old->depth == table->depth) {
        directory_double(table);
    }
    uint32_t depth = old->depth + 1;
    ASSERT(old->depth < table->depth);
    struct htable_segment *half[2] = {segment_new(table, depth, old->cap),
                                     segment_new(table, depth, old->cap)};
    for (uint32_t i = 0; i < old->cap; i++) {
        if (old->slots[i].entry != NULL) {
            segment_put(half[(old->slots[i].hash >> (64 - depth)) & 1], old->slots[i].hash,
                        old->slots[i].entry);
        }
    }
    size_t span = (size_t)1 << (table->depth - old->depth);
    size_t first = directory_index(table, hash) & ~(span - 1);
    for (size_t i = 0; i < span; i++) {
        ASSERT(table->directory[first + i] == old);
        table->directory[first + i] = half[i >= span / 2];
    }
    segment_free(table, old);
}

/* Where there is room for one more entry of this hash. */
static struct htable_segment *segment_with_room(struct htable *table, uint64_t hash)
{
    if (table->directory == NULL) {
        table->directory = mem_alloc(sizeof(table->directory[0]));
        account_add(table->account, (int64_t)sizeof(table->directory[0]));
        table->directory[0] = segment_new(table, 0, SEGMENT_MIN);
    }
    for (;;) {
        struct htable_segment *segment = table->directory[directory_index(table, hash)];
        if ((segment->used + 1) * 4 <= segment->cap * 3) {
            return segment;
        }
        /* A directory much larger than the number of entries would mean equal hashes: then
         * splitting is of no use and the segment grows. */
        bool sparse = segment->depth == table->depth &&
                      ((uint64_t)1 << table->depth) * 8 > table->len + 64;
        if (segment->cap < TABLE_SEGMENT_MAX || sparse) {
            segment_grow(table, segment);
        } else {
            segment_split(table, hash);
        }
    }
}

/* The payload starts zeroed, the header's flags too: users rely on it for counters and lists. */
struct htable_entry *htable_add(struct htable *table, uint64_t hash, const void *key, size_t len)
{
    ASSERT(len <= UINT32_MAX);
    struct htable_segment *segment = segment_with_room(table, hash);
    ASSERT(segment->depth <= table->depth && segment->used < segment->cap);
    struct htable_entry *entry =
        pool_alloc(table->pool, sizeof(*entry) + table->payload_size + len);
    memset(entry, 0, sizeof(*entry) + table->payload_size);
    entry->hash = hash;
    entry->key_len = (uint32_t)len;
    if (len > 0) {
        memcpy(htable_key(table, entry), key, len);
    }
    segment_put(segment, hash, entry);
    table->len++;
    ASSERT(segment->used <= segment->cap / 4 * 3);
    return entry;
}

/* Knuth 6.4 algorithm R: closes the gap, so that probing needs no tombstones. */
static void segment_take(struct htable_segment *segment, uint32_t i)
{
    uint32_t mask = segment->cap - 1;
    ASSERT(i <= mask && segment->slots[i].entry != NULL);
    for (uint32_t j = (i + 1) & mask; segment->slots[j].entry != NULL; j = (j + 1) & mask) {
        uint32_t home = (uint32_t)segment->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            segment->slots[i] = segment->slots[j];
            i = j;
        }
    }
    ASSERT(segment->used > 0);
    segment->slots[i] = (struct htable_slot){0};
    segment->used--;
}

/*
 * Gives the entry's memory back. An empty table holds no memory at all, which is what lets a view
 * whose rows are all deleted shrink to nothing.
 */
void htable_remove(struct htable *table, struct htable_entry *entry)
{
    ASSERT(entry != NULL && table->directory != NULL);
    ASSERT(table->len > 0);
    struct htable_segment *segment = table->directory[directory_index(table, entry->hash)];
    uint32_t mask = segment->cap - 1;
    uint32_t i = (uint32_t)entry->hash & mask;
    while (segment->slots[i].entry != entry) {
        ASSERT(segment->slots[i].entry != NULL);
        i = (i + 1) & mask;
    }
    segment_take(segment, i);
    table->len--;
    pool_free(table->pool, entry, sizeof(*entry) + table->payload_size + entry->key_len);
    if (table->len == 0) {
        htable_clear(table);
    }
}

/*
 * The cursor is the least hash not yet visited. Between two calls the segment it points into may
 * have been split: the scan then goes on with the half that holds the cursor. Or a table may have
 * emptied and started again with one segment: then hashes below cursor->from come again, and the
 * caller skips them.
 */
const struct htable_segment *htable_scan(const struct htable *table, struct htable_cursor *cursor)
{
    if (cursor->done || table->directory == NULL) {
        cursor->done = true;
        return NULL;
    }
    cursor->from = cursor->at;
    const struct htable_segment *segment = table->directory[directory_index(table, cursor->at)];
    if (segment->depth == 0) {
        cursor->done = true;
        return segment;
    }
    uint64_t span = (uint64_t)1 << (64 - segment->depth);
    ASSERT(segment->depth <= 64);
    cursor->at = (cursor->at & ~(span - 1)) + span;
    cursor->done = cursor->at == 0;
    return segment;
}
