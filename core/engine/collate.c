/*
 * An element of the set is the bytes of its order, then the arguments as encoded columns:
 *
 *   string_agg(a, b ORDER BY c DESC)    sort: c complemented        data: a, b
 *   array_agg(a)                        sort: a                     data: a
 *
 * Without ORDER BY any order is right in SQL; the values' own makes the answer a function of the
 * group's content, and equal on every worker. With DISTINCT elements of the same sort bytes are
 * one, so the planner lets the arguments that ORDER BY does not name follow it; the first form of
 * those that are equal but look different (1.0, 1.00) is the one that shows.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/collate.h"

#include "core/data/array.h"
#include "core/engine/order.h"

/* The longest text a column of a batch takes from one value. */
enum { COLLATE_BYTES_MAX = 256 << 20 };

static void append_order(const struct batch *b, uint32_t row, const struct plan_order *order,
                         struct buf *out)
{
    struct datum d;
    batch_datum(&b->col[order->col], row, &d);
    order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, out);
}

/* The element of a row; returns the length of its sort bytes. */
static uint32_t encode(const struct plan_agg *agg, const struct batch *b, uint32_t row,
                       struct buf *out)
{
    uint32_t args[] = {agg->arg, agg->arg2};
    uint32_t args_len = agg_takes_two((enum agg_func)agg->func) ? 2 : 1;
    buf_clear(out);
    for (uint32_t i = 0; i < agg->order_len; i++) {
        append_order(b, row, &agg->order[i], out);
    }
    for (uint32_t i = 0; i < args_len && agg->order_len == 0; i++) {
        append_order(b, row, &(struct plan_order){.col = args[i]}, out);
    }
    uint32_t sort_len = (uint32_t)out->len;
    ASSERT(sort_len > 0 && out->len <= UINT32_MAX);
    batch_encode_row(b, row, args, args_len, false, out);
    return sort_len;
}

/* string_agg passes over NULLs; the others keep them. */
void collate_update(const struct plan_agg *agg, struct oset *set, struct pool *pool,
                    const struct batch *b, uint32_t row, int64_t diff, struct buf *scratch)
{
    ASSERT(agg_is_ordered((enum agg_func)agg->func) && row < b->rows);
    if (agg->func == AGG_STRING_AGG && batch_is_null(&b->col[agg->arg], row)) {
        return;
    }
    uint32_t sort_len = encode(agg, b, row, scratch);
    oset_update(set, pool, scratch->data, (uint32_t)scratch->len, sort_len, diff);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One answer being written, and what the walk over the set has to remember. */
struct collation {
    const struct plan_agg *agg;
    uint8_t kind;      /* of the arguments */
    struct buf *out;
    size_t start;      /* of the answer in out */
    const struct oset_node *before; /* DISTINCT: the last element */
    bool any;
    const char *sqlstate, *message; /* NULL: none yet */
};

static void fail(struct collation *c, const char *sqlstate, const char *message)
{
    ASSERT(c->sqlstate == NULL);
    c->sqlstate = sqlstate;
    c->message = message;
}

/* The value is printed behind the output and copied forward when it must be quoted. */
static void append_item(struct collation *c, const struct datum *d)
{
    if (d->null) {
        buf_append_str(c->out, "NULL");
        return;
    }
    struct type type = type_of((enum type_kind)c->kind);
    size_t from = c->out->len;
    datum_print(&type, d, c->out);
    size_t len = c->out->len - from;
    char *text = mem_strndup((const char *)c->out->data + from, len);
    c->out->len = from;
    array_append(text, len, c->out);
    free(text);
}

/* An element, with what stands between it and the one before. */
static void append_element(struct collation *c, const struct datum *first,
                           const struct datum *second)
{
    ASSERT(c->sqlstate == NULL);
    switch (c->agg->func) {
    case AGG_STRING_AGG:
        if (c->any && !second->null) {
            buf_append(c->out, second->s, second->len);
        }
        buf_append(c->out, first->s, first->len);
        break;
    case AGG_ARRAY_AGG:
        buf_append_str(c->out, c->any ? "," : "");
        append_item(c, first);
        break;
    case AGG_JSONB_AGG:
        buf_append_str(c->out, c->any ? ", " : "");
        buf_append(c->out, first->null ? "null" : first->s, first->null ? 4 : first->len);
        break;
    default:
        ASSERT(c->agg->func == AGG_JSONB_OBJECT_AGG);
        if (first->null) {
            fail(c, "22004", "field name must not be null");
            break;
        }
        buf_append_str(c->out, c->any ? ", " : "");
        buf_append(c->out, first->s, first->len);
        buf_append_str(c->out, ": ");
        buf_append(c->out, second->null ? "null" : second->s, second->null ? 4 : second->len);
        break;
    }
    c->any = true;
}

static void visit(void *arg, const struct oset_node *node, int64_t copies)
{
    struct collation *c = arg;
    struct datum first = {0}, second = {0};
    bool again = c->agg->distinct && c->before != NULL && c->before->sort_len == node->sort_len &&
                 memcmp(c->before->bytes, node->bytes, node->sort_len) == 0;
    c->before = node;
    if (again) {
        return;
    }
    size_t at = node->sort_len + batch_decode_datum(node->bytes + node->sort_len, c->kind, &first);
    if (agg_takes_two((enum agg_func)c->agg->func)) {
        batch_decode_datum(node->bytes + at, c->kind, &second);
    }
    for (int64_t i = 0; i < (c->agg->distinct ? 1 : copies) && c->sqlstate == NULL; i++) {
        size_t len = c->out->len;
        append_element(c, &first, &second);
        /* Copies of nothing: the length does not end the loop, and there may be 2^62 of them. */
        if (i > 0 && c->out->len == len) {
            break;
        }
        if (c->out->len - c->start > COLLATE_BYTES_MAX) {
            fail(c, "54000", "the value of an aggregate is larger than 256 MiB");
        }
    }
}

/* Names in their order, each once, the last one's value: parsing makes that of any object. */
static void canonical_object(struct collation *c, size_t from)
{
    struct arena arena = {0};
    struct datum d;
    struct type type = type_of(TYPE_JSONB);
    err_t err = datum_parse(&type, (const char *)c->out->data + from, c->out->len - from, &arena,
                            &d);
    c->out->len = from;
    if (err == ERR_OK) {
        buf_append(c->out, d.s, d.len);
    } else {
        fail(c, "22023", "the names and values do not make an object");
    }
    err_free(err);
    arena_free(&arena);
}

/* NULL byte, length, bytes: as batch_encode_row has a value of variable length. */
bool collate_result(const struct plan_agg *agg, uint8_t arg_kind, const struct oset *set,
                    struct buf *out, const char **sqlstate, const char **message)
{
    struct collation c = {.agg = agg, .kind = arg_kind, .out = out};
    if (oset_total(set) == 0) {
        buf_append_byte(out, 0);
        return true;
    }
    buf_append_byte(out, 1);
    buf_append_u32(out, 0);
    c.start = out->len;
    static const char *const brackets[] = {
        [AGG_STRING_AGG] = "\0", [AGG_ARRAY_AGG] = "{}",
        [AGG_JSONB_AGG] = "[]",  [AGG_JSONB_OBJECT_AGG] = "{}"};
    char open = brackets[agg->func][0], close = brackets[agg->func][1];
    if (open != '\0') {
        buf_append_byte(out, (uint8_t)open);
    }
    oset_range(set, 0, oset_total(set), visit, &c);
    if (open != '\0') {
        buf_append_byte(out, (uint8_t)close);
    }
    if (agg->func == AGG_JSONB_OBJECT_AGG && c.sqlstate == NULL) {
        canonical_object(&c, c.start);
    }
    if (c.sqlstate != NULL) {
        *sqlstate = c.sqlstate;
        *message = c.message;
        return false;
    }
    uint32_t len = (uint32_t)(out->len - c.start);
    memcpy(out->data + c.start - sizeof(len), &len, sizeof(len));
    return true;
}
