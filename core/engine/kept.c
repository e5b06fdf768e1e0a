/*
 * Changing the rows of a key.
 *
 * Invariants between changes: a cell has at least one row on one of its sides; no row has a diff of
 * zero, which in a cell says that there is none. A list has at least two rows, at most cap, and
 * net is the sum of its diffs. A list of up to SHORT_MAX rows holds each row once: who appends to
 * it has looked for an equal one, also when the list became short only just now (settle). In a
 * longer one the last `appended` rows may repeat others and cancel them.
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
    SCRATCH_BYTES = sizeof(uint32_t) + sizeof(int64_t) / 2, /* a slot and half a sum */
};

#define DIFF_MAX ((1LL << 55) - 1)

/* The payload: a row's head and values for each side. */
void kept_init(struct kept *rows, uint32_t keys, const uint32_t values[2], const uint32_t rest[2],
               struct account *account)
{
    *rows = (struct kept){.values = {values[0], values[1]}, .rest = {rest[0], rest[1]}};
    for (uint32_t side = 0; side < 2; side++) {
        ASSERT(values[side] <= KEPT_VALUES_MAX && (rest[side] == 0 || values[side] > 0));
        size_t row = (1 + values[side]) * sizeof(uint64_t);
        size_t bytes = pool_usable(sizeof(struct kept_list) + LIST_CAP_MIN * row);
        rows->list_words[side] = (uint32_t)(bytes / sizeof(uint64_t));
    }
    cells_init(&rows->table, keys, 2 + values[0] + values[1], account);
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
    uint32_t side;
};

static uint64_t *own_row(const struct place *at)
{
    return kept_place(at->rows, at->cell, at->side);
}

static struct kept_list *list_of(const struct place *at)
{
    return kept_list(at->rows, at->cell, at->side);
}

/* Words of a row. */
static size_t stride_of(const struct place *at)
{
    return 1 + at->rows->values[at->side];
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

/* Of words that stand for themselves. */
static uint32_t plain_of(const struct place *at)
{
    return at->rows->values[at->side] - (at->rows->rest[at->side] > 0);
}

static bool same_row(const struct place *at, const uint64_t *a, const uint64_t *b)
{
    uint32_t plain = plain_of(at);
    uint32_t rest = at->rows->rest[at->side];
    return kept_nulls(a) == kept_nulls(b) && cells_same_key(a + 1, b + 1, plain) &&
           (rest == 0 || rest_same(rest_of(a[1 + plain]), rest_of(b[1 + plain]), rest));
}

/* Its bytes stay until kept_bury, its address is nowhere in the table. */
static void drop_rest(const struct place *at, const uint64_t *row)
{
    uint32_t rest = at->rows->rest[at->side];
    if (rest > 0) {
        struct kept *rows = at->rows;
        *VEC_PUSH(rows, dead) = (struct kept_dead){rest_of(row[1 + plain_of(at)]), rest};
    }
}

/* A row's words are there once more, and each needs a rest of its own. */
static void double_rest(const struct place *at, uint64_t *row)
{
    uint32_t rest = at->rows->rest[at->side];
    if (rest > 0) {
        uint64_t *word = &row[1 + plain_of(at)];
        *word = rest_word(rest_copy(&at->rows->pool, rest_of(*word), rest));
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
    at->cell[0] |= 1ULL << at->side;
    *own_row(at) = (uint64_t)(uintptr_t)list;
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
        const uint64_t *row = own_row(at);
        *list = (struct kept_list){.len = 1, .net = kept_diff(row)};
        memcpy(list->row, row, row_bytes);
    }
    list->cap = cap;
    set_list(at, list);
    return list;
}

/* Of what same_row compares; seen nowhere outside. */
static uint64_t row_hash(const struct place *at, const uint64_t *row)
{
    uint32_t plain = plain_of(at);
    uint32_t rest = at->rows->rest[at->side];
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
    at->rows->added_up += had;
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
    at->rows->len -= had - len;
    list->len = len;
    list->appended = 0;
}
/* A list that is down to one row or none is none any more. */
static void shrink(struct place *at, struct kept_list *list)
{
    if (list->len <= 1) {
        uint64_t *row = own_row(at);
        ASSERT(list->len == 1 || list->net == 0);
        at->cell[0] &= ~(1ULL << at->side);
        memcpy(row, list->row, stride_of(at) * sizeof(uint64_t));
        row[0] = list->len == 1 ? row[0] : 0;
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
    if (list->len == list->cap && list->appended > 0 && list->appended >= list->len / 2) {
        add_up(at, list);
    }
    return list;
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
    at->rows->len++;
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
        at->rows->len--;
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

/* A side without a list: it has one row or none. */
static void change_only(struct place *at, uint64_t *row, int64_t diff)
{
    uint64_t *own = own_row(at);
    int64_t had = kept_diff(own);
    if (had != 0 && !same_row(at, own, row)) {
        append_all(at, row, diff);
        return;
    }
    int64_t sum = plus(had, diff);
    int64_t piece = piece_of(sum);
    uint32_t nulls = kept_nulls(row);
    if (had != 0) {
        drop_rest(at, own);
    }
    at->rows->len += (uint64_t)(piece != 0) - (uint64_t)(had != 0);
    if (piece == 0) {
        own[0] = 0;
        drop_rest(at, row);
        return;
    }
    memcpy(own + 1, row + 1, (stride_of(at) - 1) * sizeof(uint64_t));
    own[0] = head_of(piece, nulls);
    if (sum != piece) {
        double_rest(at, row);
        append_all(at, row, plus(sum, -piece));
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
    struct place at = {rows, cell, side};
    if (list_of(&at) != NULL) {
        change_list(&at, row, diff);
    } else {
        change_only(&at, row, diff);
    }
    bool gone = (cell[0] & CELL_MARK) == 0 && kept_diff(kept_place(rows, cell, 0)) == 0 &&
                kept_diff(kept_place(rows, cell, 1)) == 0;
    if (gone) {
        cells_remove(&rows->table, key->hash, cell);
        if (rows->table.len == 0) {
            free_scratch(rows);
        }
    }
}
