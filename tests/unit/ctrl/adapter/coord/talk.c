/* Conversations with a session: see talk.h. */
#include "tests/unit/ctrl/adapter/coord/talk.h"

#include "core/base/assert.h"

#include <stdio.h>

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void summarise_row(const uint8_t *p, struct buf *out)
{
    uint32_t n = (uint32_t)p[0] << 8 | p[1];
    p += 2;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = u32_at(p);
        p += 4;
        buf_append_str(out, i > 0 ? "|" : "");
        if (len == UINT32_MAX) {
            buf_append_str(out, "~");
            continue;
        }
        bool time = len == 16 && strspn((const char *)p, "0123456789") >= 16;
        buf_append(out, time ? (const void *)"T" : p, time ? 1 : len);
        p += len;
    }
    buf_append_str(out, ";");
}

/* All fields of an error, a line each. */
static void check_error(const struct line *line, const uint8_t *p, uint32_t len)
{
    struct buf all = {0};
    if (line == NULL || line->error == NULL) {
        return;
    }
    for (uint32_t i = 0; i + 4 < len; i++) {
        buf_append_byte(&all, p[i] == 0 ? '\n' : p[i]);
    }
    bool found = strstr(buf_cstr(&all), line->error) != NULL;
    CU_ASSERT_TRUE(found);
    if (!found) {
        printf("[%s]: [%s] has no [%s]\n", line->query, buf_cstr(&all), line->error);
    }
    buf_free(&all);
}

/* True when the answer to the last request is complete; it is appended to out in short. */
static bool take_answer(struct talk *t, struct client *c, const struct line *line, struct buf *out)
{
    const struct buf *in = &c->stream->out;
    size_t at = c->read;
    bool copies = false;
    while (at + 5 <= in->len) {
        const uint8_t *p = in->data + at;
        uint32_t len = u32_at(p + 1);
        at += 1 + len;
        if (p[0] == 'D') {
            summarise_row(p + 5, out);
        } else if (p[0] == 'H') {
            copies = true;
            buf_clear(&t->copied);
        } else if (p[0] == 'd') {
            buf_append(&t->copied, p + 5, len - 4);
        } else if (p[0] == 'C') {
            buf_printf(out, "%s;", (const char *)p + 5);
        } else if (p[0] == 'E') {
            const char *code = memmem(p + 5, len - 4, "\0C", 2);
            buf_printf(out, "!%.5s;", code + 2);
            check_error(line, p + 5, len);
        } else if (p[0] == 'K') {
            memcpy(c->key, p + 5, sizeof(c->key));
        } else if (p[0] == 'Z') {
            if (copies && t->copied.len > 0 && memchr(t->copied.data, 0, t->copied.len) == NULL) {
                buf_printf(out, "<%s", buf_cstr(&t->copied));
            }
            c->read = at;
            return true;
        }
    }
    buf_clear(out);
    return false;
}

static void send_message(struct memory_stream *stream, char type, const char *body, size_t len)
{
    struct buf b = {0};
    if (type != 0) {
        buf_append_byte(&b, (uint8_t)type);
    }
    uint8_t n[4] = {(uint8_t)((len + 4) >> 24), (uint8_t)((len + 4) >> 16),
                    (uint8_t)((len + 4) >> 8), (uint8_t)(len + 4)};
    buf_append(&b, n, 4);
    buf_append(&b, body, len);
    memory_stream_feed(stream, b.data, b.len);
    buf_free(&b);
}

/* By the extended protocol: a first row, then the others from the suspended portal. */
static void send_in_two(struct memory_stream *stream, const char *query)
{
    struct buf parse = {0};
    buf_append_byte(&parse, 0);
    buf_append(&parse, query, strlen(query) + 1);
    buf_append(&parse, "\0", 2);
    send_message(stream, 'P', (const char *)parse.data, parse.len);
    send_message(stream, 'B', "\0\0\0\0\0\0\0", 8);
    send_message(stream, 'E', "\0\0\0\0\1", 5);
    send_message(stream, 'E', "\0\0\0\0", 5);
    send_message(stream, 'S', "", 0);
    buf_free(&parse);
}

/* "COPY ..." in a query's text is followed by its data behind a bar; "@" is what was copied out. */
static void ask(struct talk *t, struct client *client, const char *query)
{
    struct memory_stream *stream = client->stream;
    if (strncmp(query, "1+", 2) == 0) {
        send_in_two(stream, query + 2);
        return;
    }
    const char *data = strncmp(query, "COPY", 4) == 0 ? strchr(query, '|') : NULL;
    char *text = data != NULL ? mem_strndup(query, (size_t)(data - query)) : mem_strdup(query);
    send_message(stream, 'Q', text, strlen(text) + 1);
    free(text);
    if (data != NULL) {
        if (strcmp(data, "|@") == 0) {
            send_message(stream, 'd', (const char *)t->copied.data, t->copied.len);
        } else {
            send_message(stream, 'd', data + 1, strlen(data + 1));
        }
        send_message(stream, 'c', "", 0);
    }
}

static void connect(struct talk *t, struct client *c)
{
    static const char startup[] = "\0\3\0\0user\0tailrace\0database\0tailrace\0";
    struct buf greeting = {0};
    c->stream = memory_stream_new(t->loop);
    pgwire_server_accept(t->server, &c->stream->base);
    send_message(c->stream, 0, startup, sizeof(startup));
    bool open = take_answer(t, c, NULL, &greeting);
    CU_ASSERT_TRUE(open && greeting.len == 0);
    buf_free(&greeting);
}

void talk_other(struct talk *t, const char *query)
{
    if (t->other.stream == NULL) {
        connect(t, &t->other);
    }
    ask(t, &t->other, query);
}

void talk_cancel(struct talk *t)
{
    char body[12] = {4, (char)0xd2, 0x16, 0x2e};
    memcpy(body + 4, t->main.key, 8);
    CU_ASSERT_PTR_NULL_FATAL(t->canceller);
    t->canceller = memory_stream_new(t->loop);
    pgwire_server_accept(t->server, &t->canceller->base);
    send_message(t->canceller, 0, body, sizeof(body));
}

static void hear(struct talk *t)
{
    const struct line *line = &t->lines[t->at];
    struct buf answer = {0};
    if (take_answer(t, &t->main, line, &answer)) {
        CU_ASSERT_STRING_EQUAL(buf_cstr(&answer), line->answer);
        if (strcmp(buf_cstr(&answer), line->answer) != 0) {
            printf("[%s]: [%s], want [%s]\n", line->query, buf_cstr(&answer), line->answer);
        }
        if (line->after != NULL) {
            line->after(t);
        }
        t->asked = false;
        t->at++;
    }
    buf_free(&answer);
}

static void on_tick(struct io_timer *timer)
{
    struct talk *t = CONTAINER_OF(timer, struct talk, timer);
    uint64_t now = io_now_us(t->loop);
    if (t->asked) {
        hear(t);
    }
    if (!t->asked && t->at < t->lines_len) {
        t->asked = true;
        t->acted = false;
        t->asked_us = now;
        ask(t, &t->main, t->lines[t->at].query);
    }
    const struct line *line = t->at < t->lines_len ? &t->lines[t->at] : NULL;
    if (t->asked && !t->acted && line->then != NULL && now >= t->asked_us + line->then_us) {
        t->acted = true;
        line->then(t);
    }
    io_timer_start(t->loop, timer, now + 500);
}

static void begin(struct io_loop *loop, void *arg)
{
    static const struct coord_size sizes[] = {{"1", 1, 1}, {"2-2", 2, 2}};
    struct talk *t = arg;
    t->loop = loop;
    const struct catalog_config catalog = {.loop = loop, .directory = "data/catalog"};
    err_t err = catalog_open(&catalog, &t->catalog);
    CU_ASSERT_PTR_NULL_FATAL(err);
    err = oracle_open(loop, "data/catalog/oracle", catalog_epoch(t->catalog), &t->oracle);
    CU_ASSERT_PTR_NULL_FATAL(err);
    const struct coord_config config = {.loop = loop,
                                        .catalog = t->catalog,
                                        .oracle = t->oracle,
                                        .sizes = sizes,
                                        .sizes_len = ARRAY_LEN(sizes),
                                        .max_copy_bytes = t->max_copy_bytes,
                                        .password = t->password};
    err = coord_new(&config, &t->coord);
    CU_ASSERT_PTR_NULL_FATAL(err);
    t->controller = local_controller_new(loop);
    coord_start(t->coord, t->controller);
    const struct pgwire_config wire = {
        .loop = loop, .backend = &coord_pgwire_backend, .ctx = t->coord};
    err = pgwire_server_new(&wire, &t->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    connect(t, &t->main);
    if (t->before != NULL) {
        t->before(t);
    }
    t->timer.fire = on_tick;
    io_timer_start(loop, &t->timer, io_now_us(loop));
}

static void end(void *arg)
{
    struct talk *t = arg;
    CU_ASSERT_EQUAL(t->at, t->lines_len); /* nothing hangs */
    t->advances = local_controller_advances(t->controller);
    io_timer_cancel(t->loop, &t->timer);
    pgwire_server_free(t->server);
    coord_free(t->coord);
    controller_free(t->controller);
    oracle_free(t->oracle);
    catalog_close(t->catalog);
    if (t->fatal != NULL) {
        CU_ASSERT_PTR_NOT_NULL(memmem(t->main.stream->out.data, t->main.stream->out.len, t->fatal,
                                      strlen(t->fatal)));
        CU_ASSERT_TRUE(t->main.stream->closed);
    }
    memory_stream_free(t->main.stream);
    if (t->other.stream != NULL) {
        memory_stream_free(t->other.stream);
    }
    if (t->canceller != NULL) {
        memory_stream_free(t->canceller);
    }
    buf_free(&t->copied);
}

void talk_run(struct talk *t)
{
    run_in_sim(begin, end, t, t->run_us != 0 ? t->run_us : 20 * 1000 * 1000);
}

void talk_converse(const struct line *lines, size_t lines_len, void (*before)(struct talk *t))
{
    struct talk t = {.lines = lines, .lines_len = lines_len, .before = before};
    talk_run(&t);
}
