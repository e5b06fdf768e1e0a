/*
 * Making, comparing and putting out what of rows is no word. A row at a time on the way in, since
 * each goes to memory of its own; a column at a time on the way out, since all go to one place, and
 * what the caches miss of many objects is then fetched at once.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/rest.h"

#include "core/base/hash.h"

enum { PUT_BLOCK = 64 };

static uint8_t *bytes_of(const struct rest *rest, uint32_t cols)
{
    return (uint8_t *)&rest->ends[cols];
}

/* Fills in ends and NULLs of a row. */
static void measure(const struct batch *b, const uint32_t *cols, uint32_t cols_len, uint32_t row,
                    struct rest *rest)
{
    uint64_t end = 0;
    rest->nulls = 0;
    for (uint32_t k = 0; k < cols_len; k++) {
        const struct batch_col *c = &b->col[cols[k]];
        size_t width = type_width(c->kind);
        if (batch_is_null(c, row)) {
            rest->nulls |= 1u << k;
        } else {
            end += width > 0 ? width : c->offsets[row + 1] - c->offsets[row];
        }
        ASSERT(end <= UINT32_MAX); /* as in an arrangement: a row is of one batch */
        rest->ends[k] = (uint32_t)end;
    }
}

static const uint8_t *value_of(const struct batch_col *c, uint32_t row)
{
    size_t width = type_width(c->kind);
    return width > 0 ? (const uint8_t *)c->values + row * width : c->bytes + c->offsets[row];
}

void rest_make(struct pool *pool, const struct batch *b, const uint32_t *cols, uint32_t cols_len,
               const uint32_t *rows, uint32_t n, uint64_t *words, size_t stride)
{
    uint32_t head[1 + REST_COLS_MAX]; /* a rest without its bytes */
    struct rest *measured = (struct rest *)head;
    ASSERT(cols_len > 0 && cols_len <= REST_COLS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        measure(b, cols, cols_len, rows[i], measured);
        struct rest *rest = pool_alloc(pool, rest_size(measured, cols_len));
        memcpy(rest, measured, sizeof(*rest) + cols_len * sizeof(rest->ends[0]));
        uint8_t *to = bytes_of(rest, cols_len);
        uint32_t start = 0;
        for (uint32_t k = 0; k < cols_len; k++) {
            uint32_t len = rest->ends[k] - start;
            if (len > 0) {
                memcpy(to + start, value_of(&b->col[cols[k]], rows[i]), len);
            }
            start = rest->ends[k];
        }
        words[i * stride] = rest_word(rest);
    }
}

struct rest *rest_copy(struct pool *pool, const struct rest *rest, uint32_t cols)
{
    size_t size = rest_size(rest, cols);
    return memcpy(pool_alloc(pool, size), rest, size);
}

void rest_free(struct pool *pool, struct rest *rest, uint32_t cols)
{
    pool_free(pool, rest, rest_size(rest, cols));
}

/* NULLs and ends lie in front of the bytes: equal objects are equal as a whole. */
bool rest_same(const struct rest *a, const struct rest *b, uint32_t cols)
{
    size_t size = rest_size(a, cols);
    return size == rest_size(b, cols) && memcmp(a, b, size) == 0;
}

uint64_t rest_hash(const struct rest *rest, uint32_t cols)
{
    return hash_bytes(rest, rest_size(rest, cols));
}

/* A NULL has no data, an empty text has. */
static struct batch_span span_of(const struct rest *rest, uint32_t cols, uint32_t which)
{
    uint32_t start = which == 0 ? 0 : rest->ends[which - 1];
    ASSERT(start <= rest->ends[which]);
    bool null = (rest->nulls >> which & 1) != 0;
    return (struct batch_span){null ? NULL : bytes_of(rest, cols) + start,
                               rest->ends[which] - start};
}

void rest_put(struct batch_builder *b, size_t c, const uint64_t *words, size_t n, uint32_t cols,
              uint32_t which)
{
    struct batch_span spans[PUT_BLOCK];
    ASSERT(which < cols && cols <= REST_COLS_MAX);
    for (size_t at = 0; at < n; at += PUT_BLOCK) {
        size_t len = n - at < PUT_BLOCK ? n - at : PUT_BLOCK;
        for (size_t i = 0; i < len; i++) {
            spans[i] = span_of(rest_of(words[at + i]), cols, which);
        }
        batch_builder_spans(b, c, spans, len);
    }
}
