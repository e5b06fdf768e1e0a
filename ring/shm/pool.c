/* Pools: see shm.h. */
#include "ring/shm/pool.h"

#include "core/base/log.h"
#include "ring/shm/memory.h"

enum {
    POOL_BYTES_DEFAULT = 16 << 20,
    DROPS_A_TURN = 512, /* some tens of microseconds */
};

static uint64_t bytes_each(uint32_t workers, size_t bytes)
{
    uint64_t each = (bytes != 0 ? bytes : POOL_BYTES_DEFAULT) / workers / SHM_PAGE * SHM_PAGE;
    each = each < SHM_ARENA_MIN ? SHM_ARENA_MIN : each;
    return each < SHM_ARENA_MAX ? each : SHM_ARENA_MAX;
}

static struct shm_pool *pool_new(uint32_t workers, size_t bytes)
{
    ASSERT(workers > 0 && workers <= HELLO_WORKERS_MAX);
    struct shm_pool *pool = MEM_NEW(struct shm_pool);
    pool->config.workers = workers;
    pool->arena_bytes = bytes_each(workers, bytes);
    pool->size = shm_pool_size(workers, pool->arena_bytes);
    pool->fd = -1;
    pool->workers = mem_zalloc(sizeof(pool->workers[0]) * workers);
    return pool;
}

/* The memory is there: what lies in it, and the books. */
static void pool_begin(struct shm_pool *pool)
{
    ASSERT(pool->base != NULL);
    *(struct shm_pool_head *)pool->base =
        (struct shm_pool_head){.magic = SHM_POOL_MAGIC,
                               .workers = pool->config.workers,
                               .arena_bytes = pool->arena_bytes};
    for (uint32_t i = 0; i < pool->config.workers; i++) {
        struct shm_pool_worker *w = &pool->workers[i];
        w->pool = pool;
        w->base = shm_arena_at(pool->base, pool->arena_bytes, i);
        shm_arena_init(&w->arena, pool->arena_bytes);
    }
}

static err_t pool_make(struct shm_pool *pool)
{
    bool huge = pool->size % SHM_HUGE_PAGE == 0;
    TRY(shm_memory_make("tailrace-pool", pool->size, &huge, &pool->base, &pool->fd));
    LOG_DEBUG("ring", "shared memory made", LOG_U64("bytes", pool->size),
              LOG_U64("workers", pool->config.workers), LOG_STR("pages", huge ? "2M" : "4K"));
    return ERR_OK;
}

struct shm_pool *shm_pool_new(const struct shm_pool_config *config)
{
    struct shm_pool *pool = pool_new(config->workers, config->bytes);
    pool->config = *config;
    err_t err = config->shared ? pool_make(pool) : ERR_OK;
    if (err != ERR_OK) {
        LOG_WARN("ring", "no shared memory: each session copies", LOG_ERR(err));
        err_free(err);
    }
    if (pool->base == NULL) {
        pool->base = shm_memory_private(pool->size);
    }
    pool_begin(pool);
    return pool;
}

err_t shm_pool_new_own(uint32_t workers, size_t bytes, struct shm_pool **out)
{
    struct shm_pool *pool = pool_new(workers, bytes);
    *out = NULL;
    err_t err = pool_make(pool);
    if (err != ERR_OK) {
        shm_pool_free(pool);
        return err;
    }
    pool_begin(pool);
    *out = pool;
    return ERR_OK;
}

static void drop_all(const struct shm_return *r)
{
    for (size_t i = 0; i < r->len; i++) {
        shm_pool_drop(r->worker, r->offsets[i]);
    }
}

static struct shm_return *return_of(struct mailbox_item *item)
{
    return CONTAINER_OF(item, struct shm_return, item);
}

static void take_return(void *arg, struct mailbox_item *item)
{
    ASSERT(return_of(item)->worker == arg);
    drop_all(return_of(item));
    free(return_of(item));
}

static void free_return(struct mailbox_item *item)
{
    free(return_of(item));
}

void shm_pool_return(struct shm_return *r)
{
    while (r != NULL) {
        struct shm_return *next = r->next;
        ASSERT(r->worker->box != NULL);
        mailbox_put(r->worker->box, &r->item);
        r = next;
    }
}

void shm_pool_worker(struct shm_pool *pool, uint32_t local, struct io_loop *loop,
                     void (*room)(void *ctx), void *ctx)
{
    ASSERT(local < pool->config.workers && loop != NULL);
    struct shm_pool_worker *w = &pool->workers[local];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->box = mailbox_new(loop, take_return, NULL, w);
    w->room = room;
    w->ctx = ctx;
}

/* A turn's worth of what sessions that are over have left. */
static void drop_some(struct shm_pool_worker *w)
{
    struct shm_drops *drops = w->drops;
    for (uint32_t n = 0; drops != NULL && n < DROPS_A_TURN; n++) {
        if (drops->at == drops->end) {
            w->drops = drops->next;
            free(drops->held);
            free(drops);
            drops = w->drops;
            continue;
        }
        const struct shm_held *held = &drops->held[drops->at++ & drops->mask];
        if (!held->gone) {
            shm_pool_drop(w, held->span);
        }
    }
}

static void drop_timer_fired(struct io_timer *timer)
{
    struct shm_pool_worker *w = CONTAINER_OF(timer, struct shm_pool_worker, drop_timer);
    drop_some(w);
    if (w->drops != NULL) { /* not in this round of the loop: others have their turn */
        io_timer_start(w->loop, timer, io_now_us(w->loop) + 1);
    }
}

void shm_pool_drop_later(struct shm_pool_worker *w, struct shm_drops *drops)
{
    ASSERT(drops->next == NULL && drops->end - drops->at <= drops->mask + 1);
    drops->next = w->drops;
    w->drops = drops;
    if (w->drop_timer.heap_at == 0) {
        w->drop_timer.fire = drop_timer_fired;
        io_timer_start(w->loop, &w->drop_timer, io_now_us(w->loop));
    }
}

bool shm_pool_take(struct shm_pool_worker *w, size_t len, uint64_t *offset)
{
    ASSERT(len > 0 && len <= SHM_POOL_BLOCK_MAX);
    if (shm_arena_take(&w->arena, len, offset)) {
        return true;
    }
    while (w->drops != NULL) { /* it is there: only not told yet */
        drop_some(w);
        if (shm_arena_take(&w->arena, len, offset)) {
            return true;
        }
    }
    shm_pool_hurry(w);
    bool taken = shm_arena_take(&w->arena, len, offset);
    w->waiting |= !taken;
    return taken;
}

bool shm_pool_short(const struct shm_pool *pool, uint32_t local)
{
    ASSERT(local < pool->config.workers);
    return pool->workers[local].waiting;
}

void shm_pool_drop(struct shm_pool_worker *w, uint64_t offset)
{
    if (shm_arena_drop(&w->arena, offset) && w->waiting) {
        w->waiting = false;
        if (w->room != NULL) {
            w->room(w->ctx);
        }
    }
}

bool shm_pool_reserve(struct shm_pool *pool, uint32_t local, size_t len, struct carrier_block *out)
{
    ASSERT(local < pool->config.workers);
    struct shm_pool_worker *w = &pool->workers[local];
    uint64_t offset;
    if (!shm_pool_take(w, len, &offset)) {
        return false;
    }
    *out = (struct carrier_block){
        .data = w->base + offset, .len = len, .owner = pool, .place = offset};
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
    shm_pool_drop(&pool->workers[local], block->place);
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
    shm_linger_free_all(pool);
    for (uint32_t i = 0; i < pool->config.workers; i++) {
        struct shm_pool_worker *w = &pool->workers[i];
        ASSERT(w->ends == NULL);
        mailbox_free(w->box, free_return);
        w->room = NULL; /* nobody is told any more */
        while (w->drops != NULL) {
            drop_some(w);
        }
        if (w->drop_timer.heap_at != 0) {
            io_timer_cancel(w->loop, &w->drop_timer);
        }
        if (w->pool != NULL) {
            ASSERT(shm_arena_valid(&w->arena));
            shm_arena_close(&w->arena);
        }
    }
    if (pool->fd >= 0) {
        shm_memory_unmap(pool->base, pool->size);
        shm_close(pool->fd);
    } else {
        free(pool->base);
    }
    free(pool->workers);
    free(pool);
}
