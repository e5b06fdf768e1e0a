/*
 * Sums of a trail through an iteration. A short trail is gone through. A long one has nets: the
 * values that are there through one iteration. To get to another, the entries between the two are
 * added or taken back; to a far earlier one, all entries through it are added up anew.
 *
 * Entries behind the sorted ones came in the order of their iterations, so those that count already
 * are the first of them; trail_add puts everything in order before an earlier iteration follows.
 */
#include "core/engine/iterate.h"

#include <stdlib.h>

enum {
    LONG = 256, /* entries of a wide trail, from which on it gets nets */
    FEW = 8,    /* entries that are added to the nets one by one */
};

/* ---- nets ------------------------------------------------------------------------------------ */

static size_t nets_bytes(const struct trail_form *form, uint32_t cap)
{
    return sizeof(struct trail_nets) + cap * trail_stride(form) * sizeof(uint64_t);
}

/* Room for len values; what there is is kept. */
static struct trail_nets *nets_resize(const struct trail_form *form, struct trail_nets *old,
                                      uint32_t len)
{
    size_t bytes = pool_usable(nets_bytes(form, len));
    struct trail_nets *nets = pool_alloc(form->pool, bytes);
    *nets = (struct trail_nets){0};
    if (old != NULL) {
        ASSERT(old->len <= len);
        memcpy(nets, old, nets_bytes(form, old->len));
        pool_free(form->pool, old, nets_bytes(form, old->cap));
    }
    nets->cap = (uint32_t)((bytes - sizeof(*nets)) / (trail_stride(form) * sizeof(uint64_t)));
    ASSERT(nets->cap >= len);
    return nets;
}

void trail_nets_free(const struct trail_form *form, struct trail_wide *wide)
{
    pool_free(form->pool, wide->nets, nets_bytes(form, wide->nets->cap));
    wide->nets = NULL;
}

/* By NULLs, then values: as entries of one iteration are ordered. */
static int compare_nets(const struct trail_form *form, const uint64_t *a, uint64_t head,
                        const uint64_t *b)
{
    uint64_t nulls[2] = {a[0] >> 32, head >> 32};
    return nulls[0] != nulls[1] ? (nulls[0] < nulls[1] ? -1 : 1) : trail_compare_values(form, a, b);
}

/* One entry, times a sign, joins the nets. */
static void count_one(const struct trail_form *form, struct trail_wide *wide,
                      const uint64_t *entry, int64_t diff)
{
    struct trail_nets *nets = wide->nets;
    size_t stride = trail_stride(form);
    uint32_t from = 0;
    for (uint32_t len = nets->len; len > 0;) {
        uint32_t half = len / 2;
        bool before = compare_nets(form, nets->row + (from + half) * stride, entry[0], entry) < 0;
        from = before ? from + half + 1 : from;
        len = before ? len - half - 1 : half;
    }
    uint64_t *row = nets->row + from * stride;
    size_t behind = (nets->len - from) * stride * sizeof(uint64_t);
    if (from < nets->len && compare_nets(form, row, entry[0], entry) == 0) {
        row[1] = (uint64_t)trail_plus((int64_t)row[1], diff);
        if (row[1] == 0) {
            memmove(row, row + stride, behind - stride * sizeof(uint64_t));
            nets->len--;
        }
        return;
    }
    if (nets->len == nets->cap) {
        wide->nets = nets = nets_resize(form, nets, nets->len + nets->len / 2 + 1);
        row = nets->row + from * stride;
    }
    memmove(row + stride, row, behind);
    memcpy(row, entry, stride * sizeof(uint64_t));
    row[0] = entry[0] >> 32 << 32;
    row[1] = (uint64_t)diff;
    nets->len++;
}

/* Sorted rows of one iteration of which equal ones are added up; returns how many are left. */
static uint32_t add_up(const struct trail_form *form, uint64_t *rows, uint32_t len)
{
    size_t stride = trail_stride(form);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < len; i++) {
        const uint64_t *row = rows + i * stride;
        uint64_t *last = rows + (kept - 1) * stride;
        if (kept > 0 && compare_nets(form, last, row[0], row) == 0) {
            last[1] = (uint64_t)trail_plus((int64_t)last[1], (int64_t)row[1]);
            kept -= last[1] == 0;
        } else {
            memmove(rows + kept++ * stride, row, stride * sizeof(uint64_t));
        }
    }
    return kept;
}

/* Many at once: all is put in order anew. */
static void count_many(const struct trail_form *form, struct trail_wide *wide,
                       const uint64_t *entries, uint32_t len, int64_t sign)
{
    struct trail_nets *nets = wide->nets;
    size_t stride = trail_stride(form);
    ASSERT(len < UINT32_MAX / 2 - nets->len);
    wide->nets = nets = nets_resize(form, nets, nets->len + len);
    for (uint32_t i = 0; i < len; i++) {
        uint64_t *row = nets->row + (nets->len + i) * stride;
        memcpy(row, entries + i * stride, stride * sizeof(uint64_t));
        row[0] = row[0] >> 32 << 32;
        row[1] = sign > 0 ? row[1] : 0 - row[1];
    }
    nets->len += len;
    qsort_r(nets->row, nets->len, stride * sizeof(uint64_t), trail_compare_long,
            (void *)(uintptr_t)form);
    nets->len = add_up(form, nets->row, nets->len);
    if (nets->len < nets->cap / 4) {
        wide->nets = nets_resize(form, nets, nets->len);
    }
}

/* Entries [from, to) count from now on, or, with sign -1, no more. */
static void count(const struct trail_form *form, struct trail_wide *wide, uint32_t from,
                  uint32_t to, int64_t sign)
{
    size_t stride = trail_stride(form);
    ASSERT(from <= to && to <= wide->len);
    if (to - from > FEW) {
        count_many(form, wide, wide->row + from * stride, to - from, sign);
        return;
    }
    for (uint32_t i = from; i < to; i++) {
        const uint64_t *entry = wide->row + i * stride;
        count_one(form, wide, entry, sign > 0 ? (int64_t)entry[1] : trail_minus((int64_t)entry[1]));
    }
}

/* How many of the sorted entries are of this iteration or before. */
static uint32_t sorted_through(const struct trail_form *form, const struct trail_wide *wide,
                               uint32_t iteration)
{
    size_t stride = trail_stride(form);
    uint32_t from = 0;
    for (uint32_t len = wide->sorted; len > 0;) {
        uint32_t half = len / 2;
        bool through = (uint32_t)wide->row[(from + half) * stride] <= iteration;
        from = through ? from + half + 1 : from;
        len = through ? len - half - 1 : half;
    }
    return from;
}

/* What lies behind the sorted ones and is of this iteration or before counts. */
static void count_fresh(const struct trail_form *form, struct trail_wide *wide, uint32_t iteration)
{
    size_t stride = trail_stride(form);
    uint32_t from = wide->sorted + wide->nets->fresh;
    uint32_t to = from;
    while (to < wide->len && (uint32_t)wide->row[to * stride] <= iteration) {
        to++;
    }
    count(form, wide, from, to, 1);
    wide->nets->fresh = to - wide->sorted;
}

void trail_nets_count(const struct trail_form *form, struct trail_wide *wide)
{
    count_fresh(form, wide, wide->nets->through);
}

void trail_nets_settled(const struct trail_form *form, struct trail_wide *wide)
{
    ASSERT(wide->sorted == wide->len);
    wide->nets->sorted = sorted_through(form, wide, wide->nets->through);
    wide->nets->fresh = 0;
}

/* ---- from one iteration to another ----------------------------------------------------------- */

/* A trail whose entries are all in order of their values gets nets, of nothing yet. */
static void start_nets(const struct trail_form *form, struct trail_wide *wide)
{
    ASSERT(wide->nets == NULL && wide->sorted == wide->len);
    qsort_r(wide->row, wide->len, trail_stride(form) * sizeof(uint64_t), trail_compare_long,
            (void *)(uintptr_t)form);
    wide->nets = nets_resize(form, NULL, 1);
}

static void seek_forward(const struct trail_form *form, struct trail_wide *wide,
                         uint32_t iteration)
{
    uint32_t to = sorted_through(form, wide, iteration);
    ASSERT(to >= wide->nets->sorted);
    count(form, wide, wide->nets->sorted, to, 1);
    wide->nets->sorted = to;
    count_fresh(form, wide, iteration);
}

/* All entries are in order. */
static void seek_back(const struct trail_form *form, struct trail_wide *wide, uint32_t iteration)
{
    uint32_t to = sorted_through(form, wide, iteration);
    uint32_t back = wide->nets->sorted - to;
    ASSERT(wide->sorted == wide->len && wide->nets->fresh == 0);
    if (to < back) {
        wide->nets->len = 0;
        count(form, wide, 0, to, 1);
    } else {
        count(form, wide, to, wide->nets->sorted, -1);
    }
    wide->nets->sorted = to;
}

/* Long, and worth it: a value has many entries, or they take each other back. */
static bool has_nets(const struct trail_form *form, struct trail trail)
{
    if (!trail_is_wide(trail)) {
        return false;
    }
    const struct trail_wide *wide = trail_wide(trail);
    bool few = form->words == 0 || trail_size(wide->net) <= wide->len / 2;
    return wide->nets != NULL || (wide->len >= LONG && few);
}

/* Returns how many entries were counted for it; the trail may be empty then. */
static uint32_t seek(const struct trail_form *form, struct trail *trail, uint32_t iteration)
{
    struct trail_wide *wide = trail_wide(*trail);
    if (wide->nets == NULL) {
        trail_settle(form, trail);
        if (trail_is_empty(*trail)) {
            return 0;
        }
        start_nets(form, wide);
    }
    uint32_t counted = wide->nets->sorted + wide->nets->fresh;
    if (iteration < wide->nets->through) {
        trail_settle(form, trail);
        if (trail_is_empty(*trail)) {
            return 0;
        }
        seek_back(form, wide, iteration);
    } else {
        seek_forward(form, wide, iteration);
    }
    wide->nets->through = iteration;
    uint32_t now = wide->nets->sorted + wide->nets->fresh;
    return now > counted ? now - counted : counted - now;
}

/* The nets through an iteration, and the next iteration with an entry. */
static void sums_of_nets(struct trail_sums *sums, struct trail *trail)
{
    const struct trail_form *form = sums->form;
    size_t stride = trail_stride(form);
    sums->cost = seek(form, trail, sums->iteration);
    if (trail_is_empty(*trail)) {
        return;
    }
    const struct trail_wide *wide = trail_wide(*trail);
    const struct trail_nets *nets = wide->nets;
    if (nets->sorted < wide->sorted) {
        sums->next = (uint32_t)wide->row[nets->sorted * stride];
    }
    if (wide->sorted + nets->fresh < wide->len) {
        uint32_t next = (uint32_t)wide->row[(wide->sorted + nets->fresh) * stride];
        sums->next = next < sums->next ? next : sums->next;
    }
    sums->nets = nets;
    sums->len = nets->len;
    sums->cost += nets->len;
}

uint32_t trail_matches(const struct trail_form *form, struct trail *trail, uint32_t iteration)
{
    if (!has_nets(form, *trail)) {
        return trail_len(*trail);
    }
    seek(form, trail, iteration);
    if (trail_is_empty(*trail)) {
        return 0;
    }
    const struct trail_wide *wide = trail_wide(*trail);
    return wide->nets->len + wide->len - wide->nets->sorted - wide->nets->fresh;
}

void trail_match(const struct trail_form *form, const struct trail *trail, uint32_t i,
                 struct trail_entry *out)
{
    const struct trail_wide *wide = trail_is_wide(*trail) ? trail_wide(*trail) : NULL;
    if (wide == NULL || wide->nets == NULL) {
        trail_at(form, trail, i, out);
        return;
    }
    const struct trail_nets *nets = wide->nets;
    if (i < nets->len) {
        const uint64_t *row = nets->row + i * trail_stride(form);
        *out = (struct trail_entry){.nulls = (uint32_t)(row[0] >> 32), .diff = (int64_t)row[1],
                                    .values = row + 2};
        return;
    }
    uint32_t later = nets->sorted + i - nets->len;
    trail_at(form, trail, later < wide->sorted ? later : later + nets->fresh, out);
}

/* ---- all trails ------------------------------------------------------------------------------ */

void trail_sums(const struct trail_form *form, struct trail *trail, uint32_t iteration,
                struct trail_sums *sums)
{
    sums->form = form;
    sums->trail = trail;
    sums->nets = NULL;
    sums->iteration = iteration;
    sums->at = sums->len = sums->cost = 0;
    sums->next = UINT32_MAX;
    if (has_nets(form, *trail)) {
        sums_of_nets(sums, trail);
        return;
    }
    trail_settle(form, trail);
    sums->len = sums->cost = trail_len(*trail);
}

/* Of a wide trail without nets. */
static int64_t wide_next(struct trail_sums *sums)
{
    struct trail_entry *value = &sums->value;
    struct trail_entry entry;
    int64_t sum = 0;
    trail_at(sums->form, sums->trail, sums->at, value);
    entry = *value;
    do {
        if (entry.iteration <= sums->iteration) {
            sum = trail_plus(sum, entry.diff);
        } else {
            sums->next = entry.iteration < sums->next ? entry.iteration : sums->next;
        }
        if (++sums->at == sums->len) {
            break;
        }
        trail_at(sums->form, sums->trail, sums->at, &entry);
    } while (entry.nulls == value->nulls &&
             cells_same_key(entry.values, value->values, sums->form->words));
    return sum;
}

bool trail_sums_next(struct trail_sums *sums)
{
    struct trail_entry *value = &sums->value;
    if (sums->at == sums->len) {
        return false;
    }
    if (sums->nets != NULL) {
        const uint64_t *row = sums->nets->row + sums->at++ * trail_stride(sums->form);
        value->nulls = (uint32_t)(row[0] >> 32);
        value->diff = (int64_t)row[1];
        value->values = row + 2;
    } else if (trail_is_wide(*sums->trail)) {
        value->diff = wide_next(sums);
    } else {
        uint32_t len;
        const uint64_t *entries = trail_narrow(sums->trail, &len);
        value->nulls = 0;
        value->values = &value->value;
        value->diff = trail_narrow_next(entries, len, &sums->at, sums->iteration, &sums->next,
                                        &value->value);
    }
    return true;
}
