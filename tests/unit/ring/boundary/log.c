/* Synthetic logs: see log.h. */
#include "tests/unit/ring/boundary/log.h"

#include "core/base/buf.h"
#include "core/base/hash.h"

#include <stdio.h>

enum { RECORD_HEAD = 20 };

static uint64_t shape(uint64_t source, uint32_t worker, uint64_t time, uint64_t index)
{
    return hash_combine(hash_combine(source, worker), hash_combine(time, index));
}

static uint64_t records_at(uint64_t source, uint32_t worker, uint64_t time)
{
    return shape(source, worker, time, UINT64_MAX) % 5;
}

static size_t record_len(uint64_t source, uint32_t worker, uint64_t time, uint64_t index,
                         size_t max)
{
    uint64_t h = shape(source, worker, time, index);
    return RECORD_HEAD + (h % 16 == 0 ? (h >> 8) % max : (h >> 8) % 64);
}

struct cursor {
    struct log_worker *worker;
    uint64_t source;
    bool snapshot;
    uint64_t as_of;
    uint64_t lower; /* of the next chunk */
    uint64_t time;
    uint64_t index;
    struct buf ok;
    struct buf err;
};

static err_t log_open(void *ctx, const struct boundary_request *r, void **out)
{
    struct log_worker *w = ctx;
    if (r->source >= w->sources) {
        return err_new(ERR_NOT_FOUND, "no source %llu", (unsigned long long)r->source);
    }
    if (r->as_of < w->since) {
        return err_new(ERR_INVALID, "as_of %llu, since is %llu, upper %llu",
                       (unsigned long long)r->as_of, (unsigned long long)w->since,
                       (unsigned long long)w->upper);
    }
    if (!w->always_ready && shape(r->source, w->index, ++w->random, 7) % 8 == 0) {
        return err_new(ERR_UNAVAILABLE, "not yet");
    }
    struct cursor *c = MEM_NEW(struct cursor);
    c->worker = w;
    c->source = r->source;
    c->snapshot = !r->resume;
    c->as_of = r->as_of;
    c->lower = r->resume ? r->resume_from : r->as_of;
    c->time = r->resume ? r->resume_from : 1;
    w->cursors++;
    *out = c;
    return ERR_OK;
}

static void log_close(void *cursor)
{
    struct cursor *c = cursor;
    ASSERT(c->worker->cursors > 0);
    c->worker->cursors--;
    buf_free(&c->ok);
    buf_free(&c->err);
    free(c);
}

static void emit(struct cursor *c)
{
    size_t len = record_len(c->source, c->worker->index, c->time, c->index, c->worker->record_max);
    struct buf *to = &c->ok;
    if (c->index == 3) {
        to = &c->err;
    }
    buf_append_u32(to, (uint32_t)len);
    buf_append_u64(to, c->time);
    buf_append_u64(to, c->index);
    buf_reserve(to, len - RECORD_HEAD);
    memset(to->data + to->len, (int)(c->time + c->index), len - RECORD_HEAD);
    to->len += len - RECORD_HEAD;
    c->index++;
}

/* Every other chunk as if it had been built where it is sent from. */
static void hand_over(struct cursor *c, struct boundary_room *room, struct boundary_chunk *out)
{
    out->ok_len = c->ok.len;
    out->err_len = c->err.len;
    out->ok = c->ok.len > 0 ? c->ok.data : NULL;
    out->err = c->err.len > 0 ? c->err.data : NULL;
    if (out->ok_len + out->err_len == 0 || shape(c->time, c->index, c->source, 13) % 2 == 0) {
        return;
    }
    uint8_t *err = NULL;
    uint8_t *ok = boundary_room_take(room, out->ok_len, out->err_len, &err);
    if (out->ok_len > 0) {
        out->ok = memcpy(ok, c->ok.data, c->ok.len);
    }
    if (out->err_len > 0) {
        out->err = memcpy(err, c->err.data, c->err.len);
    }
}

static err_t log_next(void *cursor, size_t max_bytes, struct boundary_room *room,
                      struct boundary_chunk *out, bool *more)
{
    struct cursor *c = cursor;
    struct log_worker *w = c->worker;
    *out = (struct boundary_chunk){.lower = c->lower, .upper = c->lower};
    *more = false;
    uint64_t stop = c->snapshot ? c->as_of + 1 : w->upper;
    if (stop > w->upper || c->lower == UINT64_MAX || (!c->snapshot && c->lower >= stop)) {
        if (w->sealed && c->lower < UINT64_MAX && c->time > w->end) {
            out->upper = c->lower = UINT64_MAX;
        }
        return ERR_OK;
    }
    buf_clear(&c->ok);
    buf_clear(&c->err);
    /* One chunk stops at a random time, or amid one when it is full. */
    uint64_t until = c->snapshot ? stop
                                 : c->time + 1 + shape(c->time, w->index, c->source, 9) % 7;
    until = until < stop ? until : stop;
    bool full = false;
    while (c->time < until && !full) {
        if (c->index >= records_at(c->source, w->index, c->time)) {
            c->time++;
            c->index = 0;
            continue;
        }
        emit(c);
        full = c->ok.len + c->err.len >= max_bytes ||
               (!w->whole && shape(c->time, c->index, c->source, 11) % 50 == 0);
    }
    if (c->time >= until) {
        c->snapshot = false;
        out->upper = c->lower = until;
    } else if (!c->snapshot && c->time > c->lower && c->index == 0) {
        out->upper = c->lower = c->time;
    }
    *more = true;
    hand_over(c, room, out);
    return ERR_OK;
}

static bool log_skip(void *cursor, uint64_t lower, uint64_t upper)
{
    struct cursor *c = cursor;
    if (c->snapshot || c->lower != lower || c->time != lower || c->index != 0) {
        return false;
    }
    ASSERT(upper <= c->worker->upper || (c->worker->sealed && upper == UINT64_MAX));
    c->lower = c->time = upper;
    return true;
}

const struct boundary_backend log_backend = {
    .open = log_open,
    .next = log_next,
    .close = log_close,
    .skip = log_skip,
};

static void log_tick(struct io_timer *timer)
{
    struct log_worker *w = CONTAINER_OF(timer, struct log_worker, timer);
    w->random = hash_u64(w->random + w->index + 1);
    w->upper += 1 + w->random % 20;
    if (w->upper > w->end) {
        w->upper = w->end + 1;
        w->sealed = true;
    } else {
        io_timer_start(w->loop, &w->timer, io_now_us(w->loop) + w->tick_us);
    }
    for (uint32_t i = 0; i < w->sources; i++) {
        boundary_server_wake(w->server, w->index, i, w->upper);
    }
}

void log_worker_start(struct log_worker *w, struct io_loop *loop)
{
    w->loop = loop;
    w->timer.fire = log_tick;
    boundary_server_worker(w->server, w->index, loop, w);
    if (w->tick_us == 0) {
        w->upper = w->end + 1;
        w->sealed = true;
        return;
    }
    io_timer_start(loop, &w->timer, io_now_us(loop) + w->tick_us);
}

void log_worker_stop(struct log_worker *w)
{
    io_timer_cancel(w->loop, &w->timer);
    w->timer = (struct io_timer){0};
}

/* ---- reader ---------------------------------------------------------------------------------- */

static void reader_skip(struct log_reader *r)
{
    while (r->at_time <= r->end && r->at_index >= records_at(r->source, r->worker, r->at_time)) {
        r->at_time++;
        r->at_index = 0;
    }
}

static void wrong(struct log_reader *r, const char *what, uint64_t a, uint64_t b)
{
    if (r->wrong[0] == '\0') {
        snprintf(r->wrong, sizeof(r->wrong), "%s %llu/%llu, at %llu/%llu upper %llu", what,
                 (unsigned long long)a, (unsigned long long)b, (unsigned long long)r->at_time,
                 (unsigned long long)r->at_index, (unsigned long long)r->upper);
        fprintf(stderr, "source %llu worker %u: %s\n", (unsigned long long)r->source, r->worker,
                r->wrong);
    }
}

struct piece {
    struct reader bytes;
    uint64_t time;
    uint64_t index;
    size_t len;
};

/* Looks at the next record of a batch; time is UINT64_MAX at the end. */
static void peek(struct log_reader *r, struct piece *p)
{
    if (reader_left(&p->bytes) == 0) {
        p->time = UINT64_MAX;
        return;
    }
    p->len = reader_u32(&p->bytes);
    p->time = reader_u64(&p->bytes);
    p->index = reader_u64(&p->bytes);
    const uint8_t *fill = reader_bytes(&p->bytes, p->len - RECORD_HEAD);
    size_t want = record_len(r->source, r->worker, p->time, p->index, r->record_max);
    if (fill == NULL || p->len != want) {
        wrong(r, "length of record", p->time, p->index);
        p->time = UINT64_MAX;
        return;
    }
    for (size_t i = 0; i < p->len - RECORD_HEAD; i++) {
        if (fill[i] != (uint8_t)(p->time + p->index)) {
            wrong(r, "bytes of record", p->time, p->index);
            break;
        }
    }
}

static void reader_data(void *arg, const struct boundary_chunk *chunk)
{
    struct log_reader *r = arg;
    if (chunk->lower != r->upper) {
        wrong(r, "chunk does not abut", chunk->lower, chunk->upper);
    }
    if (((uintptr_t)chunk->ok | (uintptr_t)chunk->err) % 32 != 0) {
        wrong(r, "not aligned", 0, 0);
    }
    struct piece pieces[2] = {{.bytes = reader_of(chunk->ok, chunk->ok_len)},
                              {.bytes = reader_of(chunk->err, chunk->err_len)}};
    peek(r, &pieces[0]);
    peek(r, &pieces[1]);
    for (;;) {
        bool second = pieces[1].time < pieces[0].time ||
                      (pieces[1].time == pieces[0].time && pieces[1].index < pieces[0].index);
        struct piece *p = &pieces[second ? 1 : 0];
        if (p->time == UINT64_MAX) {
            break;
        }
        if (second != (p->index == 3)) {
            wrong(r, "wrong half", p->time, p->index);
        }
        if (p->time != r->at_time || p->index != r->at_index) {
            wrong(r, "record out of order", p->time, p->index);
        }
        r->at_index++;
        r->records++;
        reader_skip(r);
        peek(r, p);
    }
    r->bytes += chunk->ok_len + chunk->err_len;
    if (chunk->upper > chunk->lower) {
        r->upper = chunk->upper;
        r->kept_time = r->at_time;
        r->kept_index = r->at_index;
        if (r->at_time < chunk->upper && r->at_time <= r->end) {
            wrong(r, "records missing below", chunk->upper, 0);
        }
    }
    if (chunk->upper == UINT64_MAX) {
        r->done = true;
        r->on_done(r);
    }
}

static void reader_reset(void *arg)
{
    struct log_reader *r = arg;
    r->at_time = r->kept_time;
    r->at_index = r->kept_index;
    r->resets++;
}

static void reader_refused(void *arg, err_t err)
{
    struct log_reader *r = arg;
    r->refused_code = err_code(err);
    snprintf(r->refused, sizeof(r->refused), "%s", err_text(err));
    err_free(err);
    r->on_done(r);
}

const struct boundary_handler log_handler = {
    .data = reader_data,
    .reset = reader_reset,
    .refused = reader_refused,
};

void log_reader_init(struct log_reader *r, uint64_t source, uint32_t worker, uint64_t end,
                     size_t record_max)
{
    *r = (struct log_reader){.source = source, .worker = worker, .end = end, .at_time = 1,
                             .kept_time = 1, .record_max = record_max};
    reader_skip(r);
    r->kept_time = r->at_time;
    r->kept_index = r->at_index;
}

struct boundary_request log_request(struct log_reader *r, uint64_t as_of)
{
    r->upper = as_of;
    return (struct boundary_request){.dataflow = 1, .source = r->source, .worker = r->worker,
                                     .as_of = as_of};
}
