/*
 * Changing the rows of a key.
 *
 * Invariants between changes: a cell has at least one row on one of its sides; no row has a diff
 * of zero. A list has a row at least, at most cap, and not one alone that is there once; net is the
 * sum of its diffs. A list of up to SHORT_MAX rows holds each row once: who appends to it has
 * looked for an equal one, also when the list became short only just now (settle). In a longer one
 * the last `appended` rows may repeat others and cancel them.
 *
 * A head has 56 bits for the diff, diffs have 64: one that does not fit is stored as several rows
 * of equal values. Whoever multiplies and adds up comes to the same, modulo 2^64.
 *
 * Why no cell is left behind when all rows of a key cancel: each row of the added-up part needs at
 * least one appended row to cancel it. So when net is zero and at least half of the list is
 * appended, which is looked at after every change, the list is added up.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/kept.h"

enum {
    SHORT_MAX = 16,
    LIST_CAP_MIN = 2,
    DEPTH_MAX = 24,
    SCRATCH_BYTES = sizeof(uint32_t) + sizeof(int64_t) / 2, /* a slot and half a sum */
};

#define DIFF_MAX ((1LL << 55) - 1)

/* The payload: a row's head and values for each side. */
void kept_init(struct kept *rows, uint32_t keys, const uint32_t values[2], const uint32_t rest[2],
               struct account *account)
{
    *rows = (struct kept){.values = {values[0], values[1]},
                          .rest = {rest[0], rest[1]},
                          .part_max = KEPT_PART_MAX};
    for (uint32_t side = 0; side < 2; side++) {
        ASSERT(values[side] <= KEPT_VALUES_MAX && (rest[side] == 0 || values[side] > 0));
        size_t row = (1 + values[side]) * sizeof(uint64_t);
        size_t bytes = pool_usable(sizeof(struct kept_list) + LIST_CAP_MIN * row);
        rows->list_words[side] = (uint32_t)(bytes / sizeof(uint64_t));
    }
    cells_init(&rows->table, keys,
               (values[0] > 0 ? values[0] : 1) + (values[1] > 0 ? values[1] : 1), account);
    pool_init(&rows->pool, account);
}

static void free_scratch(struct kept *rows)
{
    account_add(rows->pool.account.parent, -(int64_t)(rows->slots_cap * SCRATCH_BYTES));
    free(rows->slots);
    free(rows->sums);
    rows->slots = NULL;
    rows->sums = NULL;
    rows->slots_cap = 0;
}

/* Lists and rests go with the pool: nothing is done per key. */
void kept_free(struct kept *rows)
{
    cells_clear(&rows->table);
    pool_clear(&rows->pool);
    free_scratch(rows);
    free(rows->dead);
}

/* One side of a key's cell. */
struct place {
    struct kept *rows;
    uint64_t *cell;
    uint64_t *own;  /* the values or the list's address in it */
    uint32_t side;
    uint32_t plain; /* words of a row that stand for themselves */
    uint32_t rest;  /* values behind the one that does not; 0: there is none */
    struct kept_wide *wide; /* or NULL */
    uint64_t hash;  /* of the row at hand, if there are several lists: says which */
};

static struct place place_of(struct kept *rows, uint64_t *cell, uint32_t side)
{
    uint32_t rest = rows->rest[side];
    return (struct place){.rows = rows,
                          .cell = cell,
                          .own = kept_place(rows, cell, side),
                          .side = side,
                          .plain = rows->values[side] - (rest > 0),
                          .rest = rest,
                          .wide = kept_wide(rows, cell, side)};
}

/* Shifting by 64 is undefined, hence in two steps. */
static size_t part_of(const struct kept_wide *wide, uint64_t hash)
{
    return hash >> 1 >> (63 - wide->depth);
}

static size_t wide_bytes(uint32_t depth)
{
    return sizeof(struct kept_wide) + ((size_t)1 << depth) * sizeof(struct kept_list *);
}

static struct kept_list *list_of(const struct place *at)
{
    const struct kept_wide *wide = at->wide;
    bool listed = (at->cell[0] >> at->side & 1) != 0;
    return wide != NULL ? wide->part[part_of(wide, at->hash)]
           : listed     ? (struct kept_list *)(uintptr_t)*at->own
                        : NULL;
}

static void count_rows(const struct place *at, int64_t more)
{
    at->rows->len += (uint64_t)more;
    if (at->wide != NULL) {
        at->wide->len += (uint64_t)more;
        ASSERT(at->wide->len <= at->rows->len);
    }
}

/* Words of a row. */
static size_t stride_of(const struct place *at)
{
    return 1 + at->plain + (at->rest > 0);
}

static size_t list_bytes(const struct place *at, uint32_t cap)
{
    return sizeof(struct kept_list) + cap * stride_of(at) * sizeof(uint64_t);
}

static uint64_t head_of(int64_t diff, uint32_t nulls)
{
    ASSERT(diff >= -DIFF_MAX && diff <= DIFF_MAX && nulls <= 0xFF);
    return (uint64_t)diff << 8 | nulls;
}

static int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* The part of a diff that fits a head: all of it, but for the absurd. */
static int64_t piece_of(int64_t diff)
{
    return diff > DIFF_MAX ? DIFF_MAX : diff < -DIFF_MAX ? -DIFF_MAX : diff;
}

/* ---- rests ----------------------------------------------------------------------------------- */

static bool same_values(const struct place *at, const uint64_t *a, const uint64_t *b)
{
    uint32_t plain = at->plain;
    uint32_t rest = at->rest;
    return cells_same_key(a, b, plain) &&
           (rest == 0 || rest_same(rest_of(a[plain]), rest_of(b[plain]), rest));
}

static bool same_row(const struct place *at, const uint64_t *a, const uint64_t *b)
{
    return kept_nulls(a) == kept_nulls(b) && same_values(at, a + 1, b + 1);
}

/* Its bytes stay until kept_bury, its address is nowhere in the table. */
static void drop_rest(const struct place *at, const uint64_t *row)
{
    kept_drop(at->rows, at->side, row + 1);
}

/* A row's words are there once more, and each needs a rest of its own. */
static void double_rest(const struct place *at, uint64_t *row)
{
    if (at->rest > 0) {
        uint64_t *word = &row[1 + at->plain];
        *word = rest_word(rest_copy(&at->rows->pool, rest_of(*word), at->rest));
    }
}

void kept_drop(struct kept *rows, uint32_t side, const uint64_t *values)
{
    if (rows->rest[side] > 0) {
        uint64_t word = values[rows->values[side] - 1];
        *VEC_PUSH(rows, dead) = (struct kept_dead){rest_of(word), rows->rest[side]};
    }
}

void kept_bury(struct kept *rows)
{
    for (size_t i = 0; i < rows->dead_len; i++) {
        rest_free(&rows->pool, rows->dead[i].rest, rows->dead[i].cols);
    }
    rows->dead_len = 0;
}

/* ---- lists ----------------------------------------------------------------------------------- */

/* Of a size class, so that nothing of its memory is left unused. */
static uint32_t cap_for(const struct place *at, uint32_t len)
{
    size_t bytes = pool_usable(list_bytes(at, len < LIST_CAP_MIN ? LIST_CAP_MIN : len));
    size_t cap = (bytes - sizeof(struct kept_list)) / (stride_of(at) * sizeof(uint64_t));
    ASSERT(cap >= len && cap <= UINT32_MAX);
    return (uint32_t)cap;
}

static void set_list(const struct place *at, struct kept_list *list)
{
    ASSERT((uintptr_t)list % 8 == 0 && list->len <= list->cap);
    struct kept_wide *wide = at->wide;
    if (wide == NULL) {
        at->cell[0] |= 1ULL << at->side;
        *at->own = (uint64_t)(uintptr_t)list;
        return;
    }
    ASSERT(list->depth <= wide->depth);
    size_t places = (size_t)1 << (wide->depth - list->depth);
    size_t first = part_of(wide, at->hash) & ~(places - 1);
    for (size_t i = 0; i < places; i++) {
        wide->part[first + i] = list;
    }
}

/* A row that is there once, in place of whatever was. */
static void put_one(const struct place *at, const uint64_t *row)
{
    ASSERT(kept_diff(row) == 1 && (at->cell[0] >> at->side & 1) == 0);
    memcpy(at->own, row + 1, (stride_of(at) - 1) * sizeof(uint64_t));
    at->cell[0] &= ~(0xFFULL << (8 + 8 * at->side));
    at->cell[0] |= 16ULL << at->side | (uint64_t)kept_nulls(row) << (8 + 8 * at->side);
}

/* The other way round; nothing is in its place then. */
static void take_one(const struct place *at, uint64_t *row)
{
    ASSERT(kept_is_one(at->cell, at->side));
    row[0] = head_of(1, kept_one_nulls(at->cell, at->side));
    memcpy(row + 1, at->own, (stride_of(at) - 1) * sizeof(uint64_t));
    at->cell[0] &= ~(0xFFULL << (8 + 8 * at->side) | 16ULL << at->side);
    *at->own = 0;
}

/* The list of a cell with room for len rows, whatever it is now. */
static struct kept_list *resize(const struct place *at, uint32_t len)
{
    struct pool *pool = &at->rows->pool;
    struct kept_list *old = list_of(at);
    uint32_t cap = cap_for(at, len);
    ASSERT(cap >= LIST_CAP_MIN);
    struct kept_list *list = pool_alloc(pool, list_bytes(at, cap));
    size_t row_bytes = stride_of(at) * sizeof(uint64_t);
    if (old != NULL) {
        ASSERT(old->len <= cap);
        memcpy(list, old, sizeof(*list) + old->len * row_bytes);
        pool_free(pool, old, list_bytes(at, old->cap));
    } else {
        *list = (struct kept_list){0};
        if (kept_is_one(at->cell, at->side)) {
            list->len = 1;
            list->net = 1;
            take_one(at, list->row);
        }
    }
    list->cap = cap;
    set_list(at, list);
    return list;
}

/* Of what same_row compares; seen nowhere outside. */
static uint64_t row_hash(const struct place *at, const uint64_t *row)
{
    uint32_t plain = at->plain;
    uint32_t rest = at->rest;
    uint64_t h = rest == 0 ? 0 : rest_hash(rest_of(row[1 + plain]), rest);
    h ^= kept_nulls(row);
    for (uint32_t i = 1; i <= plain; i++) {
        h = (h ^ row[i]) * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 32;
    }
    return h;
}

/* Scratch for lists of len rows: a sum a row, and a table at most half full. */
static void reserve_scratch(struct kept *rows, uint32_t len)
{
    size_t cap = rows->slots_cap == 0 ? 64 : rows->slots_cap;
    while (cap < 2UL * len) {
        cap *= 2;
    }
    if (cap > rows->slots_cap) {
        account_add(rows->pool.account.parent,
                    (int64_t)((cap - rows->slots_cap) * SCRATCH_BYTES));
        rows->slots = mem_realloc(rows->slots, cap * sizeof(rows->slots[0]));
        rows->sums = mem_realloc(rows->sums, cap / 2 * sizeof(rows->sums[0]));
        rows->slots_cap = cap;
    }
}

/* Each row's sum: of all equal ones for the first of them, 0 for the others. */
static void sum_rows(const struct place *at, const struct kept_list *list)
{
    struct kept *rows = at->rows;
    size_t stride = stride_of(at);
    size_t mask = 1;
    while (mask < 2UL * list->len) {
        mask *= 2;
    }
    ASSERT(mask <= rows->slots_cap);
    memset(rows->slots, 0, mask * sizeof(rows->slots[0]));
    mask--;
    for (uint32_t i = 0; i < list->len; i++) {
        const uint64_t *row = &list->row[i * stride];
        size_t slot = row_hash(at, row) & mask;
        uint32_t first = rows->slots[slot];
        while (first != 0 && !same_row(at, &list->row[(first - 1) * stride], row)) {
            slot = (slot + 1) & mask;
            first = rows->slots[slot];
        }
        rows->sums[i] = 0;
        first = first == 0 ? rows->slots[slot] = i + 1 : first;
        rows->sums[first - 1] = plus(rows->sums[first - 1], kept_diff(row));
    }
}

/*
 * Adds up equal rows; their order is that of their first ones. Sums that do not fit a head stay in
 * pieces, behind all others: there are never more of them than there were rows.
 */
static void add_up(struct place *at, struct kept_list *list)
{
    size_t stride = stride_of(at);
    reserve_scratch(at->rows, list->len);
    int64_t *sums = at->rows->sums;
    uint32_t had = list->len;
    uint32_t len = 0;
    at->rows->gone_through += had;
    sum_rows(at, list);
    for (uint32_t i = 0; i < had; i++) {
        const uint64_t *row = &list->row[i * stride];
        int64_t piece = piece_of(sums[i]);
        if (piece == 0) {
            drop_rest(at, row);
            continue;
        }
        uint64_t *to = &list->row[len * stride];
        uint32_t nulls = kept_nulls(row);
        memmove(to, row, stride * sizeof(uint64_t));
        to[0] = head_of(piece, nulls);
        sums[len++] = plus(sums[i], -piece);
    }
    uint32_t rows_len = len;
    for (uint32_t i = 0; i < rows_len; i++) {
        while (sums[i] != 0) {
            ASSERT(len < had);
            uint64_t *to = &list->row[len++ * stride];
            int64_t piece = piece_of(sums[i]);
            memcpy(to, &list->row[i * stride], stride * sizeof(uint64_t));
            to[0] = head_of(piece, kept_nulls(to));
            double_rest(at, to);
            sums[i] = plus(sums[i], -piece);
        }
    }
    count_rows(at, (int64_t)len - had);
    list->len = len;
    list->appended = 0;
}

/* ---- several lists --------------------------------------------------------------------------- */

/* The only list becomes the first of several. */
static void widen(struct place *at)
{
    struct kept_list *list = list_of(at);
    struct kept_wide *wide = pool_alloc(&at->rows->pool, wide_bytes(0));
    ASSERT(at->wide == NULL && list != NULL);
    *wide = (struct kept_wide){.len = list->len};
    wide->part[0] = list;
    list->depth = 0;
    at->wide = wide;
    *at->own = (uint64_t)(uintptr_t)wide;
    at->cell[0] |= 4ULL << at->side;
}

static void double_directory(struct place *at)
{
    struct kept_wide *old = at->wide;
    struct kept_wide *wide = pool_alloc(&at->rows->pool, wide_bytes(old->depth + 1));
    ASSERT(old->depth < DEPTH_MAX);
    *wide = (struct kept_wide){.len = old->len, .depth = old->depth + 1};
    for (size_t i = 0; i < (size_t)1 << wide->depth; i++) {
        wide->part[i] = old->part[i / 2];
    }
    at->rows->gone_through += ((uint64_t)1 << wide->depth) / 64;
    pool_free(&at->rows->pool, old, wide_bytes(old->depth));
    at->wide = wide;
    *at->own = (uint64_t)(uintptr_t)wide;
}

/* Moves the rows whose hash (in sums) has this bit to a list of their own, the others as well. */
static struct kept_list *half_of(const struct place *at, const struct kept_list *list, bool upper)
{
    const int64_t *hashes = at->rows->sums;
    size_t stride = stride_of(at);
    uint32_t len = 0;
    for (uint32_t i = 0; i < list->len; i++) {
        len += ((uint64_t)hashes[i] >> (63 - list->depth) & 1) == upper;
    }
    uint32_t cap = cap_for(at, len);
    struct kept_list *half = pool_alloc(&at->rows->pool, list_bytes(at, cap));
    *half = (struct kept_list){.cap = cap, .depth = list->depth + 1};
    for (uint32_t i = 0; i < list->len; i++) {
        if (((uint64_t)hashes[i] >> (63 - list->depth) & 1) == upper) {
            const uint64_t *row = &list->row[i * stride];
            memcpy(&half->row[half->len++ * stride], row, stride * sizeof(uint64_t));
            half->net = plus(half->net, kept_diff(row));
        }
    }
    ASSERT(half->len == len && len <= cap);
    return half;
}

/* A list whose rows are all different becomes two, by the next bit of their hash. */
static void split(struct place *at)
{
    struct kept *rows = at->rows;
    struct kept_list *list = list_of(at);
    size_t stride = stride_of(at);
    ASSERT(list->appended == 0 && at->wide != NULL);
    if (list->depth == at->wide->depth) {
        double_directory(at);
    }
    reserve_scratch(rows, list->len);
    for (uint32_t i = 0; i < list->len; i++) {
        rows->sums[i] = (int64_t)row_hash(at, &list->row[i * stride]);
    }
    rows->gone_through += list->len;
    struct place half = *at;
    uint64_t bit = 1ULL << (63 - list->depth);
    half.hash = at->hash & ~bit;
    set_list(&half, half_of(at, list, false));
    half.hash = at->hash | bit;
    set_list(&half, half_of(at, list, true));
    pool_free(&rows->pool, list, list_bytes(at, list->cap));
}

/* Not when the directory would be out of proportion: somebody makes hashes collide. */
static bool may_split(const struct place *at, const struct kept_list *list)
{
    const struct kept_wide *wide = at->wide;
    return wide == NULL || list->depth < wide->depth ||
           (wide->depth < DEPTH_MAX && wide->len >> wide->depth >= at->rows->part_max / 16);
}

/* The last row is gone. */
static void drop_wide(struct place *at)
{
    struct kept_wide *wide = at->wide;
    ASSERT(wide->len == 0);
    for (size_t i = 0; i < (size_t)1 << wide->depth;) {
        struct kept_list *list = wide->part[i];
        ASSERT(list->len == 0 && list->net == 0);
        i += (size_t)1 << (wide->depth - list->depth);
        pool_free(&at->rows->pool, list, list_bytes(at, list->cap));
        at->rows->gone_through++;
    }
    pool_free(&at->rows->pool, wide, wide_bytes(wide->depth));
    at->cell[0] &= ~(5ULL << at->side);
    at->wide = NULL;
    *at->own = 0;
}

/* Two lists become the one they were. */
static struct kept_list *join_halves(struct place *at, struct kept_list *const halves[2])
{
    size_t row_bytes = stride_of(at) * sizeof(uint64_t);
    uint32_t cap = cap_for(at, halves[0]->len + halves[1]->len);
    struct kept_list *both = pool_alloc(&at->rows->pool, list_bytes(at, cap));
    *both = (struct kept_list){.cap = cap, .depth = halves[0]->depth - 1};
    for (uint32_t i = 0; i < 2; i++) {
        struct kept_list *half = halves[i];
        if (half->appended > 0) {
            add_up(at, half);
        }
        memcpy((uint8_t *)both->row + both->len * row_bytes, half->row, half->len * row_bytes);
        both->len += half->len;
        both->net = plus(both->net, half->net);
        at->rows->gone_through += 1 + half->len;
        pool_free(&at->rows->pool, half, list_bytes(at, half->cap));
    }
    ASSERT(both->len <= cap);
    set_list(at, both);
    return both;
}

/*
 * Lists that were one and have few rows are one again: who reads the key goes through all lists,
 * which would stay as many as there ever were.
 */
static struct kept_list *join_lists(struct place *at, struct kept_list *list)
{
    const struct kept_wide *wide = at->wide;
    while (list->depth > 0) {
        size_t places = (size_t)1 << (wide->depth - list->depth);
        struct kept_list *other = wide->part[(part_of(wide, at->hash) ^ places) & ~(places - 1)];
        if (other->depth != list->depth || list->len + other->len > at->rows->part_max / 4) {
            break;
        }
        list = join_halves(at, (struct kept_list *const[2]){list, other});
    }
    return list;
}

/*
 * Few rows are left: they go to one list, since who reads them would look at all the others for
 * nothing. Each of them is there once.
 */
static struct kept_list *narrow(struct place *at)
{
    struct kept_wide *wide = at->wide;
    size_t row_bytes = stride_of(at) * sizeof(uint64_t);
    uint32_t cap = cap_for(at, (uint32_t)wide->len);
    struct kept_list *list = pool_alloc(&at->rows->pool, list_bytes(at, cap));
    *list = (struct kept_list){.cap = cap};
    for (size_t i = 0; i < (size_t)1 << wide->depth;) {
        struct kept_list *part = wide->part[i];
        i += (size_t)1 << (wide->depth - part->depth);
        if (part->appended > 0) {
            add_up(at, part);
        }
        memcpy((uint8_t *)list->row + list->len * row_bytes, part->row, part->len * row_bytes);
        list->len += part->len;
        list->net = plus(list->net, part->net);
        at->rows->gone_through += 1 + part->len;
        pool_free(&at->rows->pool, part, list_bytes(at, part->cap));
    }
    ASSERT(list->len == wide->len && list->len <= cap);
    pool_free(&at->rows->pool, wide, wide_bytes(wide->depth));
    at->wide = NULL;
    at->cell[0] &= ~(4ULL << at->side);
    set_list(at, list);
    return list;
}

/* A list that is down to one row that is there once, or none, is none any more. */
static void shrink(struct place *at, struct kept_list *list)
{
    if (at->wide != NULL && at->wide->len > 0 && at->wide->len <= at->rows->part_max / 4) {
        list = narrow(at);
    }
    if (at->wide != NULL) {
        list = join_lists(at, list);
    }
    const struct kept_wide *wide = at->wide;
    if (wide != NULL && wide->len == 0) {
        drop_wide(at);
    } else if (wide == NULL && (list->len == 0 || (list->len == 1 && kept_diff(list->row) == 1))) {
        ASSERT(list->net == (int64_t)list->len);
        at->cell[0] &= ~(1ULL << at->side);
        *at->own = 0;
        if (list->len == 1) {
            put_one(at, list->row);
        }
        pool_free(&at->rows->pool, list, list_bytes(at, list->cap));
    } else if (list->cap > 2 * SHORT_MAX && list->len < list->cap / 4) {
        resize(at, list->len * 2);
    }
}

/*
 * A full list is added up if that is worth it, in place of growing; one that stays nearly full
 * grows all the same, or it would be added up for every few rows. This comes before a change, never
 * amid one: it may leave a short list, in which the change must then look for equal rows.
 */
static struct kept_list *settle(struct place *at)
{
    struct kept_list *list = list_of(at);
    ASSERT(list != NULL && list->len <= list->cap);
    bool too_long = list->len >= at->rows->part_max && may_split(at, list);
    bool worth = too_long || list->appended >= list->len / 2;
    if (list->len == list->cap && list->appended > 0 && worth) {
        add_up(at, list);
    }
    if (too_long && list->appended == 0 && list->len > at->rows->part_max / 2) {
        if (at->wide == NULL) {
            widen(at);
        }
        split(at);
    }
    return list_of(at);
}

/* Grows a list by half while it is short, then to twice its length; makes one of a row. */
static struct kept_list *with_room(struct place *at)
{
    struct kept_list *list = list_of(at);
    if (list == NULL) {
        return resize(at, LIST_CAP_MIN);
    }
    if (list->len < list->cap) {
        return list;
    }
    ASSERT(list->len < UINT32_MAX / 2);
    uint32_t more = list->len < SHORT_MAX ? (list->len + 1) / 2 : list->len;
    if (list->len < at->rows->part_max && list->len + more > at->rows->part_max) {
        more = at->rows->part_max - list->len;
    }
    return resize(at, list->len + more);
}

static void append(struct place *at, const uint64_t *row)
{
    struct kept_list *list = with_room(at);
    size_t stride = stride_of(at);
    ASSERT(list->len < list->cap);
    memcpy(&list->row[list->len * stride], row, stride * sizeof(uint64_t));
    list->net = plus(list->net, kept_diff(row));
    list->len++;
    list->appended += list->len > SHORT_MAX;
    count_rows(at, 1);
}

/* ---- changes --------------------------------------------------------------------------------- */

/* Takes equal rows out of a short list; returns the sum of their diffs. */
static int64_t take_equal(struct place *at, struct kept_list *list, const uint64_t *row)
{
    size_t stride = stride_of(at);
    int64_t sum = 0;
    ASSERT(list->len <= SHORT_MAX); /* longer ones are not searched */
    for (uint32_t i = 0; i < list->len;) {
        uint64_t *other = &list->row[i * stride];
        if (!same_row(at, other, row)) {
            i++;
            continue;
        }
        sum = plus(sum, kept_diff(other));
        drop_rest(at, other);
        list->len--;
        count_rows(at, -1);
        memmove(other, &list->row[list->len * stride], stride * sizeof(uint64_t));
    }
    list->net = plus(list->net, -sum);
    return sum;
}

/* Appends diff copies, in pieces that fit. The row's rest is taken over. */
static void append_all(struct place *at, uint64_t *row, int64_t diff)
{
    uint32_t nulls = kept_nulls(row);
    if (diff == 0) {
        drop_rest(at, row);
    }
    while (diff != 0) {
        int64_t piece = piece_of(diff);
        row[0] = head_of(piece, nulls);
        append(at, row);
        diff = plus(diff, -piece);
        if (diff != 0) {
            double_rest(at, row);
        }
    }
}

static void change_list(struct place *at, uint64_t *row, int64_t diff)
{
    at->hash = at->wide != NULL || list_of(at)->len >= at->rows->part_max ? row_hash(at, row) : 0;
    struct kept_list *list = settle(at);
    if (list->len <= SHORT_MAX) {
        diff = plus(diff, take_equal(at, list, row));
    }
    append_all(at, row, diff);
    list = list_of(at);
    if (list->net == 0 && list->appended > 0 && list->appended >= list->len / 2) {
        add_up(at, list); /* most likely everything cancels */
    }
    shrink(at, list);
}

/* A side without a list: it has one row, once, or none. */
static void change_only(struct place *at, uint64_t *row, int64_t diff)
{
    bool had = kept_is_one(at->cell, at->side);
    bool same = had && kept_one_nulls(at->cell, at->side) == kept_nulls(row) &&
                same_values(at, at->own, row + 1);
    if (same) {
        uint64_t old[1 + KEPT_VALUES_MAX];
        take_one(at, old);
        drop_rest(at, old);
        count_rows(at, -1);
        diff = plus(diff, 1);
    }
    if (diff == 1 && (same || !had)) {
        row[0] = head_of(1, kept_nulls(row));
        put_one(at, row);
        count_rows(at, 1);
    } else {
        append_all(at, row, diff);
    }
}

void kept_change(struct kept *rows, uint32_t side, const struct kept_key *key, uint64_t *cell,
                 const uint64_t *values, uint32_t nulls, int64_t diff)
{
    ASSERT(nulls <= 0xFF && side < 2);
    if (diff == 0) {
        kept_drop(rows, side, values);
        return;
    }
    uint64_t row[1 + KEPT_VALUES_MAX] = {nulls};
    memcpy(row + 1, values, rows->values[side] * sizeof(uint64_t));
    if (cell == NULL) {
        cell = cells_add(&rows->table, key->hash, key->words, key->nulls);
    }
    struct place at = place_of(rows, cell, side);
    if ((cell[0] >> side & 1) != 0) {
        change_list(&at, row, diff);
    } else {
        change_only(&at, row, diff);
    }
    if ((cell[0] & CELL_MARK) == 0) {
        cells_remove(&rows->table, key->hash, cell);
        if (rows->table.len == 0) {
            free_scratch(rows);
        }
    }
}
