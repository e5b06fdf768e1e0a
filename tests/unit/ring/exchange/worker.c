/* Workers that talk to each other: see worker.h. */
#include "tests/unit/ring/exchange/worker.h"

#include "core/base/hash.h"
#include "core/base/mem.h"

#include <stdio.h>

enum { SENDS_A_POLL = 8 };

static size_t len_of(const struct talker *t, uint32_t from, uint32_t to, uint64_t number)
{
    uint64_t h = hash_combine(hash_combine(from, to), number);
    size_t max = h % 64 == 0 ? t->len_max : 300;
    return 24 + (h >> 8) % max;
}

static void fill(uint8_t *data, size_t len, uint64_t generation, uint32_t from, uint64_t number)
{
    memcpy(data, &generation, 8);
    memcpy(data + 8, &number, 8);
    uint64_t from64 = from;
    memcpy(data + 16, &from64, 8);
    memset(data + 24, (int)(number + from), len - 24);
}

static bool send_some(struct talker *t)
{
    bool any = false;
    for (int i = 0; i < SENDS_A_POLL && t->formed; i++) {
        uint32_t to = UINT32_MAX;
        for (uint32_t k = 0; k < t->total; k++) {
            bool behind = to == UINT32_MAX || t->sent[k] < t->sent[to];
            if (k != t->self && t->sent[k] < t->messages && behind) {
                to = k;
            }
        }
        if (to == UINT32_MAX || !exchange_ready(t->x, t->index)) {
            return any;
        }
        size_t len = len_of(t, t->self, to, t->sent[to]);
        if (t->sent[to] % 2 == 0) { /* one of both ways */
            uint8_t *data = mem_alloc(len);
            fill(data, len, t->generation, t->self, t->sent[to]);
            exchange_send(t->x, t->index, to, data, len);
            free(data);
        } else {
            struct exchange_block block;
            exchange_reserve(t->x, t->index, to, len + t->sent[to] % 3, &block);
            fill(block.data, len, t->generation, t->self, t->sent[to]);
            exchange_commit(t->x, t->index, to, &block, len);
        }
        t->sent[to]++;
        any = true;
    }
    return any;
}

static bool talk_poll(struct io_poller *poller)
{
    struct talker *t = CONTAINER_OF(poller, struct talker, poller);
    return send_some(t); /* when it is not ready, writable brings it back */
}

static void talk_timer(struct io_timer *timer)
{
    struct talker *t = CONTAINER_OF(timer, struct talker, timer);
    send_some(t);
    io_timer_start(t->loop, timer, io_now_us(t->loop) + t->pause_us);
}

static void wrong(struct talker *t, const char *what, uint32_t from, uint64_t number)
{
    if (t->wrong[0] == '\0') {
        snprintf(t->wrong, sizeof(t->wrong), "worker %u: %s: from %u number %llu, expected %llu",
                 t->self, what, from, (unsigned long long)number,
                 (unsigned long long)t->got[from % TALK_WORKERS_MAX]);
        fprintf(stderr, "%s\n", t->wrong);
    }
}

bool talker_complete(const struct talker *t)
{
    for (uint32_t k = 0; k < t->total; k++) {
        if (k != t->self && t->got[k] < t->messages) {
            return false;
        }
    }
    return t->formed;
}

static void check_done(struct talker *t)
{
    if (!t->done && talker_complete(t)) {
        t->done = true;
        t->on_done(t);
    }
}

static void talk_formed(void *ctx, uint64_t generation)
{
    struct talker *t = ctx;
    if (t->formed || generation <= t->generation) {
        wrong(t, "formed out of order", t->self, generation);
    }
    t->formed = true;
    t->formed_times++;
    t->generation = generation;
    memset(t->sent, 0, sizeof(t->sent));
    memset(t->got, 0, sizeof(t->got));
    check_done(t);
}

static void talk_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct talker *t = ctx;
    uint64_t head[3];
    if (from >= t->total || from == t->self || len < sizeof(head) || !t->formed) {
        wrong(t, "message out of place", from, len);
        return;
    }
    memcpy(head, data, sizeof(head));
    if (head[0] != t->generation || head[1] != t->got[from] || head[2] != from) {
        wrong(t, "wrong message", from, head[1]);
    }
    if (len != len_of(t, from, t->self, head[1]) ||
        (len > 24 && (data[24] != (uint8_t)(head[1] + from) || data[len - 1] != data[24]))) {
        wrong(t, "wrong bytes", from, head[1]);
    }
    t->got[from]++;
    t->bytes += len;
    check_done(t);
}

static void talk_lost(void *ctx, const char *reason)
{
    struct talker *t = ctx;
    if (!t->formed) {
        wrong(t, "lost without formed", t->self, 0);
    }
    t->formed = false;
    t->done = false;
    t->lost_times++;
}

static void talk_writable(void *ctx)
{
    struct talker *t = ctx;
    t->writable_times++;
}

const struct exchange_handler talk_handler = {
    .writable = talk_writable,
    .formed = talk_formed,
    .message = talk_message,
    .lost = talk_lost,
};

void talker_start(struct talker *t, struct io_loop *loop)
{
    t->loop = loop;
    if (t->asleep) {
        io_loop_set_spin(loop, 0);
    }
    exchange_worker(t->x, t->index, loop, t);
    if (t->pause_us == 0) {
        t->poller.poll = talk_poll;
        io_poller_add(loop, &t->poller);
    } else {
        t->timer.fire = talk_timer;
        io_timer_start(loop, &t->timer, io_now_us(loop) + t->pause_us);
    }
}

void talker_stop(struct talker *t)
{
    if (t->loop == NULL) {
        return;
    }
    if (t->pause_us == 0) {
        io_poller_remove(t->loop, &t->poller);
    }
    io_timer_cancel(t->loop, &t->timer);
}
