/* Pools: see shm.h. */
#include "ring/shm/pool.h"

#include "core/base/mem.h"
#include "ring/shm/layout.h"

enum { POOL_BYTES_DEFAULT = 16 << 20 };

static size_t bytes_each(const struct shm_pool_config *config)
{
    size_t bytes = config->bytes != 0 ? config->bytes : POOL_BYTES_DEFAULT;
    size_t each = bytes / config->workers / SHM_PAGE * SHM_PAGE;
    each = each < SHM_ARENA_MIN ? SHM_ARENA_MIN : each;
    return each < SHM_ARENA_MAX ? each : SHM_ARENA_MAX;
}

struct shm_pool *shm_pool_new(const struct shm_pool_config *config)
{
    ASSERT(config->workers > 0 && config->workers <= HELLO_WORKERS_MAX);
    struct shm_pool *pool = MEM_NEW(struct shm_pool);
    pool->config = *config;
    pool->arena_bytes = bytes_each(config);
    pool->base = aligned_alloc(SHM_PAGE, pool->arena_bytes * config->workers);
    ASSERT(pool->base != NULL);
    pool->workers = mem_zalloc(sizeof(pool->workers[0]) * config->workers);
    for (uint32_t i = 0; i < config->workers; i++) {
        struct shm_pool_worker *w = &pool->workers[i];
        w->base = (uint8_t *)pool->base + i * pool->arena_bytes;
        shm_arena_init(&w->arena, pool->arena_bytes);
    }
    return pool;
}

void shm_pool_worker(struct shm_pool *pool, uint32_t local, struct io_loop *loop,
                     void (*room)(void *ctx), void *ctx)
{
    ASSERT(local < pool->config.workers && loop != NULL);
    struct shm_pool_worker *w = &pool->workers[local];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->room = room;
    w->ctx = ctx;
}

bool shm_pool_reserve(struct shm_pool *pool, uint32_t local, size_t len, struct carrier_block *out)
{
    ASSERT(local < pool->config.workers && len > 0 && len <= SHM_BLOCK_MAX);
    struct shm_pool_worker *w = &pool->workers[local];
    if (!shm_arena_take(&w->arena, len, &out->place)) {
        w->waiting = true;
        return false;
    }
    *out = (struct carrier_block){
        .data = w->base + out->place, .len = len, .owner = pool, .place = out->place};
    return true;
}

void shm_pool_trim(struct shm_pool *pool, uint32_t local, struct carrier_block *block, size_t len)
{
    ASSERT(local < pool->config.workers && block->owner == pool && len <= block->len);
    shm_arena_trim(&pool->workers[local].arena, block->place, len);
    block->len = len;
}

void shm_pool_release(struct shm_pool *pool, uint32_t local, struct carrier_block *block)
{
    ASSERT(local < pool->config.workers && block->owner == pool);
    struct shm_pool_worker *w = &pool->workers[local];
    if (shm_arena_drop(&w->arena, block->place) && w->waiting) {
        w->waiting = false;
        if (w->room != NULL) {
            w->room(w->ctx);
        }
    }
    *block = (struct carrier_block){0};
}

size_t shm_pool_used(const struct shm_pool *pool, uint32_t local)
{
    ASSERT(local < pool->config.workers);
    const struct shm_arena *arena = &pool->workers[local].arena;
    return (size_t)(arena->units - arena->free_units) * SHM_UNIT;
}

void shm_pool_free(struct shm_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    for (uint32_t i = 0; i < pool->config.workers; i++) {
        ASSERT(shm_arena_valid(&pool->workers[i].arena));
        shm_arena_close(&pool->workers[i].arena);
    }
    free(pool->base);
    free(pool->workers);
    free(pool);
}
