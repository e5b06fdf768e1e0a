/*
 * The multi-versioned index: compaction and its costs.
 *
 * When a list is compacted decides the cost of an update: on insertion while the list is short,
 * when at least half of it is new while it is long, from the queue when since has moved.
 *
 * Why the bookkeeping is right: used is the sum of arrange_update_size over the key's updates,
 * count their number, net the sum of their diffs, appended how many came behind the sorted part.
 * All but net change only in append_update, remove_update and compact_key; net only on insertion,
 * since compaction preserves sums. A key with count 0 and no flag set does not exist: whoever takes
 * the last update calls remove_if_empty. A queued or pinned entry is kept although empty, because
 * the queue or the pin's owner holds its address.
 *
 * Amortisation: sorting n updates is paid for by the n / 2 (at least LINEAR_MAX) appended since the
 * last time, so an update costs O(log n) in the long run, however long a list is.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/arrange.h"

enum {
    LINEAR_MAX = 8,    /* lists this short are compacted on insertion, by comparing */
    SHORT_MAX = 64,    /* lists this short are always worth compacting from the queue */
    CELL_MIN = 32,     /* bytes; most keys have one update, and its cell fits it */
};

/*
 * The pool's account is a child of the arrangement's own, so account.bytes is all of it: entries,
 * lists, segments, directory and queue.
 */
void arrange_init(struct arrange *a, struct account *account)
{
    *a = (struct arrange){.account = {.parent = account}};
    pool_init(&a->pool, &a->account);
    htable_init(&a->table, sizeof(struct arrange_key), &a->pool, &a->account);
}

/* In one go, without visiting keys: entries and lists go with the pool. */
void arrange_free(struct arrange *a)
{
    htable_clear(&a->table);
    pool_clear(&a->pool);
    account_add(&a->account, -(int64_t)a->account.bytes);
    free(a->dirty);
    free(a->sort);
    free(a->copy);
    *a = (struct arrange){0};
}

/*
 * Costs nothing by itself: keys are compacted when they are touched or when their turn in the queue
 * comes. Readers must treat times below since as since, and do.
 */
void arrange_set_since(struct arrange *a, uint64_t since)
{
    ASSERT(since >= a->since);
    a->since = since;
}

struct htable_entry *arrange_find(const struct arrange *a, uint64_t hash, const void *key,
                                 size_t key_len)
{
    return htable_find(&a->table, hash, key, key_len);
}

/* ---- the queue of keys to compact later ------------------------------------------------------ */

/* The ring is copied out straight, so that its head is 0 again. Capacities are powers of two. */
static void dirty_grow(struct arrange *a)
{
    ASSERT((a->dirty_cap & (a->dirty_cap - 1)) == 0 && a->dirty_len == a->dirty_cap);
    size_t cap = a->dirty_cap == 0 ? 16 : a->dirty_cap * 2;
    struct arrange_dirty *ring = mem_alloc(cap * sizeof(*ring));
    for (size_t i = 0; i < a->dirty_len; i++) {
        ring[i] = a->dirty[(a->dirty_head + i) & (a->dirty_cap - 1)];
    }
    account_add(&a->account, (int64_t)((cap - a->dirty_cap) * sizeof(*ring)));
    free(a->dirty);
    a->dirty = ring;
    a->dirty_cap = cap;
    a->dirty_head = 0;
}

/*
 * Each entry stands in the queue at most once, which its flag says. Times are pushed nearly in
 * order, since updates arrive so; one that is out of order only waits a little longer than it must.
 */
static void dirty_push(struct arrange *a, struct htable_entry *entry, uint64_t time)
{
    ASSERT((entry->flags & ARRANGE_QUEUED) == 0);
    if (a->dirty_len == a->dirty_cap) {
        dirty_grow(a);
    }
    ASSERT(a->dirty_len < a->dirty_cap);
    entry->flags |= ARRANGE_QUEUED;
    a->dirty[(a->dirty_head + a->dirty_len) & (a->dirty_cap - 1)] =
        (struct arrange_dirty){.entry = entry, .time = time};
    a->dirty_len++;
}

/* ---- compaction of one key ------------------------------------------------------------------- */

/* cap is 0 exactly when there is no memory. */
static void free_data(struct arrange *a, struct arrange_key *key)
{
    ASSERT((key->data == NULL) == (key->cap == 0));
    if (key->data != NULL) {
        pool_free(&a->pool, key->data, key->cap);
        key->data = NULL;
        key->cap = 0;
    }
}

/*
 * To be called after any change that may have taken the last update. The entry may be gone
 * afterwards.
 */
static void remove_if_empty(struct arrange *a, struct htable_entry *entry)
{
    struct arrange_key *key = arrange_key(entry);
    if (key->count == 0 && entry->flags == 0) {
        ASSERT(key->net == 0 && key->used == 0);
        free_data(a, key);
        htable_remove(&a->table, entry);
    }
}

/* By length first: that is cheap, and any total order of rows will do. */
static int compare_updates(const void *pa, const void *pb)
{
    const struct arrange_update *a = *(struct arrange_update *const *)pa;
    const struct arrange_update *b = *(struct arrange_update *const *)pb;
    if (a->len != b->len) {
        return a->len < b->len ? -1 : 1;
    }
    int order = memcmp(a->row, b->row, a->len);
    if (order != 0) {
        return order;
    }
    return a->time < b->time ? -1 : a->time > b->time;
}

static bool same_row(const struct arrange_update *a, const struct arrange_update *b)
{
    return a->len == b->len && memcmp(a->row, b->row, a->len) == 0;
}

/*
 * All updates of a key, sorted by row and time, in scratch memory. The scratch memory is valid
 * until the next call.
 */
static struct arrange_update **sorted_updates(struct arrange *a, const struct arrange_key *key)
{
    if (key->count > a->sort_cap) {
        a->sort_cap = key->count * 2;
        a->sort = mem_realloc(a->sort, a->sort_cap * sizeof(a->sort[0]));
    }
    struct arrange_update *update = (struct arrange_update *)key->data;
    for (uint32_t i = 0; i < key->count; i++) {
        a->sort[i] = update;
        update = (struct arrange_update *)arrange_next(update);
    }
    ASSERT((uint8_t *)update == key->data + key->used);
    if (key->count > 1) {
        qsort(a->sort, key->count, sizeof(a->sort[0]), compare_updates);
    }
    return a->sort;
}

/*
 * Moves old times up to since, adds up equal (row, time), drops zeros. Surviving updates go through
 * scratch memory, as sorting refers to them in place. The list keeps its memory unless nothing is
 * left: it will grow again.
 */
static void compact_key(struct arrange *a, struct arrange_key *key)
{
    ASSERT(key->count > 0);
    struct arrange_update *update = (struct arrange_update *)key->data;
    for (uint32_t i = 0; i < key->count; i++) {
        update->time = update->time < a->since ? a->since : update->time;
        update = (struct arrange_update *)arrange_next(update);
    }
    struct arrange_update **sorted = sorted_updates(a, key);
    if (key->used > a->copy_cap) {
        a->copy_cap = key->used * 2;
        a->copy = mem_realloc(a->copy, a->copy_cap);
    }
    uint32_t used = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < key->count;) {
        struct arrange_update *first = sorted[i];
        uint64_t diff = 0;
        for (; i < key->count && sorted[i]->time == first->time && same_row(sorted[i], first);
             i++) {
            diff += (uint64_t)sorted[i]->diff;
        }
        if (diff != 0) {
            first->diff = (int64_t)diff;
            size_t size = arrange_update_size(first->len);
            memcpy(a->copy + used, first, size);
            used += (uint32_t)size;
            count++;
        }
    }
    ASSERT(used <= key->used && count <= key->count);
    if (used > 0) {
        memcpy(key->data, a->copy, used);
    }
    a->updates -= key->count - count;
    ASSERT(a->updates <= UINT64_MAX / 2); /* did not wrap below zero */
    key->used = used;
    key->count = count;
    key->appended = 0;
    if (count == 0) {
        free_data(a, key);
    }
}

/* Whether enough was appended to pay for sorting the whole list. */
static bool worth_compacting(const struct arrange_key *key)
{
    ASSERT(key->appended <= key->count);
    uint32_t old = key->count - key->appended;
    return key->appended >= LINEAR_MAX && key->appended >= old / 2;
}

/*
 * A list that is full, or still too full after compaction, moves to twice the memory. After a
 * compaction that freed less than a quarter the list moves although the update would fit: else a
 * full list would be compacted for every few updates.
 */
static void reserve_data(struct arrange *a, struct arrange_key *key, size_t size)
{
    bool compacted = key->appended == 0;
    size_t room = compacted ? key->cap / 4 * 3 : key->cap;
    if (key->used + size <= room) {
        return;
    }
    size_t want = key->used + size;
    want = key->used > 0 && want < key->cap * 2UL ? key->cap * 2UL : want;
    size_t cap = pool_usable(want < CELL_MIN ? CELL_MIN : want);
    ASSERT(cap <= UINT32_MAX);
    uint8_t *data = pool_alloc(&a->pool, cap);
    if (key->used > 0) {
        memcpy(data, key->data, key->used);
    }
    uint32_t used = key->used;
    free_data(a, key);
    key->data = data;
    key->used = used;
    key->cap = (uint32_t)cap;
    ASSERT(key->used + size <= key->cap);
}

/* ---- insertion ------------------------------------------------------------------------------- */

/* Closes the gap. Only for short lists: it moves what is behind. */
static void remove_update(struct arrange *a, struct arrange_key *key, struct arrange_update *update)
{
    ASSERT(key->count > 0 && (uint8_t *)update < key->data + key->used);
    size_t size = arrange_update_size(update->len);
    uint8_t *end = (uint8_t *)update + size;
    memmove(update, end, (size_t)(key->data + key->used - end));
    key->used -= (uint32_t)size;
    key->count--;
    key->appended -= key->appended > 0;
    a->updates--;
}

/* memcmp may not be given NULL, not even for no bytes. */
static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t len)
{
    return len == 0 || memcmp(a, b, len) == 0;
}

/*
 * In a short list: adds to an equal update if there is one. Old times count as since, in place: so
 * a stream of updates to few rows stays short without any maintenance.
 */
static bool merge_short(struct arrange *a, struct arrange_key *key, const void *row,
                        size_t row_len, uint64_t time, int64_t diff)
{
    struct arrange_update *update = (struct arrange_update *)key->data;
    for (uint32_t i = 0; i < key->count; i++) {
        uint64_t at = update->time < a->since ? a->since : update->time;
        if (at == time && update->len == row_len && same_bytes(update->row, row, row_len)) {
            update->time = time;
            update->diff = (int64_t)((uint64_t)update->diff + (uint64_t)diff);
            if (update->diff == 0) {
                remove_update(a, key, update);
            }
            return true;
        }
        update = (struct arrange_update *)arrange_next(update);
    }
    return false;
}

/* At the end of the list, making room first. */
static void append_update(struct arrange *a, struct arrange_key *key, const void *row,
                          size_t row_len, uint64_t time, int64_t diff)
{
    size_t size = arrange_update_size(row_len);
    reserve_data(a, key, size);
    ASSERT(key->used + size <= key->cap);
    struct arrange_update *update = (struct arrange_update *)(key->data + key->used);
    update->time = time;
    update->diff = diff;
    update->len = (uint32_t)row_len;
    if (row_len > 0) {
        memcpy(update->row, row, row_len);
    }
    key->used += (uint32_t)size;
    key->count++;
    key->appended++;
    a->updates++;
}

/*
 * A full list is compacted first if that is worth it, in place of growing. Short lists merge by
 * comparing; long ones append, and are looked at again when all of their diffs add up to zero, or
 * later from the queue.
 */
void arrange_insert(struct arrange *a, uint64_t hash, const void *key_bytes, size_t key_len,
                    const void *row, size_t row_len, uint64_t time, int64_t diff)
{
    ASSERT(time >= a->since && time <= UINT64_MAX - 1);
    if (diff == 0) {
        return;
    }
    struct htable_entry *entry = htable_find(&a->table, hash, key_bytes, key_len);
    if (entry == NULL) {
        entry = htable_add(&a->table, hash, key_bytes, key_len);
    }
    struct arrange_key *key = arrange_key(entry);
    key->net = (int64_t)((uint64_t)key->net + (uint64_t)diff);
    if (key->used + arrange_update_size(row_len) > key->cap && worth_compacting(key)) {
        compact_key(a, key);
    }
    if (key->count <= LINEAR_MAX && merge_short(a, key, row, row_len, time, diff)) {
        /* Updates that add up to nothing may be left over from when the list was long. */
        if (key->count > 1 && key->net == 0 && (entry->flags & ARRANGE_QUEUED) == 0) {
            dirty_push(a, entry, time);
        }
        remove_if_empty(a, entry);
        return;
    }
    append_update(a, key, row, row_len, time, diff);
    if (worth_compacting(key) && key->net == 0) {
        compact_key(a, key); /* most likely everything cancels */
        remove_if_empty(a, entry);
        return;
    }
    /* With times before since in play all was merged above, unless it was not worth it then. */
    bool later = time > a->since || key->net == 0;
    if ((key->count > 1 || diff < 0) && later && (entry->flags & ARRANGE_QUEUED) == 0) {
        dirty_push(a, entry, time);
    }
}

/*
 * Adds an empty key when there is none. For operators that must remember a key while its updates
 * come and go within one time.
 */
struct htable_entry *arrange_pin(struct arrange *a, uint64_t hash, const void *key, size_t key_len)
{
    struct htable_entry *entry = htable_find(&a->table, hash, key, key_len);
    if (entry == NULL) {
        entry = htable_add(&a->table, hash, key, key_len);
    }
    entry->flags |= ARRANGE_PINNED;
    return entry;
}

void arrange_unpin(struct arrange *a, struct htable_entry *entry)
{
    ASSERT(entry != NULL);
    ASSERT((entry->flags & ARRANGE_PINNED) != 0);
    entry->flags &= ~(uint32_t)ARRANGE_PINNED;
    remove_if_empty(a, entry);
}

/* ---- maintenance ----------------------------------------------------------------------------- */

/* The time until which compaction of the key may still find something to do. */
static uint64_t latest_time(const struct arrange_key *key)
{
    uint64_t latest = 0;
    const struct arrange_update *update = arrange_first(key);
    for (uint32_t i = 0; i < key->count; i++) {
        latest = update->time > latest ? update->time : latest;
        update = arrange_next(update);
    }
    return latest;
}

/*
 * Compacts one key taken from the queue; returns the updates looked at. A long list that is mostly
 * sorted is not sorted again for a few updates: the next insertions will.
 */
static size_t maintain_key(struct arrange *a, struct htable_entry *entry)
{
    ASSERT((entry->flags & ARRANGE_QUEUED) != 0);
    struct arrange_key *key = arrange_key(entry);
    ASSERT(key->used <= key->cap && key->appended <= key->count);
    size_t looked_at = key->count + 1;
    entry->flags &= ~(uint32_t)ARRANGE_QUEUED;
    if (key->count > SHORT_MAX && key->net != 0 && !worth_compacting(key)) {
        return 1; /* it comes back when enough was appended */
    }
    if (key->count > 0) {
        compact_key(a, key);
        uint64_t latest = latest_time(key);
        if (key->count > 1 && latest > a->since) {
            dirty_push(a, entry, latest);
        }
    }
    remove_if_empty(a, entry);
    return looked_at;
}

/* budget is in updates: it bounds the time spent but for one long list, which is sorted whole. */
bool arrange_maintain(struct arrange *a, size_t budget)
{
    ASSERT(budget > 0 && a->dirty_len <= a->dirty_cap);
    while (a->dirty_len > 0 && a->dirty[a->dirty_head].time <= a->since) {
        if (budget == 0) {
            return true;
        }
        struct htable_entry *entry = a->dirty[a->dirty_head].entry;
        a->dirty_head = (a->dirty_head + 1) & (a->dirty_cap - 1);
        a->dirty_len--;
        size_t looked_at = maintain_key(a, entry);
        budget -= looked_at < budget ? looked_at : budget;
    }
    return false;
}

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * Rows with a sum of zero at this time are not there, whatever their later updates say. One update
 * needs no sorting: the usual case of unique keys.
 */
void arrange_read(struct arrange *a, const struct htable_entry *entry, uint64_t time,
                  void (*each)(void *arg, const uint8_t *row, uint32_t len, int64_t diff),
                  void *arg)
{
    const struct arrange_key *key = arrange_key(entry);
    ASSERT(time >= a->since);
    if (key->count == 1) {
        const struct arrange_update *only = arrange_first(key);
        if (only->time <= time) {
            each(arg, only->row, only->len, only->diff);
        }
        return;
    }
    struct arrange_update **sorted = sorted_updates(a, key);
    for (uint32_t i = 0; i < key->count;) {
        const struct arrange_update *first = sorted[i];
        uint64_t diff = 0;
        for (; i < key->count && same_row(sorted[i], first); i++) {
            diff += sorted[i]->time <= time ? (uint64_t)sorted[i]->diff : 0;
        }
        if (diff != 0) {
            each(arg, first->row, first->len, (int64_t)diff);
        }
    }
}
