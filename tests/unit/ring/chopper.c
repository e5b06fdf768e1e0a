/* A proxy that cuts: see chopper.h. */
#include "tests/unit/ring/chopper.h"

#include "core/base/mem.h"

struct pair {
    struct chopper *chopper;
    struct pair *next;
    struct pair *prev;
    struct io_stream *sides[2]; /* 0: accepted, 1: connected */
    size_t left; /* bytes until the cut */
};

struct chopper {
    struct io_loop *loop;
    struct io_listener *listener;
    char *target;
    size_t max_bytes;
    size_t upto; /* connection by connection up to here, if that is asked for, */
    size_t next; /* and after how many the next one is cut */
    struct pair *pairs;
    uint64_t cuts;
};

static void pair_free(struct pair *pair)
{
    io_stream_close(pair->sides[0]);
    io_stream_close(pair->sides[1]);
    if (pair->next != NULL) {
        pair->next->prev = pair->prev;
    }
    *(pair->prev != NULL ? &pair->prev->next : &pair->chopper->pairs) = pair->next;
    free(pair);
}

static void forward(struct pair *pair, int to, const uint8_t *data, size_t len)
{
    size_t take = len < pair->left ? len : pair->left;
    if (pair->sides[to] != NULL) {
        io_stream_write(pair->sides[to], data, take);
    }
    if (pair->left == SIZE_MAX || (pair->chopper->max_bytes == 0 && pair->chopper->upto == 0)) {
        return;
    }
    pair->left -= take;
    if (pair->left == 0) {
        pair->chopper->cuts++;
        pair_free(pair);
    }
}

static void near_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    forward(arg, 1, data, len);
}

static void far_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    forward(arg, 0, data, len);
}

static void near_close(void *arg, err_t reason)
{
    struct pair *pair = arg;
    err_free(reason);
    pair->sides[0] = NULL;
    pair_free(pair);
}

static void far_close(void *arg, err_t reason)
{
    struct pair *pair = arg;
    err_free(reason);
    pair->sides[1] = NULL;
    pair_free(pair);
}

static const struct io_stream_handler near_handler = {.data = near_data, .close = near_close};
static const struct io_stream_handler far_handler = {.data = far_data, .close = far_close};

static void connected(void *arg, struct io_stream *stream)
{
    struct pair *pair = arg;
    pair->sides[1] = stream;
    io_stream_resume(pair->sides[0]);
}

static void accepted(void *arg, struct io_stream *stream)
{
    struct chopper *c = arg;
    struct pair *pair = MEM_NEW(struct pair);
    pair->chopper = c;
    pair->sides[0] = stream;
    pair->left = SIZE_MAX;
    if (c->max_bytes > 0) {
        /* Small ones as often as big ones: cuts inside handshakes and inside batches. */
        uint64_t r = io_random_u64(io_loop_env(c->loop));
        pair->left = 1 + (r >> 8) % (c->max_bytes >> (r % 8));
    }
    if (c->next < c->upto) {
        pair->left = ++c->next;
    }
    pair->next = c->pairs;
    if (c->pairs != NULL) {
        c->pairs->prev = pair;
    }
    c->pairs = pair;
    io_stream_set_handler(stream, &near_handler, pair);
    io_stream_pause(stream);
    err_t err = io_connect(c->loop, c->target, &far_handler, pair, connected, &pair->sides[1]);
    if (err != ERR_OK) {
        err_free(err);
        pair->sides[1] = NULL;
        pair_free(pair);
    }
}

err_t chopper_new(struct io_loop *loop, const char *listen, const char *target, size_t max_bytes,
                  struct chopper **out)
{
    struct chopper *c = MEM_NEW(struct chopper);
    c->loop = loop;
    c->target = mem_strdup(target);
    c->max_bytes = max_bytes;
    err_t err = io_listen(loop, listen, accepted, c, &c->listener);
    if (err != ERR_OK) {
        free(c->target);
        free(c);
        return err;
    }
    *out = c;
    return ERR_OK;
}

void chopper_every_byte(struct chopper *chopper, size_t upto)
{
    chopper->upto = upto;
}

const char *chopper_address(const struct chopper *chopper)
{
    return io_listener_address(chopper->listener);
}

uint64_t chopper_cuts(const struct chopper *chopper)
{
    return chopper->cuts;
}

void chopper_cut(struct chopper *chopper)
{
    while (chopper->pairs != NULL) {
        chopper->cuts++;
        pair_free(chopper->pairs);
    }
}

void chopper_calm(struct chopper *chopper)
{
    chopper->max_bytes = 0;
}

void chopper_free(struct chopper *chopper)
{
    if (chopper == NULL) {
        return;
    }
    while (chopper->pairs != NULL) {
        pair_free(chopper->pairs);
    }
    io_listener_close(chopper->listener);
    free(chopper->target);
    free(chopper);
}
