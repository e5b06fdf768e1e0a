/*
 * Extendible hashing of cells in place. The directory is indexed by the top bits of the hash;
 * within a segment a cell lies at or after the place its low bits name, with no empty cell between.
 * cell_put keeps that by taking the first empty cell, cells_remove by moving later cells back into
 * the gap (Knuth 6.4, algorithm R): so a lookup may stop at the first empty cell, and always ends,
 * because a segment is never more than seven eighths full.
 *
 * Hashes are not stored: a key is at most CELLS_KEYS_MAX words, hashed in a few cycles when its
 * segment is divided.
 *
 * Freed segments of pages are only reused by the table itself: it needs them again, as it divides
 * segments and never joins them.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/cells.h"

#include "core/io/io.h"

enum {
    CAP_LOG_MIN = 3, /* small tables stay small */
    CAP_LOG_MAX = 9,
    LARGE_FROM = 16 * 1024 * 1024, /* bytes held: from then on segments are cut from pages */
};

/* Stands at the start of each large page; segments follow. */
struct cells_page {
    struct cells_page *next;
    uint64_t pad[7]; /* segments start on a line */
};

STATIC_ASSERT(sizeof(struct cells_page) == 64, "segments start on a line");
STATIC_ASSERT(1 << CAP_LOG_MAX == CELLS_SEGMENT_MAX, "the largest segment");
STATIC_ASSERT(offsetof(struct cells_segment, cells) == 64, "cells start on a line");

void cells_init(struct cells *table, uint32_t keys, uint32_t payload, struct account *account)
{
    ASSERT(keys <= CELLS_KEYS_MAX && payload > 0);
    *table = (struct cells){.keys = keys, .stride = 1 + keys + payload, .account = account};
}

static size_t directory_index(const struct cells *table, uint64_t hash)
{
    return hash >> 1 >> (63 - table->depth);
}

static struct cells_segment *segment_of(uintptr_t at)
{
    return (struct cells_segment *)(at & ~(uintptr_t)63);
}

/* A whole number of lines, as aligned_alloc wants it. */
static size_t segment_bytes(const struct cells *table, uint32_t cap_log)
{
    size_t cells = ((size_t)table->stride * sizeof(uint64_t)) << cap_log;
    return sizeof(struct cells_segment) + (cells + 63) / 64 * 64;
}

static void held(struct cells *table, int64_t bytes)
{
    account_add(table->account, bytes);
    table->bytes += (uint64_t)bytes;
}

/* Zero, of a page; a freed one first. */
static struct cells_segment *paged_segment(struct cells *table, size_t bytes)
{
    ASSERT(bytes <= IO_LARGE_PAGE - sizeof(struct cells_page));
    struct cells_segment *segment = table->free;
    if (segment != NULL) {
        table->free = segment->next;
        memset(segment, 0, bytes);
    } else {
        if (table->page_left < bytes) {
            struct cells_page *page = io_large_page_new();
            page->next = table->pages;
            table->pages = page;
            table->page_left = IO_LARGE_PAGE - sizeof(*page);
            held(table, IO_LARGE_PAGE);
        }
        uint8_t *end = (uint8_t *)table->pages + IO_LARGE_PAGE;
        segment = (struct cells_segment *)(void *)(end - table->page_left);
        table->page_left -= bytes;
    }
    ASSERT((uintptr_t)segment % 64 == 0 && segment->used == 0);
    segment->paged = true;
    return segment;
}

/* Zero, with memory of its own. */
static struct cells_segment *lone_segment(struct cells *table, size_t bytes)
{
    struct cells_segment *segment = aligned_alloc(64, bytes);
    ASSERT(segment != NULL);
    memset(segment, 0, bytes);
    held(table, (int64_t)bytes);
    return segment;
}

/* As it stands in the directory. Those that had to grow beyond the usual are not of a page. */
static uintptr_t segment_new(struct cells *table, uint32_t depth, uint32_t cap_log)
{
    ASSERT(cap_log >= CAP_LOG_MIN && cap_log < 64 && depth < 64);
    size_t bytes = segment_bytes(table, cap_log);
    bool paged = cap_log == CAP_LOG_MAX && table->bytes >= LARGE_FROM &&
                 bytes <= IO_LARGE_PAGE / 16;
    struct cells_segment *segment =
        paged ? paged_segment(table, bytes) : lone_segment(table, bytes);
    segment->depth = depth;
    return (uintptr_t)segment | cap_log;
}

static void segment_free(struct cells *table, uintptr_t at)
{
    struct cells_segment *segment = segment_of(at);
    if (segment->paged) {
        ASSERT((at & 63) == CAP_LOG_MAX && table->pages != NULL);
        segment->next = table->free;
        table->free = segment;
        return;
    }
    held(table, -(int64_t)segment_bytes(table, at & 63));
    free(segment);
}

/* When no segment is in use any more. */
static void free_pages(struct cells *table)
{
    while (table->pages != NULL) {
        struct cells_page *next = table->pages->next;
        io_large_page_free(table->pages);
        held(table, -(int64_t)IO_LARGE_PAGE);
        table->pages = next;
    }
    ASSERT(table->bytes == 0);
    table->free = NULL;
    table->page_left = 0;
}

/* A segment of lesser depth than the directory stands in several places, all in a row. */
void cells_clear(struct cells *table)
{
    size_t n = (size_t)1 << table->depth;
    for (size_t i = 0; table->directory != NULL && i < n;) {
        uintptr_t at = table->directory[i];
        ASSERT(segment_of(at)->depth <= table->depth);
        i += (size_t)1 << (table->depth - segment_of(at)->depth);
        segment_free(table, at);
    }
    if (table->directory != NULL) {
        account_add(table->account, -(int64_t)(n * sizeof(table->directory[0])));
        free(table->directory);
    }
    free_pages(table);
    table->directory = NULL;
    table->depth = 0;
    table->len = 0;
}

/* The first empty cell from the hash's place on; there must be one. */
static uint64_t *empty_cell(const struct cells *table, uintptr_t at, uint64_t hash)
{
    uint32_t mask = (1u << (at & 63)) - 1;
    struct cells_segment *segment = segment_of(at);
    ASSERT(segment->used <= mask);
    uint32_t i = (uint32_t)hash & mask;
    while (segment->cells[(size_t)i * table->stride] != 0) {
        i = (i + 1) & mask;
    }
    segment->used++;
    return &segment->cells[(size_t)i * table->stride];
}

static uint64_t hash_of(const struct cells *table, const uint64_t *cell)
{
    return cells_hash(cell + 1, table->keys, cells_nulls(cell));
}

/* Cells of one segment go to the halves their bit of the hash names; both may be the same. */
static void move_cells(struct cells *table, uintptr_t from, const uintptr_t to[2], uint32_t depth)
{
    size_t cap = (size_t)1 << (from & 63);
    struct cells_segment *old = segment_of(from);
    for (size_t i = 0; i < cap; i++) {
        const uint64_t *cell = &old->cells[i * table->stride];
        if (cell[0] != 0) {
            uint64_t hash = hash_of(table, cell);
            uintptr_t half = to[depth == 0 ? 0 : (hash >> (64 - depth)) & 1];
            memcpy(empty_cell(table, half, hash), cell, table->stride * sizeof(*cell));
        }
    }
    ASSERT(segment_of(to[0])->used + (to[0] != to[1] ? segment_of(to[1])->used : 0) == old->used);
    segment_free(table, from);
}

/* All places of the directory that show the segment of this hash. */
static void set_places(struct cells *table, uint64_t hash, uint32_t depth, const uintptr_t to[2])
{
    size_t span = (size_t)1 << (table->depth - depth);
    size_t first = directory_index(table, hash) & ~(span - 1);
    for (size_t i = 0; i < span; i++) {
        table->directory[first + i] = to[span > 1 && i >= span / 2];
    }
}

/* The whole segment is hashed again, as every place changes with the mask. */
static void segment_grow(struct cells *table, uint64_t hash, uintptr_t at)
{
    uint32_t depth = segment_of(at)->depth;
    uintptr_t wide = segment_new(table, depth, (uint32_t)(at & 63) + 1);
    const uintptr_t to[2] = {wide, wide};
    set_places(table, hash, depth, to);
    move_cells(table, at, to, 0);
}

/* Each place becomes two neighbours that share a segment. */
static void directory_double(struct cells *table)
{
    ASSERT(table->depth < 62); /* with_room gives up on splitting far earlier */
    size_t n = (size_t)1 << table->depth;
    uintptr_t *wide = mem_alloc(2 * n * sizeof(*wide));
    for (size_t i = 0; i < n; i++) {
        wide[2 * i] = table->directory[i];
        wide[2 * i + 1] = table->directory[i];
    }
    free(table->directory);
    table->directory = wide;
    table->depth++;
    account_add(table->account, (int64_t)(n * sizeof(*wide)));
}

/* Divides a segment by the next bit of the hash. */
static void segment_split(struct cells *table, uint64_t hash, uintptr_t at)
{
    uint32_t depth = segment_of(at)->depth;
    if (depth == table->depth) {
        directory_double(table);
    }
    ASSERT(depth < table->depth);
    uint32_t cap_log = (uint32_t)(at & 63);
    const uintptr_t half[2] = {segment_new(table, depth + 1, cap_log),
                               segment_new(table, depth + 1, cap_log)};
    set_places(table, hash, depth, half);
    move_cells(table, at, half, depth + 1);
}

/* Where there is room for one more cell of this hash, as it stands in the directory. */
static uintptr_t with_room(struct cells *table, uint64_t hash)
{
    if (table->directory == NULL) {
        table->directory = mem_alloc(sizeof(table->directory[0]));
        account_add(table->account, (int64_t)sizeof(table->directory[0]));
        table->directory[0] = segment_new(table, 0, CAP_LOG_MIN);
    }
    for (;;) {
        uintptr_t at = table->directory[directory_index(table, hash)];
        const struct cells_segment *segment = segment_of(at);
        size_t cap = (size_t)1 << (at & 63);
        if ((segment->used + 1UL) * 8 <= cap * 7) {
            return at;
        }
        /* A directory much larger than the number of cells would mean equal hashes: then
         * splitting is of no use and the segment grows. */
        bool sparse = segment->depth == table->depth &&
                      ((uint64_t)1 << table->depth) * 8 > table->len + 64;
        if (cap < CELLS_SEGMENT_MAX || sparse) {
            segment_grow(table, hash, at);
        } else {
            segment_split(table, hash, at);
        }
    }
}

uint64_t *cells_add(struct cells *table, uint64_t hash, const uint64_t *key, uint32_t nulls)
{
    ASSERT(nulls >> CELLS_KEYS_MAX == 0);
    uint64_t *cell = empty_cell(table, with_room(table, hash), hash);
    memset(cell, 0, table->stride * sizeof(*cell));
    cell[0] = CELL_USED | (uint64_t)nulls << 32;
    for (uint32_t i = 0; i < table->keys; i++) {
        cell[1 + i] = key[i];
    }
    table->len++;
    return cell;
}

void cells_remove(struct cells *table, uint64_t hash, uint64_t *cell)
{
    struct cells_place place = cells_place(table, hash);
    uint64_t *cells = place.segment->cells;
    size_t stride = table->stride;
    uint32_t i = (uint32_t)((size_t)(cell - cells) / stride);
    ASSERT(table->len > 0 && place.segment->used > 0);
    ASSERT(i <= place.mask && &cells[i * stride] == cell && cell[0] != 0);
    for (uint32_t j = (i + 1) & place.mask; cells[j * stride] != 0; j = (j + 1) & place.mask) {
        uint32_t home = (uint32_t)hash_of(table, &cells[j * stride]) & place.mask;
        if (((j - home) & place.mask) >= ((j - i) & place.mask)) {
            memcpy(&cells[i * stride], &cells[j * stride], stride * sizeof(*cells));
            i = j;
        }
    }
    cells[i * stride] = 0;
    place.segment->used--;
    if (--table->len == 0) {
        cells_clear(table);
    }
}
