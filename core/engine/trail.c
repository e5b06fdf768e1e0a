/*
 * Trails: see trail.h. Narrow entries are kept in order by insertion; wide ones are appended, and
 * put in order when half of them is new.
 */
#include "core/engine/iterate.h"

#include <stdlib.h>

enum {
    WIDE_SCAN = 12, /* entries up to which an addition looks for an equal one */
    DIFF_MAX = (1 << (TRAIL_DIFF_BITS - 1)) - 1,
    DIFF_MASK = (1 << TRAIL_DIFF_BITS) - 1,
};

STATIC_ASSERT(TRAIL_VALUE_SHIFT == 31, "a value has 33 bits: any int4 however it is extended");

/* ---- narrow entries -------------------------------------------------------------------------- */

/* Value and iteration: what entries are ordered by. */
static uint64_t place_of(uint64_t entry)
{
    return entry >> (1 + TRAIL_DIFF_BITS);
}

static uint64_t with_diff(uint64_t entry, int64_t diff)
{
    ASSERT(diff >= -DIFF_MAX && diff <= DIFF_MAX);
    return place_of(entry) << (1 + TRAIL_DIFF_BITS) | ((uint64_t)diff & DIFF_MASK) << 1 | 1;
}

/* False: it does not fit. */
static bool to_narrow(const struct trail_form *form, uint32_t nulls, uint32_t iteration,
                      int64_t diff, const uint64_t *values, uint64_t *out)
{
    if (form->words > 1 || form->interns != NULL || nulls != 0) {
        return false;
    }
    uint64_t value = form->words == 1 ? values[0] : 0;
    *out = value << TRAIL_VALUE_SHIFT | (uint64_t)iteration << (1 + TRAIL_DIFF_BITS) |
           ((uint64_t)diff & DIFF_MASK) << 1 | 1;
    return iteration < 1u << TRAIL_ITERATION_BITS && diff >= -DIFF_MAX && diff <= DIFF_MAX &&
           trail_narrow_value(*out) == value;
}

static size_t list_bytes(uint32_t cap)
{
    return sizeof(struct trail_narrow) + cap * sizeof(uint64_t);
}

static void list_free(const struct trail_form *form, struct trail_narrow *list)
{
    pool_free(form->pool, list, list_bytes(list->cap));
}

/* Of a size class of the pool, so that nothing of its memory is left unused. */
static struct trail_narrow *list_new(const struct trail_form *form, uint32_t len)
{
    size_t bytes = pool_usable(list_bytes(len));
    struct trail_narrow *list = pool_alloc(form->pool, bytes);
    list->len = 0;
    list->cap = (uint32_t)((bytes - sizeof(*list)) / sizeof(uint64_t));
    ASSERT(list->cap >= len);
    return list;
}

/* The first entry that is not before a place. */
static uint32_t list_find(const uint64_t *entries, uint32_t len, uint64_t place)
{
    uint32_t from = 0;
    while (len > 0) {
        uint32_t half = len / 2;
        bool before = place_of(entries[from + half]) < place;
        from = before ? from + half + 1 : from;
        len = before ? len - half - 1 : half;
    }
    return from;
}

/* An entry joins a list, or becomes one of two. */
static void list_insert(const struct trail_form *form, struct trail *trail, uint32_t at,
                        uint64_t entry)
{
    uint32_t len;
    const uint64_t *entries = trail_narrow(trail, &len);
    ASSERT(len > 0 && at <= len);
    ++*form->len;
    struct trail_narrow *list = len > 1 ? trail_list(*trail) : NULL;
    if (list == NULL || list->cap == len) {
        struct trail_narrow *wider = list_new(form, len > 1 ? len + len / 2 + 1 : 2);
        memcpy(wider->entry, entries, len * sizeof(entry));
        if (list != NULL) {
            list_free(form, list);
        }
        list = wider;
        trail->word = (uintptr_t)list;
    }
    memmove(list->entry + at + 1, list->entry + at, (len - at) * sizeof(entry));
    list->entry[at] = entry;
    list->len = len + 1;
}

/* The last but one becomes the word itself. */
static void list_remove(const struct trail_form *form, struct trail *trail, uint32_t at)
{
    --*form->len;
    if (trail->word % 2 == 1) {
        trail->word = 0;
        return;
    }
    struct trail_narrow *list = trail_list(*trail);
    list->len--;
    ASSERT(list->len > 0 && at <= list->len);
    memmove(list->entry + at, list->entry + at + 1, (list->len - at) * sizeof(list->entry[0]));
    if (list->len == 1) {
        trail->word = list->entry[0];
        list_free(form, list);
    }
}

/* False, and nothing done, when the entry or the sum of two does not fit. */
static bool add_narrow(const struct trail_form *form, struct trail *trail, uint64_t entry)
{
    uint32_t len;
    uint64_t *entries = (uint64_t *)(uintptr_t)trail_narrow(trail, &len);
    uint32_t at = list_find(entries, len, place_of(entry));
    if (at == len || place_of(entries[at]) != place_of(entry)) {
        if (len == TRAIL_NARROW_MAX) {
            return false;
        }
        list_insert(form, trail, at, entry);
        return true;
    }
    int64_t diff = trail_narrow_diff(entries[at]) + trail_narrow_diff(entry);
    if (diff < -DIFF_MAX || diff > DIFF_MAX) {
        return false;
    }
    if (diff == 0) {
        list_remove(form, trail, at);
    } else {
        entries[at] = with_diff(entry, diff);
    }
    return true;
}

/* ---- wide entries ---------------------------------------------------------------------------- */

static size_t wide_bytes(const struct trail_form *form, uint32_t cap)
{
    return sizeof(struct trail_wide) + cap * trail_stride(form) * sizeof(uint64_t);
}

static struct trail_wide *resize(const struct trail_form *form, struct trail_wide *old,
                                 uint32_t len)
{
    size_t bytes = pool_usable(wide_bytes(form, len));
    size_t cap = (bytes - sizeof(struct trail_wide)) / (trail_stride(form) * sizeof(uint64_t));
    struct trail_wide *wide = pool_alloc(form->pool, bytes);
    ASSERT(cap >= len && cap < UINT32_MAX / 2);
    *wide = (struct trail_wide){0};
    if (old != NULL) {
        ASSERT(old->len <= cap);
        memcpy(wide, old, wide_bytes(form, old->len));
        pool_free(form->pool, old, wide_bytes(form, old->cap));
    }
    wide->cap = (uint32_t)cap;
    return wide;
}

int trail_compare_values(const struct trail_form *form, const uint64_t *a, const uint64_t *b)
{
    for (uint32_t w = 0; w < form->words; w++) {
        if (a[2 + w] != b[2 + w]) {
            return a[2 + w] < b[2 + w] ? -1 : 1;
        }
    }
    return 0;
}

/* By value, then NULLs, then iteration. */
static int compare_entries(const void *pa, const void *pb, void *arg)
{
    const uint64_t *a = pa;
    const uint64_t *b = pb;
    int order = trail_compare_values(arg, a, b);
    return order != 0 ? order : a[0] < b[0] ? -1 : a[0] > b[0];
}

int trail_compare_long(const void *pa, const void *pb, void *arg)
{
    const uint64_t *a = pa;
    const uint64_t *b = pb;
    uint64_t head[2] = {a[0] << 32 | a[0] >> 32, b[0] << 32 | b[0] >> 32};
    return head[0] != head[1] ? (head[0] < head[1] ? -1 : 1) : trail_compare_values(arg, a, b);
}

/* The unsorted end of a trail among the rest: sorted by itself, then merged from behind. */
static void merge(const struct trail_form *form, struct trail_wide *wide)
{
    size_t stride = trail_stride(form);
    size_t size = stride * sizeof(uint64_t);
    uint32_t fresh = wide->len - wide->sorted;
    uint64_t few[WIDE_SCAN * (2 + ITERATE_VALUES_MAX)];
    uint64_t *end = fresh <= WIDE_SCAN ? few : mem_alloc(fresh * size);
    void *form_arg = (void *)(uintptr_t)form;
    int (*compare)(const void *, const void *, void *) =
        wide->nets != NULL ? trail_compare_long : compare_entries;
    memcpy(end, wide->row + wide->sorted * stride, fresh * size);
    if (fresh > 1) {
        qsort_r(end, fresh, size, compare, form_arg);
    }
    uint32_t i = wide->sorted;
    uint32_t j = fresh;
    for (uint32_t to = wide->len; j > 0; to--) {
        ASSERT(to == i + j);
        bool old = i > 0 && compare(wide->row + (i - 1) * stride, end + (j - 1) * stride,
                                    form_arg) > 0;
        const uint64_t *from = old ? wide->row + --i * stride : end + --j * stride;
        memcpy(wide->row + (to - 1) * stride, from, size);
    }
    if (end != few) {
        free(end);
    }
}

static void release_value(const struct trail_form *form, const uint64_t *row)
{
    if (form->interns != NULL) {
        interns_release(form->interns, row[2]);
    }
}

/* Equal neighbours become one, or nothing. */
static void add_up(const struct trail_form *form, struct trail_wide *wide)
{
    size_t stride = trail_stride(form);
    uint32_t len = 0;
    for (uint32_t i = 0; i < wide->len;) {
        uint64_t *first = wide->row + i * stride;
        uint32_t end = i;
        int64_t diff = 0;
        while (end < wide->len && wide->row[end * stride] == first[0] &&
               cells_same_key(wide->row + end * stride + 2, first + 2, form->words)) {
            diff = trail_plus(diff, (int64_t)wide->row[end * stride + 1]);
            end++;
        }
        uint32_t kept = diff != 0;
        for (uint32_t e = i + kept; e < end; e++) {
            release_value(form, first);
        }
        first[1] = (uint64_t)diff;
        if (kept != 0 && len != i) {
            memcpy(wide->row + len * stride, first, stride * sizeof(uint64_t));
        }
        len += kept;
        i = end;
    }
    *form->len -= wide->len - len;
    wide->len = wide->sorted = len;
}

void trail_settle(const struct trail_form *form, struct trail *trail)
{
    if (!trail_is_wide(*trail) || trail_wide(*trail)->sorted == trail_wide(*trail)->len) {
        return;
    }
    struct trail_wide *wide = trail_wide(*trail);
    if (wide->nets != NULL) {
        trail_nets_count(form, wide);
    }
    merge(form, wide);
    add_up(form, wide);
    if (wide->len == 0) {
        trail_free(form, trail);
    } else if (wide->nets != NULL) {
        trail_nets_settled(form, wide);
    }
}

/* An entry that is nothing any more goes. */
static void wide_remove(const struct trail_form *form, struct trail *trail, uint32_t at)
{
    struct trail_wide *wide = trail_wide(*trail);
    size_t stride = trail_stride(form);
    uint64_t *row = wide->row + at * stride;
    release_value(form, row);
    memmove(row, row + stride, (wide->len - at - 1) * stride * sizeof(uint64_t));
    wide->len--;
    wide->sorted -= at < wide->sorted;
    --*form->len;
    if (wide->len == 0) {
        trail_free(form, trail);
    }
}

/* Adds to an equal entry of a short trail; false: there is none. */
static bool add_to_equal(const struct trail_form *form, struct trail *trail, uint64_t head,
                         int64_t diff, const uint64_t *values)
{
    struct trail_wide *wide = trail_wide(*trail);
    for (uint32_t i = 0; i < wide->len; i++) {
        uint64_t *row = wide->row + i * trail_stride(form);
        if (row[0] == head && cells_same_key(row + 2, values, form->words)) {
            row[1] = (uint64_t)trail_plus((int64_t)row[1], diff);
            if (row[1] == 0) {
                wide_remove(form, trail, i);
            }
            return true;
        }
    }
    return false;
}

/* What came last to a long trail was of a later iteration: that of an earlier round. */
static bool is_behind(const struct trail_form *form, struct trail trail, uint32_t iteration)
{
    if (!trail_is_wide(trail) || trail_wide(trail)->nets == NULL) {
        return false;
    }
    const struct trail_wide *wide = trail_wide(trail);
    return wide->len > wide->sorted &&
           (uint32_t)wide->row[(wide->len - 1) * trail_stride(form)] > iteration;
}

static void add_wide(const struct trail_form *form, struct trail *trail, uint64_t head,
                     int64_t diff, const uint64_t *values)
{
    if (is_behind(form, *trail, (uint32_t)head)) {
        trail_settle(form, trail);
    }
    if (trail_is_empty(*trail)) {
        trail->word = (uintptr_t)resize(form, NULL, 1) + 2;
    }
    struct trail_wide *wide = trail_wide(*trail);
    wide->net = trail_plus(wide->net, diff);
    if (wide->len > 0 && wide->len <= WIDE_SCAN && wide->nets == NULL &&
        add_to_equal(form, trail, head, diff, values)) {
        return;
    }
    if (wide->len == wide->cap) {
        wide = resize(form, wide, wide->len * 2);
        trail->word = (uintptr_t)wide + 2;
    }
    uint64_t *row = wide->row + wide->len * trail_stride(form);
    row[0] = head;
    row[1] = (uint64_t)diff;
    memcpy(row + 2, values, form->words * sizeof(uint64_t));
    interns_retain(form->interns, form->words > 0 ? values[0] : 0);
    wide->len++;
    ++*form->len;
    /* Added up when half of it is new, which is O(log n) an addition: if it is long, or if all of
     * it may have gone. Before, something is left: a new entry takes back one sorted at most. */
    bool fresh = wide->len - wide->sorted >= wide->sorted;
    if (fresh && (wide->len > WIDE_SCAN || wide->net == 0)) {
        trail_settle(form, trail);
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

/* All entries become wide ones. */
static void widen(const struct trail_form *form, struct trail *trail)
{
    struct trail old = *trail;
    uint32_t len;
    const uint64_t *entries = trail_narrow(&old, &len);
    ASSERT(form->words <= 1 && len > 0);
    struct trail_wide *wide = resize(form, NULL, len + 1);
    for (uint32_t i = 0; i < len; i++) {
        uint64_t *row = wide->row + i * trail_stride(form);
        uint64_t value = trail_narrow_value(entries[i]);
        row[0] = trail_narrow_iteration(entries[i]);
        row[1] = (uint64_t)trail_narrow_diff(entries[i]);
        memcpy(row + 2, &value, form->words * sizeof(value));
        wide->net = trail_plus(wide->net, trail_narrow_diff(entries[i]));
    }
    wide->len = wide->sorted = len;
    if (len > 1) {
        list_free(form, trail_list(old));
        qsort_r(wide->row, len, trail_stride(form) * sizeof(uint64_t), compare_entries,
                (void *)(uintptr_t)form);
    }
    trail->word = (uintptr_t)wide + 2;
}

void trail_add(const struct trail_form *form, struct trail *trail, uint32_t nulls,
               uint32_t iteration, int64_t diff, const uint64_t *values)
{
    uint64_t entry;
    if (diff == 0) {
        return;
    }
    if (!trail_is_wide(*trail)) {
        bool fits = to_narrow(form, nulls, iteration, diff, values, &entry);
        if (fits && trail_is_empty(*trail)) {
            trail->word = entry;
            ++*form->len;
            return;
        }
        if (fits && add_narrow(form, trail, entry)) {
            return;
        }
        if (!trail_is_empty(*trail)) {
            widen(form, trail);
        }
    }
    add_wide(form, trail, (uint64_t)nulls << 32 | iteration, diff, values);
}

void trail_free(const struct trail_form *form, struct trail *trail)
{
    *form->len -= trail_len(*trail);
    if (trail_is_wide(*trail)) {
        struct trail_wide *wide = trail_wide(*trail);
        for (uint32_t i = 0; i < wide->len; i++) {
            release_value(form, wide->row + i * trail_stride(form));
        }
        if (wide->nets != NULL) {
            trail_nets_free(form, wide);
        }
        pool_free(form->pool, wide, wide_bytes(form, wide->cap));
    } else if (trail->word % 2 == 0 && trail->word != 0) {
        list_free(form, trail_list(*trail));
    }
    trail->word = 0;
}
