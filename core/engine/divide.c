/*
 * Placing is a radix pass: as many streams of writes as a port has parts, which is at most
 * 1 << BITS_MAX, so that each stream's line stays in the cache until it is full.
 *
 * Between calls of phase PLACE ends[p] is where part p's next record goes; before, how many words
 * the part has; after, its end, which is where the next one begins.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/divide.h"

enum { BITS_MAX = 10, WIDE_WORDS = 2 };

void divide_init(struct divide *divide, uint32_t keys, const uint32_t values[2],
                 struct account *account)
{
    ASSERT(keys > 0 && account != NULL);
    *divide = (struct divide){
        .keys = keys, .values = {values[0], values[1]}, .account = account};
}

static size_t parts_len(const struct divide *divide)
{
    return (size_t)2 << divide->bits;
}

static size_t stride_of(const struct divide *divide, uint32_t port)
{
    ASSERT(port < 2);
    return divide->keys + divide->values[port] + (divide->wide ? WIDE_WORDS : 0UL);
}

static size_t part_of(const struct divide *divide, uint32_t port, uint64_t hash)
{
    size_t part = divide->bits == 0 ? 0 : hash >> (64 - divide->bits);
    return part * 2 + port;
}

/* Whether rows need words of their own for NULLs and diffs. */
static bool is_wide(const struct chunk_list *chunks, int64_t diff)
{
    for (size_t i = 0; i < chunks->chunks_len; i++) {
        const struct batch *b = &chunks->chunks[i]->batch;
        if (b->diffs != NULL || b->diff_const != diff) {
            return true;
        }
        for (uint32_t c = 0; c < b->cols; c++) {
            if (b->col[c].validity != NULL) {
                return true;
            }
        }
    }
    return false;
}

void divide_begin(struct divide *divide, const struct chunk_list *chunks, uint64_t part_rows)
{
    ASSERT(divide->phase == DIVIDE_NONE && divide->ends == NULL && chunks->chunks_len > 0);
    uint64_t rows = 0;
    for (size_t i = 0; i < chunks->chunks_len; i++) {
        rows += chunks->chunks[i]->batch.rows;
    }
    divide->time = chunks->chunks[0]->time_min;
    divide->diff = chunks->chunks[0]->batch.diff_const;
    divide->wide = is_wide(chunks, divide->diff);
    divide->bits = 0;
    while (divide->bits < BITS_MAX && rows >> divide->bits > part_rows) {
        divide->bits++;
    }
    divide->ends = mem_zalloc(parts_len(divide) * sizeof(divide->ends[0]));
    divide->part = 0;
    divide->at = 0;
    divide->phase = DIVIDE_COUNT;
}

void divide_count(struct divide *divide, uint32_t port, const uint64_t *hash, uint32_t len)
{
    ASSERT(divide->phase == DIVIDE_COUNT);
    size_t stride = stride_of(divide, port);
    for (uint32_t i = 0; i < len; i++) {
        divide->ends[part_of(divide, port, hash[i])] += stride;
    }
    divide->words_len += len * stride;
}

void divide_counted(struct divide *divide)
{
    ASSERT(divide->phase == DIVIDE_COUNT && divide->words_len > 0);
    size_t sum = 0;
    for (size_t p = 0; p < parts_len(divide); p++) {
        size_t len = divide->ends[p];
        divide->ends[p] = sum;
        sum += len;
    }
    ASSERT(sum == divide->words_len);
    divide->words = mem_alloc(sum * sizeof(divide->words[0]));
    account_add(divide->account, (int64_t)(sum * sizeof(divide->words[0])));
    divide->phase = DIVIDE_PLACE;
}

void divide_place(struct divide *divide, const struct divide_rows *rows)
{
    ASSERT(divide->phase == DIVIDE_PLACE);
    uint32_t keys = divide->keys;
    uint32_t values = divide->values[rows->port];
    size_t stride = stride_of(divide, rows->port);
    for (uint32_t i = 0; i < rows->len; i++) {
        size_t *end = &divide->ends[part_of(divide, rows->port, rows->hash[i])];
        uint64_t *to = &divide->words[*end];
        *end += stride;
        for (uint32_t k = 0; k < keys; k++) {
            *to++ = rows->keys[i * keys + k];
        }
        for (uint32_t v = 0; v < values; v++) {
            *to++ = rows->values[i * values + v];
        }
        if (divide->wide) {
            *to++ = (uint64_t)rows->key_nulls[i] << 32 | rows->nulls[i];
            *to++ = (uint64_t)rows->diffs[i];
        }
    }
    divide->at += rows->len * stride;
    ASSERT(divide->at <= divide->words_len);
    if (divide->at == divide->words_len) {
        ASSERT(divide->ends[parts_len(divide) - 1] == divide->words_len);
        divide->at = 0;
        divide->phase = DIVIDE_TAKE;
    }
}

/* The other way round than divide_place. */
static void take_row(const struct divide *divide, const uint64_t *from, uint32_t i,
                     struct divide_rows *rows)
{
    uint32_t values = divide->values[rows->port];
    for (uint32_t k = 0; k < divide->keys; k++) {
        rows->keys[i * divide->keys + k] = *from++;
    }
    for (uint32_t v = 0; v < values; v++) {
        rows->values[i * values + v] = *from++;
    }
    rows->key_nulls[i] = divide->wide ? (uint32_t)(from[0] >> 32) : 0;
    rows->nulls[i] = divide->wide ? (uint32_t)from[0] : 0;
    rows->diffs[i] = divide->wide ? (int64_t)from[1] : divide->diff;
}

void divide_take(struct divide *divide, uint32_t max, struct divide_rows *rows)
{
    ASSERT(divide->phase == DIVIDE_TAKE && divide->at < divide->words_len && max > 0);
    while (divide->ends[divide->part] == divide->at) {
        divide->part++;
        ASSERT(divide->part < parts_len(divide));
    }
    rows->port = divide->part % 2;
    size_t stride = stride_of(divide, rows->port);
    size_t left = (divide->ends[divide->part] - divide->at) / stride;
    rows->len = left < max ? (uint32_t)left : max;
    ASSERT(rows->len > 0);
    for (uint32_t i = 0; i < rows->len; i++) {
        take_row(divide, &divide->words[divide->at + i * stride], i, rows);
    }
    divide->at += rows->len * stride;
    if (divide->at == divide->words_len) {
        divide_clear(divide);
    }
}

uint32_t divide_part(const struct divide *divide)
{
    ASSERT(divide->phase == DIVIDE_TAKE && divide->at < divide->words_len);
    uint32_t part = divide->part;
    while (divide->ends[part] == divide->at) {
        part++;
    }
    return part / 2;
}

void divide_clear(struct divide *divide)
{
    if (divide->words != NULL) {
        account_add(divide->account, -(int64_t)(divide->words_len * sizeof(divide->words[0])));
    }
    free(divide->words);
    free(divide->ends);
    divide->words = NULL;
    divide->ends = NULL;
    divide->words_len = 0;
    divide->phase = DIVIDE_NONE;
}
