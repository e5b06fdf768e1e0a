/* An io_stream in memory: see memory_stream.h. */
#include "tests/unit/ctrl/adapter/memory_stream.h"

#include "core/base/assert.h"

static struct memory_stream *of(struct io_stream *s)
{
    return (struct memory_stream *)s;
}

static void on_write(struct io_stream *s, const void *data, size_t len)
{
    if (!of(s)->closed) {
        buf_append(&of(s)->out, data, len);
    }
}

static void on_write_ref(struct io_stream *s, const void *data, size_t len, void (*release)(void *),
                         void *arg)
{
    on_write(s, data, len);
    if (release != NULL) {
        release(arg);
    }
}

static size_t on_pending(const struct io_stream *s)
{
    return ((const struct memory_stream *)s)->pending;
}

static void on_pause(struct io_stream *s, bool paused)
{
    of(s)->paused = paused;
}

static void on_close(struct io_stream *s, bool flush)
{
    ASSERT(!of(s)->closed);
    of(s)->closed = true;
    of(s)->finished = flush;
}

static const char *on_peer(const struct io_stream *s)
{
    return ((const struct memory_stream *)s)->peer;
}

static const char *on_peer_name(const struct io_stream *s)
{
    return "";
}

static err_t on_peer_cred(const struct io_stream *s, pid_t *pid, uid_t *uid)
{
    return err_new(ERR_UNSUPPORTED, "no credentials in memory");
}

static const struct io_stream_ops ops = {.write = on_write,
                                         .write_ref = on_write_ref,
                                         .pending = on_pending,
                                         .pause = on_pause,
                                         .close = on_close,
                                         .peer = on_peer,
                                         .peer_name = on_peer_name,
                                         .peer_cred = on_peer_cred};

struct memory_stream *memory_stream_new(struct io_loop *loop)
{
    struct memory_stream *s = MEM_NEW(struct memory_stream);
    s->base.ops = &ops;
    s->base.loop = loop;
    s->peer = "127.0.0.1:1";
    return s;
}

void memory_stream_free(struct memory_stream *s)
{
    buf_free(&s->out);
    free(s);
}

void memory_stream_feed(struct memory_stream *s, const void *data, size_t len)
{
    if (!s->closed) {
        s->base.handler->data(s->base.arg, data, len, NULL, 0);
    }
}

void memory_stream_hang_up(struct memory_stream *s)
{
    if (!s->closed) {
        s->closed = true;
        s->base.handler->close(s->base.arg, ERR_OK);
    }
}

struct call {
    void (*fn)(struct io_loop *loop, void *arg);
    void *arg;
};

static void on_start(struct io_loop *loop, void *arg)
{
    struct call *call = arg;
    call->fn(loop, call->arg);
}

void run_in_sim(void (*fn)(struct io_loop *loop, void *arg), void (*after)(void *arg), void *arg,
                uint64_t run_us)
{
    struct sim_config config = sim_config_default(7);
    struct sim *sim = sim_new(&config);
    struct call call = {fn, arg};
    sim_process_start(sim, "host", "test", on_start, NULL, &call);
    sim_run_until(sim, sim_now_us(sim) + run_us);
    if (after != NULL) {
        after(arg);
    }
    sim_free(sim);
}
