/* A worker's arena: next fit over a bitmap. See arena.h. */
#include "ring/shm/arena.h"

#include "core/base/mem.h"
#include "ring/shm/layout.h"

static uint32_t units_of(size_t len)
{
    return (uint32_t)((len + SHM_UNIT - 1) / SHM_UNIT);
}

static bool is_used(const struct shm_arena *arena, uint32_t unit)
{
    return (arena->used[unit / 64] >> (unit % 64) & 1) != 0;
}

static void mark(struct shm_arena *arena, uint32_t unit, uint32_t n, bool used)
{
    ASSERT(n > 0 && unit + n <= arena->units);
    for (uint32_t i = unit; i < unit + n; i++) {
        ASSERT(is_used(arena, i) != used);
        arena->used[i / 64] ^= 1ULL << (i % 64);
    }
}

void shm_arena_init(struct shm_arena *arena, uint64_t bytes)
{
    ASSERT(bytes % SHM_PAGE == 0 && bytes / SHM_UNIT <= UINT32_MAX);
    arena->units = (uint32_t)(bytes / SHM_UNIT);
    arena->free_units = arena->units;
    arena->next = 0;
    arena->used = mem_zalloc((arena->units + 63) / 64 * sizeof(uint64_t));
}

void shm_arena_close(struct shm_arena *arena)
{
    free(arena->used);
    *arena = (struct shm_arena){0};
}

/* First run of n free units in [from, to), or to. */
static uint32_t find(const struct shm_arena *arena, uint32_t from, uint32_t to, uint32_t n)
{
    uint32_t run = 0;
    for (uint32_t i = from; i < to; i++) {
        if (i % 64 == 0 && arena->used[i / 64] == UINT64_MAX) {
            run = 0;
            i += 63; /* a whole word in use */
            continue;
        }
        run = is_used(arena, i) ? 0 : run + 1;
        if (run == n) {
            return i + 1 - n;
        }
    }
    return to;
}

bool shm_arena_take(struct shm_arena *arena, size_t len, uint64_t *offset)
{
    uint32_t n = units_of(len);
    ASSERT(n > 0);
    if (n > arena->free_units) {
        return false;
    }
    uint32_t at = find(arena, arena->next, arena->units, n);
    if (at == arena->units) {
        at = find(arena, 0, arena->units, n);
        if (at == arena->units) {
            return false;
        }
    }
    mark(arena, at, n, true);
    arena->free_units -= n;
    arena->next = at + n;
    *offset = (uint64_t)at * SHM_UNIT;
    return true;
}

void shm_arena_give(struct shm_arena *arena, uint64_t offset, size_t len)
{
    ASSERT(offset % SHM_UNIT == 0);
    uint32_t n = units_of(len);
    mark(arena, (uint32_t)(offset / SHM_UNIT), n, false);
    arena->free_units += n;
}

void shm_arena_trim(struct shm_arena *arena, uint64_t offset, size_t len, size_t keep)
{
    ASSERT(keep > 0 && keep <= len);
    uint32_t had = units_of(len);
    uint32_t stay = units_of(keep);
    if (stay < had) {
        mark(arena, (uint32_t)(offset / SHM_UNIT) + stay, had - stay, false);
        arena->free_units += had - stay;
    }
}

bool shm_arena_valid(const struct shm_arena *arena)
{
    uint32_t unused = 0;
    for (uint32_t i = 0; i < arena->units; i++) {
        unused += is_used(arena, i) ? 0 : 1;
    }
    return unused == arena->free_units && arena->next <= arena->units;
}
