/*
 * A worker's arena: next fit over spans. Blocks are given out in the order of addresses, round and
 * round, so that with readers that keep up the next span is free and large, and taking is a few
 * instructions whatever the size. Free neighbours are joined when the search comes past them.
 */
#include "ring/shm/arena.h"

#include "core/base/mem.h"
#include "ring/shm/layout.h"

/*
 * Units from the start that are used again before those behind them. With the whole of 16 MiB used
 * in turn, small blocks cost twice as much where both processes have one last cache: it holds the
 * memory, the processor's tables of pages do not. (Where they have two it is the other way round,
 * by a third: what was written long ago has left the reader's.)
 */
enum { WINDOW = (8 << 20) / SHM_UNIT };

static uint32_t units_of(size_t len)
{
    return (uint32_t)((len + SHM_UNIT - 1) / SHM_UNIT);
}

static struct shm_span *span_at(const struct shm_arena *arena, uint64_t offset)
{
    ASSERT(offset % SHM_UNIT == 0 && offset / SHM_UNIT < arena->units);
    return &arena->spans[offset / SHM_UNIT];
}

void shm_arena_init(struct shm_arena *arena, uint64_t bytes)
{
    ASSERT(bytes > 0 && bytes % SHM_PAGE == 0 && bytes / SHM_UNIT < UINT32_MAX);
    uint32_t units = (uint32_t)(bytes / SHM_UNIT);
    *arena = (struct shm_arena){.units = units, .free_units = units, .refused = UINT32_MAX};
    arena->spans = mem_alloc(units * sizeof(arena->spans[0]));
    memset(arena->spans, 0, units * sizeof(arena->spans[0])); /* faults now, not while sending */
    arena->spans[0].units = units;
}

void shm_arena_close(struct shm_arena *arena)
{
    free(arena->spans);
    *arena = (struct shm_arena){0};
}

/* Joins a free span with the free ones behind it. */
static void join(struct shm_arena *arena, uint32_t at)
{
    struct shm_span *span = &arena->spans[at];
    ASSERT(span->refs == 0 && span->units > 0);
    while (at + span->units < arena->units && arena->spans[at + span->units].refs == 0) {
        span->units += arena->spans[at + span->units].units;
    }
}

/* Cuts the span to n units; what is left becomes a free span. */
static void cut(struct shm_arena *arena, uint32_t at, uint32_t n)
{
    struct shm_span *span = &arena->spans[at];
    ASSERT(n > 0 && n <= span->units);
    if (n < span->units) {
        arena->spans[at + n] = (struct shm_span){.units = span->units - n};
        span->units = n;
    }
}

/* Where the search begins: where the last one ended, or, beyond the window, at the start if there
 * is room again. */
static uint32_t begin_at(struct shm_arena *arena, uint32_t n)
{
    if (arena->next <= WINDOW || arena->spans[0].refs != 0) {
        return arena->next;
    }
    join(arena, 0);
    /* When that swallowed the span of the last place, it is large enough. */
    ASSERT(arena->spans[0].units <= arena->next || arena->spans[0].units >= n);
    return arena->spans[0].units >= n ? 0 : arena->next;
}

bool shm_arena_take(struct shm_arena *arena, size_t len, uint64_t *offset)
{
    uint32_t n = units_of(len);
    ASSERT(len > 0 && arena->next < arena->units);
    if (n > arena->free_units || n >= arena->refused) {
        return false;
    }
    uint32_t at = begin_at(arena, n);
    for (uint32_t looked = 0; looked < arena->units;) {
        struct shm_span *span = &arena->spans[at];
        if (span->refs == 0) {
            join(arena, at);
            if (span->units >= n) {
                cut(arena, at, n);
                span->refs = 1;
                arena->free_units -= n;
                arena->next = at + n < arena->units ? at + n : 0;
                *offset = (uint64_t)at * SHM_UNIT;
                return true;
            }
        }
        looked += span->units;
        at = at + span->units < arena->units ? at + span->units : 0;
    }
    arena->next = at; /* joining may have swallowed the span it named */
    arena->refused = n;
    return false;
}

void shm_arena_hold(struct shm_arena *arena, uint64_t offset)
{
    struct shm_span *span = span_at(arena, offset);
    ASSERT(span->refs > 0 && span->refs < UINT32_MAX);
    span->refs++;
}

static void freed(struct shm_arena *arena, uint32_t units)
{
    ASSERT(units > 0 && arena->free_units + units <= arena->units);
    arena->free_units += units;
    arena->refused = UINT32_MAX;
}

bool shm_arena_drop(struct shm_arena *arena, uint64_t offset)
{
    struct shm_span *span = span_at(arena, offset);
    ASSERT(span->refs > 0 && span->units > 0);
    if (--span->refs > 0) {
        return false;
    }
    freed(arena, span->units);
    return true;
}

void shm_arena_trim(struct shm_arena *arena, uint64_t offset, size_t keep)
{
    struct shm_span *span = span_at(arena, offset);
    uint32_t at = (uint32_t)(offset / SHM_UNIT);
    uint32_t had = span->units;
    uint32_t stay = units_of(keep);
    ASSERT(keep > 0 && stay <= had && span->refs > 0);
    if (stay == had) {
        return;
    }
    cut(arena, at, stay);
    freed(arena, had - stay);
    if (arena->next == (at + had < arena->units ? at + had : 0)) {
        arena->next = at + stay; /* the next block lies close behind */
    }
}

bool shm_arena_valid(const struct shm_arena *arena)
{
    uint32_t unused = 0;
    uint32_t at = 0;
    bool next_found = false;
    while (at < arena->units) {
        const struct shm_span *span = &arena->spans[at];
        if (span->units == 0 || span->units > arena->units - at) {
            return false;
        }
        next_found |= at == arena->next;
        unused += span->refs == 0 ? span->units : 0;
        at += span->units;
    }
    return unused == arena->free_units && next_found;
}
