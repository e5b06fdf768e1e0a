/*
 * Sessions that are over, and whose peer may still be reading. Ending a session takes back every
 * block that its reader has not claimed; those it has it may be reading at this moment, in a
 * callback that takes as long as it takes, or while it is stopped. Reusing them would hand it torn
 * bytes. So they stay until the connection ends or the peer says DETACHED: the kernel closes it
 * after the process can read no more, a live peer when its workers have closed. What a reader
 * claims at a time is little (CLAIM_BYTES in take.c), so this needs no time limit.
 */
#include "ring/frame/frame.h"
#include "ring/shm/memory.h"
#include "ring/shm/pool.h"

struct shm_linger {
    struct shm_pool *pool;
    struct shm_linger *prev;
    struct shm_linger *next;
    struct io_stream *stream;
    struct shm_return *returns;
};

static void linger_over(struct shm_linger *l)
{
    ASSERT(l->returns != NULL);
    shm_pool_return(l->returns);
    *(l->prev != NULL ? &l->prev->next : &l->pool->lingering) = l->next;
    if (l->next != NULL) {
        l->next->prev = l->prev;
    }
    free(l);
}

/* Whatever the peer still says of the session is of no interest, except that it is done. */
static void linger_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct shm_linger *l = arg;
    struct frame_header h;
    uint32_t crc;
    uint32_t want;
    for (size_t i = 0; i < fds_len; i++) {
        shm_close(fds[i]);
    }
    if (len != FRAME_HEADER_LEN) {
        return;
    }
    err_t err = frame_decode(data, &h, &crc, &want);
    bool done = err == ERR_OK && crc == want && h.kind == FRAME_DETACHED;
    err_free(err);
    if (done) {
        io_stream_close(l->stream);
        linger_over(l);
    }
}

static void linger_closed(void *arg, err_t reason)
{
    err_free(reason);
    linger_over(arg);
}

static const struct io_stream_handler linger_handler = {
    .data = linger_data,
    .close = linger_closed,
};

void shm_linger(struct shm_pool *pool, struct io_stream *stream, struct shm_return *returns)
{
    ASSERT(stream != NULL && returns != NULL);
    struct shm_linger *l = MEM_NEW(struct shm_linger);
    *l = (struct shm_linger){
        .pool = pool, .next = pool->lingering, .stream = stream, .returns = returns};
    if (l->next != NULL) {
        l->next->prev = l;
    }
    pool->lingering = l;
    io_stream_set_handler(stream, &linger_handler, l);
}

void shm_linger_free_all(struct shm_pool *pool)
{
    while (pool->lingering != NULL) {
        io_stream_close(pool->lingering->stream);
        linger_over(pool->lingering);
    }
}
