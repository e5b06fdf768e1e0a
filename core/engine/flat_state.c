/*
 * See flat_state.h. Changes go state by state, each over all rows at hand: what an aggregate is,
 * and where its columns lie, is decided once for FLAT_ROWS rows. A filter or a NULL makes a row's
 * diff zero instead of a branch.
 *
 * Counters are added modulo 2^64, sums modulo 2^128, as in reduce_state.c, which says why.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/flat_state.h"

#include "core/engine/order.h"
#include "core/engine/wset.h"

typedef __int128 int128;
typedef unsigned __int128 uint128;

STATIC_ASSERT(sizeof(struct wset) == 2 * sizeof(uint64_t), "two words of a group");
STATIC_ASSERT(sizeof(struct oset) == 2 * sizeof(uint64_t), "two words of a group");

/* ---- layout ---------------------------------------------------------------------------------- */

static bool is_string(uint8_t kind)
{
    return kind == TYPE_TEXT || kind == TYPE_BYTEA;
}

/* Equal when their words are, and ordered as signed numbers: no floats, which have forms. */
static bool is_number(uint8_t kind)
{
    return batch_kind_is_word(kind) && kind != TYPE_FLOAT4 && kind != TYPE_FLOAT8;
}

/* What an aggregate keeps; false: nothing that is words. */
static bool kind_of(const struct plan_agg *agg, uint8_t arg_kind, enum flat_kind *kind)
{
    switch (agg->func) {
    case AGG_COUNT_ALL:
        *kind = FLAT_COUNT;
        return true;
    case AGG_COUNT:
        *kind = agg->distinct ? FLAT_DISTINCT : FLAT_COUNT;
        return !agg->distinct || is_number(arg_kind) || is_string(arg_kind);
    case AGG_SUM:
    case AGG_AVG:
        *kind = FLAT_SUM;
        return !agg->distinct &&
               (arg_kind == TYPE_INT2 || arg_kind == TYPE_INT4 || arg_kind == TYPE_INT8);
    case AGG_MIN:
    case AGG_MAX:
        *kind = is_string(arg_kind) ? FLAT_STRINGS : FLAT_RANGE;
        return is_string(arg_kind) || is_number(arg_kind);
    default:
        return false;
    }
}

static uint8_t arg_kind_of(const struct plan_agg *agg, const uint8_t *kinds)
{
    return agg->func == AGG_COUNT_ALL ? 0 : kinds[agg->arg];
}

bool flat_agg_fits(const struct plan_agg *agg, const uint8_t *input_kinds)
{
    enum flat_kind kind;
    return kind_of(agg, arg_kind_of(agg, input_kinds), &kind);
}

/* The table of a column's values; a state takes the next of its counts. */
static void join_members(struct flat_layout *layout, uint32_t at)
{
    struct flat_state *state = &layout->states[at];
    uint32_t m = 0;
    ASSERT(state->kind == FLAT_DISTINCT && state->has_arg);
    while (m < layout->members_len && layout->members[m].arg != state->arg) {
        m++;
    }
    struct flat_members *members = &layout->members[m];
    ASSERT(m < FLAT_AGGS_MAX && members->slots < FLAT_AGGS_MAX);
    if (m == layout->members_len) {
        layout->members_len++;
        members->arg = state->arg;
        members->kind = state->arg_kind;
    }
    state->members = m;
    state->slot = members->slots++;
    members->states[state->slot] = at;
}

static bool same_state(const struct flat_state *a, const struct flat_state *b)
{
    return a->kind == b->kind && a->has_arg == b->has_arg && a->has_filter == b->has_filter &&
           (!a->has_arg || a->arg == b->arg) && (!a->has_filter || a->filter == b->filter);
}

/* The number of a state like this one, which is added if there is none. */
static uint32_t find_state(struct flat_layout *layout, const struct flat_state *wanted)
{
    static const uint32_t words[] = {[FLAT_COUNT] = 1,
                                     [FLAT_SUM] = 3,
                                     [FLAT_RANGE] = 2,
                                     [FLAT_STRINGS] = 2,
                                     [FLAT_DISTINCT] = 2};
    static const uint32_t shown[] = {[FLAT_COUNT] = 1,
                                     [FLAT_SUM] = 3,
                                     [FLAT_RANGE] = 3,
                                     [FLAT_STRINGS] = 3,
                                     [FLAT_DISTINCT] = 1};
    for (uint32_t s = 0; s < layout->states_len; s++) {
        if (same_state(&layout->states[s], wanted)) {
            return s;
        }
    }
    ASSERT(layout->states_len < FLAT_AGGS_MAX);
    uint32_t s = layout->states_len++;
    layout->states[s] = *wanted;
    layout->states[s].at = layout->group_words;
    layout->states[s].shown = layout->image_words;
    layout->group_words += words[wanted->kind];
    layout->image_words += shown[wanted->kind];
    if (wanted->kind == FLAT_DISTINCT) {
        join_members(layout, s);
    }
    return s;
}

static void add_agg(struct flat_layout *layout, uint32_t a, const uint8_t *kinds)
{
    const struct plan_agg *agg = &layout->aggs[a];
    struct flat_state state = {.has_arg = agg->func != AGG_COUNT_ALL,
                               .has_filter = agg->has_filter,
                               .arg_kind = arg_kind_of(agg, kinds),
                               .arg = agg->arg,
                               .filter = agg->filter};
    bool fits = kind_of(agg, state.arg_kind, &state.kind);
    ASSERT(fits);
    layout->agg_state[a] = FLAT_AGGS_MAX;
    layout->agg_shown[a] = FLAT_ROW_COUNT;
    if (state.has_arg || state.has_filter) {
        uint32_t s = find_state(layout, &state);
        layout->agg_state[a] = s;
        layout->agg_shown[a] = layout->states[s].shown;
        layout->states[s].least |= agg->func == AGG_MIN;
        layout->states[s].greatest |= agg->func == AGG_MAX;
        layout->plain &= state.kind == FLAT_COUNT || state.kind == FLAT_DISTINCT;
    }
}

static bool has_sets(const struct flat_layout *layout)
{
    bool sets = false;
    for (uint32_t s = 0; s < layout->states_len; s++) {
        sets |= layout->states[s].kind != FLAT_COUNT && layout->states[s].kind != FLAT_SUM;
    }
    return sets;
}

void flat_layout_init(struct flat_layout *layout, const struct plan_agg *aggs, uint32_t aggs_len,
                      const uint8_t *kinds, struct pool *pool, struct dict *dict,
                      struct account *account)
{
    ASSERT(aggs_len <= FLAT_AGGS_MAX);
    *layout = (struct flat_layout){.aggs = aggs,
                                   .aggs_len = aggs_len,
                                   .group_words = 1,
                                   .image_words = 1,
                                   .pool = pool,
                                   .dict = dict};
    for (uint32_t a = 0; a < aggs_len; a++) {
        bool counts_once = aggs[a].func == AGG_COUNT && aggs[a].distinct;
        layout->group_words = counts_once ? FLAT_SERIAL + 1 : layout->group_words;
    }
    layout->states_at = layout->group_words;
    layout->plain = true;
    for (uint32_t a = 0; a < aggs_len; a++) {
        add_agg(layout, a, kinds);
    }
    for (uint32_t s = 0; s < layout->states_len; s++) {
        layout->strings |= layout->states[s].kind == FLAT_STRINGS;
    }
    if (has_sets(layout)) {
        layout->negative_at = layout->image_words++;
    }
    for (uint32_t m = 0; m < layout->members_len; m++) {
        cells_init(&layout->members[m].table, 2, layout->members[m].slots, account);
    }
}

void flat_layout_free(struct flat_layout *layout)
{
    for (uint32_t m = 0; m < layout->members_len; m++) {
        cells_clear(&layout->members[m].table);
    }
    buf_free(&layout->value);
    layout->members_len = 0;
}

/* ---- changing -------------------------------------------------------------------------------- */

static uint64_t plus(uint64_t word, int64_t diff)
{
    return word + (uint64_t)diff;
}

/* What rows count in a state: their diffs, or 0 for those it passes over. */
static void diffs_of(const struct flat_state *state, const struct flat_rows *rows,
                     const int64_t *diffs, int64_t *out)
{
    const struct batch *b = rows->batch;
    memcpy(out, diffs, rows->len * sizeof(*out));
    if (state->has_arg && b->col[state->arg].validity != NULL) {
        for (uint32_t i = 0; i < rows->len; i++) {
            out[i] = batch_is_null(&b->col[state->arg], rows->rows[i]) ? 0 : out[i];
        }
    }
    if (state->has_filter) {
        const struct batch_col *filter = &b->col[state->filter];
        const uint8_t *values = filter->values;
        for (uint32_t i = 0; i < rows->len; i++) {
            bool pass = values[rows->rows[i]] != 0 && !batch_is_null(filter, rows->rows[i]);
            out[i] = pass ? out[i] : 0;
        }
    }
}

/* Values as signed numbers; those of NULLs mean nothing. */
static void numbers_of(const struct flat_rows *rows, uint32_t col, uint64_t *out)
{
    const struct batch_col *c = &rows->batch->col[col];
    batch_words(c, rows->rows, 0, rows->len, out);
    unsigned shift = 64 - 8 * (unsigned)type_width(c->kind);
    for (uint32_t i = 0; shift > 0 && c->kind != TYPE_BOOL && i < rows->len; i++) {
        out[i] = (uint64_t)((int64_t)(out[i] << shift) >> shift);
    }
}

static void update_count(const struct flat_state *state, const struct flat_rows *rows,
                         const int64_t *diffs)
{
    for (uint32_t i = 0; i < rows->len; i++) {
        uint64_t *n = rows->groups[i] + state->at;
        *n = plus(*n, diffs[i]);
    }
}

static void update_sum(const struct flat_state *state, const struct flat_rows *rows,
                       const int64_t *diffs)
{
    uint64_t values[FLAT_ROWS];
    ASSERT(state->kind == FLAT_SUM && state->has_arg);
    numbers_of(rows, state->arg, values);
    for (uint32_t i = 0; i < rows->len; i++) {
        uint64_t *words = rows->groups[i] + state->at;
        uint128 sum = (uint128)words[1] << 64 | words[0];
        sum += (uint128)((int128)(int64_t)values[i] * diffs[i]);
        words[0] = (uint64_t)sum;
        words[1] = (uint64_t)(sum >> 64);
        words[2] = plus(words[2], diffs[i]);
    }
}

/* Copied out and in: the group's words are words. */
static void update_range(struct flat_layout *layout, const struct flat_state *state,
                         const struct flat_rows *rows, const int64_t *diffs)
{
    uint64_t values[FLAT_ROWS];
    ASSERT(state->kind == FLAT_RANGE && state->has_arg);
    numbers_of(rows, state->arg, values);
    for (uint32_t i = 0; i < rows->len; i++) {
        struct wset set;
        uint64_t *words = rows->groups[i] + state->at;
        memcpy(&set, words, sizeof(set));
        wset_update(&set, layout->pool, wset_word((int64_t)values[i]), diffs[i]);
        memcpy(words, &set, sizeof(set));
    }
}

/* Elements are sort bytes, then the value's own. */
static void update_strings(struct flat_layout *layout, const struct flat_state *state,
                           const struct flat_rows *rows, const int64_t *diffs)
{
    const struct batch_col *col = &rows->batch->col[state->arg];
    struct buf *value = &layout->value;
    ASSERT(state->kind == FLAT_STRINGS && is_string(col->kind));
    for (uint32_t i = 0; i < rows->len; i++) {
        struct oset set;
        struct datum d;
        uint64_t *words = rows->groups[i] + state->at;
        if (diffs[i] == 0) {
            continue;
        }
        batch_datum(col, rows->rows[i], &d);
        ASSERT(!d.null);
        buf_clear(value);
        order_encode(state->arg_kind, &d, false, false, value);
        uint32_t sort_len = (uint32_t)value->len;
        buf_append(value, d.s, d.len);
        memcpy(&set, words, sizeof(set));
        oset_update(&set, layout->pool, value->data, (uint32_t)value->len, sort_len, diffs[i]);
        memcpy(words, &set, sizeof(set));
    }
}

/* The rows' values as words; strings are held, so that their numbers stay theirs meanwhile. */
static void member_words(struct flat_layout *layout, const struct flat_members *members,
                         const struct flat_rows *rows, uint64_t *out)
{
    const struct batch_col *col = &rows->batch->col[members->arg];
    if (!is_string(members->kind)) {
        batch_words(col, rows->rows, 0, rows->len, out);
        return;
    }
    for (uint32_t i = 0; i < rows->len; i++) {
        struct datum d;
        batch_datum(col, rows->rows[i], &d);
        out[i] = d.null ? 0 : dict_hold(layout->dict, d.s, d.len);
    }
}

static void release_words(struct flat_layout *layout, const struct flat_members *members,
                          const struct flat_rows *rows, const uint64_t *words)
{
    const struct batch_col *col = &rows->batch->col[members->arg];
    for (uint32_t i = 0; is_string(members->kind) && i < rows->len; i++) {
        if (!batch_is_null(col, rows->rows[i])) {
            dict_unref(layout->dict, (uint32_t)words[i]);
        }
    }
}

/*
 * One value of one group: a state's number of values changes where its count becomes positive, or
 * is positive no more. A value nobody counts any more goes.
 */
static void update_member(struct flat_layout *layout, struct flat_members *members, uint64_t hash,
                          uint64_t word, uint64_t *group, const int64_t *diffs)
{
    const uint64_t key[2] = {group[FLAT_SERIAL], word};
    bool string = is_string(members->kind);
    ASSERT(key[0] > 0 && key[0] <= layout->serial);
    uint64_t *cell = cells_find(&members->table, hash, key, 0);
    if (cell == NULL) {
        cell = cells_add(&members->table, hash, key, 0);
        if (string) {
            dict_ref(layout->dict, (uint32_t)word);
        }
    }
    uint64_t *counts = cells_payload(&members->table, cell);
    uint64_t any = 0;
    for (uint32_t s = 0; s < members->slots; s++) {
        uint64_t *state = group + layout->states[members->states[s]].at;
        int64_t before = (int64_t)counts[s];
        counts[s] = plus(counts[s], diffs[s]);
        int64_t after = (int64_t)counts[s];
        state[0] = plus(state[0], (after > 0) - (before > 0));
        state[1] = plus(state[1], (after < 0) - (before < 0));
        any |= counts[s];
    }
    if (any == 0) {
        cells_remove(&members->table, hash, cell);
        if (string) {
            dict_unref(layout->dict, (uint32_t)word);
        }
    }
}

/* All states that count values of one column: a look-up a row, whatever their number. */
static void update_members(struct flat_layout *layout, struct flat_members *members,
                           const struct flat_rows *rows, const int64_t *diffs)
{
    int64_t counted[FLAT_ROWS * FLAT_AGGS_MAX]; /* row after row, a slot each */
    int64_t column[FLAT_ROWS];
    uint64_t words[FLAT_ROWS], hash[FLAT_ROWS];
    uint32_t slots = members->slots;
    ASSERT(slots > 0 && slots <= FLAT_AGGS_MAX && members->table.keys == 2);
    for (uint32_t s = 0; s < slots; s++) {
        diffs_of(&layout->states[members->states[s]], rows, diffs, column);
        for (uint32_t i = 0; i < rows->len; i++) {
            counted[i * slots + s] = column[i];
        }
    }
    member_words(layout, members, rows, words);
    for (uint32_t i = 0; i < rows->len; i++) {
        const uint64_t key[2] = {rows->groups[i][FLAT_SERIAL], words[i]};
        hash[i] = cells_hash(key, 2, 0);
        cells_load(&members->table, hash[i]);
    }
    for (uint32_t i = 0; i < rows->len; i++) {
        int64_t any = 0;
        for (uint32_t s = 0; s < slots; s++) {
            any |= counted[i * slots + s];
        }
        if (any != 0) {
            update_member(layout, members, hash[i], words[i], rows->groups[i],
                          &counted[i * slots]);
        }
    }
    release_words(layout, members, rows, words);
}

static void update_state(struct flat_layout *layout, const struct flat_state *state,
                         const struct flat_rows *rows, const int64_t *diffs)
{
    int64_t counted[FLAT_ROWS];
    diffs_of(state, rows, diffs, counted);
    switch (state->kind) {
    case FLAT_COUNT:
        update_count(state, rows, counted);
        break;
    case FLAT_SUM:
        update_sum(state, rows, counted);
        break;
    case FLAT_RANGE:
        update_range(layout, state, rows, counted);
        break;
    case FLAT_STRINGS:
        update_strings(layout, state, rows, counted);
        break;
    case FLAT_DISTINCT:
        UNREACHABLE(); /* by members */
    }
}

void flat_update(struct flat_layout *layout, const struct flat_rows *rows)
{
    int64_t diffs[FLAT_ROWS];
    ASSERT(rows->len > 0 && rows->len <= FLAT_ROWS);
    for (uint32_t i = 0; i < rows->len; i++) {
        diffs[i] = batch_diff(rows->batch, rows->rows[i]);
        uint64_t *count = rows->groups[i] + FLAT_ROW_COUNT;
        *count = plus(*count, diffs[i]);
    }
    for (uint32_t s = 0; s < layout->states_len; s++) {
        if (layout->states[s].kind != FLAT_DISTINCT) {
            update_state(layout, &layout->states[s], rows, diffs);
        }
    }
    for (uint32_t m = 0; m < layout->members_len; m++) {
        update_members(layout, &layout->members[m], rows, diffs);
    }
}

/* ---- showing --------------------------------------------------------------------------------- */

static bool has_negative(const struct flat_layout *layout, const uint64_t *group)
{
    uint64_t negative = 0;
    for (uint32_t s = 0; s < layout->states_len; s++) {
        enum flat_kind kind = layout->states[s].kind;
        if (kind != FLAT_COUNT && kind != FLAT_SUM) {
            negative |= group[layout->states[s].at + 1]; /* of both kinds of sets, and of values */
        }
    }
    return negative != 0;
}

static void range_image(const struct flat_state *state, const uint64_t *words, uint64_t *out)
{
    struct wset set;
    memcpy(&set, words, sizeof(set));
    ASSERT(set.negative == 0 && (state->least || state->greatest));
    out[0] = set.root != NULL;
    out[1] = state->least && set.root != NULL ? wset_first(&set) : 0;
    out[2] = state->greatest && set.root != NULL ? wset_last(&set) : 0;
}

static uint64_t hold_element(struct flat_layout *layout, const struct oset_node *node)
{
    return dict_hold(layout->dict, node->bytes + node->sort_len, node->len - node->sort_len);
}

static void strings_image(struct flat_layout *layout, const struct flat_state *state,
                          const uint64_t *words, uint64_t *out)
{
    struct oset set;
    memcpy(&set, words, sizeof(set));
    ASSERT(set.negative == 0 && (state->least || state->greatest));
    out[0] = set.root != NULL;
    out[1] = state->least && set.root != NULL ? hold_element(layout, oset_first(&set)) : 0;
    out[2] = state->greatest && set.root != NULL ? hold_element(layout, oset_last(&set)) : 0;
}

/* Of a group with negative values nothing else is shown: it is an error, whatever the rest. */
void flat_image(struct flat_layout *layout, const uint64_t *group, uint64_t *image)
{
    memset(image, 0, layout->image_words * sizeof(*image));
    image[FLAT_ROW_COUNT] = group[FLAT_ROW_COUNT];
    bool negative = has_negative(layout, group);
    ASSERT(!negative || layout->negative_at > 0);
    if (negative) {
        image[layout->negative_at] = 1;
    }
    for (uint32_t s = 0; !negative && s < layout->states_len; s++) {
        const struct flat_state *state = &layout->states[s];
        const uint64_t *words = group + state->at;
        uint64_t *out = image + state->shown;
        switch (state->kind) {
        case FLAT_COUNT:
        case FLAT_DISTINCT:
            out[0] = words[0];
            break;
        case FLAT_SUM:
            memcpy(out, words, 3 * sizeof(*out));
            break;
        case FLAT_RANGE:
            range_image(state, words, out);
            break;
        case FLAT_STRINGS:
            strings_image(layout, state, words, out);
            break;
        }
    }
}

void flat_image_release(struct flat_layout *layout, const uint64_t *image)
{
    for (uint32_t s = 0; s < layout->states_len; s++) {
        const struct flat_state *state = &layout->states[s];
        const uint64_t *shown = image + state->shown;
        if (state->kind == FLAT_STRINGS && shown[0] != 0) {
            if (state->least) {
                dict_unref(layout->dict, (uint32_t)shown[1]);
            }
            if (state->greatest) {
                dict_unref(layout->dict, (uint32_t)shown[2]);
            }
        }
    }
}

/* The number of rows is seen by count(*) alone. */
bool flat_image_same(const struct flat_layout *layout, const uint64_t *a, const uint64_t *b)
{
    uint64_t differ = 0;
    for (uint32_t w = FLAT_ROW_COUNT + 1; w < layout->image_words; w++) {
        differ |= a[w] ^ b[w];
    }
    for (uint32_t i = 0; i < layout->aggs_len; i++) {
        bool rows = layout->agg_state[i] == FLAT_AGGS_MAX;
        differ |= rows ? a[FLAT_ROW_COUNT] ^ b[FLAT_ROW_COUNT] : 0;
    }
    return differ == 0;
}

static void range_result(const struct flat_state *state, const struct plan_agg *agg,
                         const uint64_t *shown, struct datum *out)
{
    uint64_t word = shown[agg->func == AGG_MIN ? 1 : 2];
    ASSERT(agg->func == AGG_MIN ? state->least : agg->func == AGG_MAX && state->greatest);
    out->null = shown[0] == 0;
    out->i = out->null                    ? 0
             : state->kind == FLAT_RANGE ? wset_value(word)
                                         : (int64_t)word;
}

bool flat_result(const struct flat_layout *layout, const uint64_t *image, struct datum *out,
                 const char **sqlstate, const char **message)
{
    ASSERT((int64_t)image[FLAT_ROW_COUNT] > 0 && !flat_is_negative(layout, image));
    bool ok = true;
    for (uint32_t a = 0; ok && a < layout->aggs_len; a++) {
        const struct plan_agg *agg = &layout->aggs[a];
        bool rows = layout->agg_state[a] == FLAT_AGGS_MAX;
        const struct flat_state *state = rows ? NULL : &layout->states[layout->agg_state[a]];
        const uint64_t *shown = image + layout->agg_shown[a];
        out[a] = (struct datum){0};
        if (rows || state->kind == FLAT_COUNT || state->kind == FLAT_DISTINCT) {
            out[a].i = (int64_t)shown[0];
        } else if (state->kind == FLAT_SUM) {
            int128 sum = (int128)((uint128)shown[1] << 64 | shown[0]);
            ok = reduce_int_sum(agg, sum, (int64_t)shown[2], &out[a], sqlstate, message);
        } else {
            range_result(state, agg, shown, &out[a]);
        }
    }
    return ok;
}
