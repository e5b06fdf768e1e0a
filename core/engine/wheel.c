/*
 * See wheel.h for the structure and why it is in the order of times.
 *
 * Why the base may move to upper once no slot begins before it: all that is held is later, and
 * agrees with the old base above the level it lies on. upper lies between the two, so it agrees
 * there as well, and its digit on that level is less than any that is held. No update changes its
 * place.
 */
#include "core/engine/wheel.h"

STATIC_ASSERT(WHEEL_LEVELS * WHEEL_SLOTS <= UINT16_MAX, "a place fits its field");

void wheel_init(struct wheel *wheel, const uint8_t *kinds, uint32_t cols, struct account *account,
                uint64_t base)
{
    ASSERT(account != NULL && (cols == 0 || kinds != NULL));
    *wheel = (struct wheel){.kinds = kinds, .cols = cols, .account = account, .base = base};
}

static void drop_open(struct wheel *wheel, struct wheel_slot *slot)
{
    batch_builder_free(slot->open);
    slot->open = NULL;
    account_add(wheel->account, -(int64_t)slot->open_bytes);
    slot->open_bytes = 0;
}

static void merge_free(struct wheel *wheel, struct wheel_merge *m)
{
    batch_merge_free(m->merge);
    batch_builder_free(m->builder);
    chunk_list_free(&m->from);
    free(m->views);
    account_add(wheel->account, -(int64_t)m->bytes);
    *m = (struct wheel_merge){0};
}

void wheel_free(struct wheel *wheel)
{
    for (uint32_t l = 0; l < WHEEL_LEVELS; l++) {
        for (uint32_t s = 0; wheel->slots[l] != NULL && s < WHEEL_SLOTS; s++) {
            drop_open(wheel, &wheel->slots[l][s]);
            chunk_list_free(&wheel->slots[l][s].closed);
        }
        free(wheel->slots[l]);
    }
    merge_free(wheel, &wheel->tidied);
    chunk_list_free(&wheel->due);
    free(wheel->places);
    free(wheel->order);
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Its open batch becomes a chunk. */
static void close_slot(struct wheel *wheel, struct wheel_slot *slot)
{
    ASSERT(slot->open != NULL || slot->open_bytes == 0);
    if (slot->open == NULL) {
        return;
    }
    struct chunk *chunk = chunk_from_builder(slot->open, wheel->cols, wheel->account);
    drop_open(wheel, slot);
    if (chunk != NULL) {
        chunk_list_push(&slot->closed, chunk);
    }
}

static void count_signs(const struct batch *b, const uint32_t *sel, uint32_t n, uint64_t *plus,
                        uint64_t *minus)
{
    for (uint32_t i = 0; i < n; i++) {
        bool negative = batch_diff(b, sel != NULL ? sel[i] : i) < 0;
        *minus += negative;
        *plus += !negative;
    }
}

static void push_built(struct wheel *wheel, struct batch_builder *builder, struct chunk_list *out)
{
    struct chunk *chunk = chunk_from_builder(builder, wheel->cols, wheel->account);
    if (chunk != NULL) {
        chunk_list_push(out, chunk);
    }
}

/* Takes the chunks. */
static void merge_begin(struct wheel *wheel, struct chunk_list from, struct wheel_merge *m)
{
    ASSERT(m->merge == NULL && from.chunks_len > 0);
    *m = (struct wheel_merge){.from = from};
    m->views = mem_alloc(from.chunks_len * sizeof(m->views[0]));
    for (size_t i = 0; i < from.chunks_len; i++) {
        m->views[i] = &from.chunks[i]->batch;
    }
    m->builder = batch_builder_new(wheel->kinds, wheel->cols);
    m->merge = batch_merge_new(wheel->kinds, wheel->cols);
    batch_merge_begin(m->merge, m->views, from.chunks_len, false);
    m->bytes = batch_merge_bytes(m->merge);
    account_add(wheel->account, (int64_t)m->bytes);
}

/* What is left of the chunks goes to out, little by little; false: all of it has. */
static bool merge_step(struct wheel *wheel, struct wheel_merge *m, struct chunk_list *out,
                       uint32_t *rows)
{
    bool more = batch_merge_step(m->merge, m->builder, rows);
    if (!more || batch_builder_rows(m->builder) >= WHEEL_CHUNK_ROWS) {
        push_built(wheel, m->builder, out);
    }
    if (!more) {
        merge_free(wheel, m);
    }
    return more;
}

/* The same at once, for few. */
static void merge_few(struct wheel *wheel, struct chunk_list *from, struct chunk_list *out)
{
    const struct batch **views = mem_alloc((from->chunks_len + 1) * sizeof(views[0]));
    struct batch_builder *builder = batch_builder_new(wheel->kinds, wheel->cols);
    for (size_t i = 0; i < from->chunks_len; i++) {
        views[i] = &from->chunks[i]->batch;
    }
    batch_consolidate(views, from->chunks_len, 0, builder);
    push_built(wheel, builder, out);
    chunk_list_free(from);
    batch_builder_free(builder);
    free(views);
}

/* Seldom: see is_untidy. */
static void consolidate_slot(struct wheel *wheel, struct wheel_slot *slot)
{
    close_slot(wheel, slot);
    struct chunk_list old = slot->closed;
    uint64_t before = slot->plus + slot->minus;
    slot->closed = (struct chunk_list){0};
    slot->plus = slot->minus = 0;
    if (before <= WHEEL_TIDY_ROWS) {
        merge_few(wheel, &old, &slot->closed);
    } else {
        struct wheel_merge m = {0};
        uint32_t rows;
        merge_begin(wheel, old, &m);
        while (merge_step(wheel, &m, &slot->closed, &rows)) {
        }
    }
    for (size_t i = 0; i < slot->closed.chunks_len; i++) {
        const struct batch *b = &slot->closed.chunks[i]->batch;
        count_signs(b, NULL, b->rows, &slot->plus, &slot->minus);
    }
    slot->opposed = slot->plus < slot->minus ? slot->plus : slot->minus;
    uint64_t after = slot->plus + slot->minus;
    ASSERT(after <= before && wheel->rows >= before - after);
    wheel->rows -= before - after;
}

/* Worth it when a half of the slot may go, and twice as much as did not go before. */
static bool is_untidy(const struct wheel_slot *slot)
{
    ASSERT(slot->plus + slot->minus > 0);
    uint64_t opposed = slot->plus < slot->minus ? slot->plus : slot->minus;
    return opposed >= 2 * slot->opposed && opposed > 0 &&
           opposed >= (slot->plus + slot->minus) / 4;
}

static void slot_add(struct wheel *wheel, uint32_t place, const struct batch *b,
                     const uint32_t *sel, uint32_t n)
{
    uint32_t level = place / WHEEL_SLOTS, digit = place % WHEEL_SLOTS;
    ASSERT(level < WHEEL_LEVELS && n > 0);
    if (wheel->slots[level] == NULL) {
        wheel->slots[level] = mem_zalloc(WHEEL_SLOTS * sizeof(struct wheel_slot));
    }
    struct wheel_slot *slot = &wheel->slots[level][digit];
    count_signs(b, sel, n, &slot->plus, &slot->minus);
    wheel->rows += n;
    for (uint32_t done = 0; done < n;) {
        if (slot->open == NULL) {
            slot->open = batch_builder_new(wheel->kinds, wheel->cols);
        }
        uint32_t room = WHEEL_CHUNK_ROWS - batch_builder_rows(slot->open);
        uint32_t take = n - done < room ? n - done : room;
        batch_builder_rows_of(slot->open, b, sel + done, take);
        done += take;
        if (take == room) {
            close_slot(wheel, slot);
        }
    }
    if (slot->open != NULL) {
        uint64_t bytes = batch_builder_size(slot->open);
        account_add(wheel->account, (int64_t)(bytes - slot->open_bytes));
        slot->open_bytes = bytes;
    }
    if (is_untidy(slot)) {
        consolidate_slot(wheel, slot);
    }
    uint64_t bit = 1ULL << digit;
    bool any = slot->plus + slot->minus > 0;
    wheel->used[level] = any ? wheel->used[level] | bit : wheel->used[level] & ~bit;
}

/* ---- adding ---------------------------------------------------------------------------------- */

static uint32_t place_of(const struct wheel *wheel, uint64_t time)
{
    ASSERT(time >= wheel->base && time <= TIME_MAX);
    uint64_t differs = time ^ wheel->base;
    uint32_t level =
        differs == 0 ? 0 : (63 - (uint32_t)__builtin_clzll(differs)) / WHEEL_BITS;
    return level * WHEEL_SLOTS + ((time >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1));
}

/* Sorted by place first, by counting, so that each slot's builder takes its rows in one go. */
void wheel_add(struct wheel *wheel, const struct batch *b, const uint32_t *sel, uint32_t n)
{
    ASSERT(b->cols >= wheel->cols && (n == 0 || sel != NULL));
    uint32_t ends[WHEEL_LEVELS * WHEEL_SLOTS] = {0};
    struct batch view = *b;
    view.cols = wheel->cols;
    if (n > wheel->places_cap) {
        wheel->places_cap = n;
        wheel->places = mem_realloc(wheel->places, n * sizeof(wheel->places[0]));
        wheel->order = mem_realloc(wheel->order, n * sizeof(wheel->order[0]));
    }
    for (uint32_t i = 0; i < n; i++) {
        wheel->places[i] = (uint16_t)place_of(wheel, batch_time(b, sel[i]));
        ends[wheel->places[i]]++;
    }
    for (uint32_t p = 1; p < ARRAY_LEN(ends); p++) {
        ends[p] += ends[p - 1];
    }
    for (uint32_t i = n; i-- > 0;) {
        wheel->order[--ends[wheel->places[i]]] = sel[i];
    }
    for (uint32_t p = 0; p < ARRAY_LEN(ends); p++) { /* now each is where its place begins */
        uint32_t end = p + 1 < ARRAY_LEN(ends) ? ends[p + 1] : n;
        if (end > ends[p]) {
            slot_add(wheel, p, &view, wheel->order + ends[p], end - ends[p]);
        }
    }
}

/* ---- turning --------------------------------------------------------------------------------- */

/* The times of a slot: [*low, *high]. */
static void slot_range(const struct wheel *wheel, uint32_t level, uint32_t digit, uint64_t *low,
                       uint64_t *high)
{
    uint32_t shift = level * WHEEL_BITS;
    uint32_t above = shift + WHEEL_BITS;
    uint64_t prefix = above >= 64 ? 0 : wheel->base >> above << above;
    ASSERT(shift < 64 && digit < WHEEL_SLOTS);
    *low = prefix | (uint64_t)digit << shift;
    *high = *low | ((1ULL << shift) - 1);
}

/* The slot whose range comes first, if it must be opened on the way to upper. */
static bool open_slot(struct wheel *wheel, uint64_t upper)
{
    uint32_t level = 0;
    while (level < WHEEL_LEVELS && wheel->used[level] == 0) {
        level++;
    }
    if (level == WHEEL_LEVELS) {
        return false;
    }
    uint32_t digit = (uint32_t)__builtin_ctzll(wheel->used[level]);
    uint64_t low, high;
    slot_range(wheel, level, digit, &low, &high);
    ASSERT(low >= wheel->base);
    if (low > upper || (low == upper && level == 0)) {
        return false;
    }
    struct wheel_slot *slot = &wheel->slots[level][digit];
    bool mixed = slot->plus > 0 && slot->minus > 0;
    uint64_t rows = slot->plus + slot->minus;
    close_slot(wheel, slot);
    wheel->rows -= rows;
    if (mixed && rows > WHEEL_TIDY_ROWS) {
        merge_begin(wheel, slot->closed, &wheel->tidied);
    } else if (mixed) {
        merge_few(wheel, &slot->closed, &wheel->due);
    } else {
        wheel->due = slot->closed;
    }
    *slot = (struct wheel_slot){0};
    wheel->used[level] &= ~(1ULL << digit);
    wheel->base = upper <= high ? upper : high;
    return true;
}

/* The rows before upper go out, the others find their places from the new base. */
static struct chunk *divide(struct wheel *wheel, struct chunk *chunk, uint64_t upper)
{
    const struct batch *b = &chunk->batch;
    if (chunk->time_max < upper) {
        return chunk;
    }
    uint32_t *sel = mem_alloc(b->rows * sizeof(sel[0]));
    uint32_t before = 0, after = 0;
    for (uint32_t i = 0; i < b->rows; i++) {
        bool due = batch_time(b, i) < upper;
        sel[due ? before++ : b->rows - ++after] = i;
    }
    ASSERT(before + after == b->rows && after > 0);
    wheel_add(wheel, b, sel + before, after);
    struct chunk *out = NULL;
    if (before > 0) {
        struct batch_builder *builder = batch_builder_new(wheel->kinds, wheel->cols);
        batch_builder_rows_of(builder, b, sel, before);
        out = chunk_from_builder(builder, wheel->cols, wheel->account);
        batch_builder_free(builder);
    }
    free(sel);
    chunk_unref(chunk);
    return out;
}

bool wheel_turn(struct wheel *wheel, uint64_t upper, struct chunk **out, uint32_t *rows)
{
    *out = NULL;
    *rows = 0;
    ASSERT(upper >= wheel->base);
    if (wheel->tidied.merge != NULL) {
        merge_step(wheel, &wheel->tidied, &wheel->due, rows);
        return true;
    }
    if (wheel->due.chunks_len > 0) {
        struct chunk *chunk = wheel->due.chunks[--wheel->due.chunks_len];
        *rows = chunk->batch.rows;
        *out = divide(wheel, chunk, upper);
        return true;
    }
    chunk_list_free(&wheel->due);
    wheel->due = (struct chunk_list){0};
    if (open_slot(wheel, upper)) {
        return true;
    }
    wheel->base = upper;
    return false;
}

uint64_t wheel_next(const struct wheel *wheel)
{
    if (wheel->tidied.merge != NULL || wheel->due.chunks_len > 0) {
        return wheel->base;
    }
    for (uint32_t level = 0; level < WHEEL_LEVELS; level++) {
        if (wheel->used[level] != 0) {
            uint64_t low, high;
            slot_range(wheel, level, (uint32_t)__builtin_ctzll(wheel->used[level]), &low, &high);
            ASSERT(low >= wheel->base && high >= low);
            return low;
        }
    }
    return FRONTIER_EMPTY;
}
