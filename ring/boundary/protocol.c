/* The messages of the storage boundary: see protocol.h. Pure functions; decoding trusts nothing,
 * encoding asserts what its caller promised. Numbers are little-endian (core/base/buf). */
#include "ring/boundary/protocol.h"

#include "core/base/mem.h"

enum { SQLSTATE_LEN = 5, REFUSAL_TEXT_MAX = 4096, REQUEST_RESUME = 1 };

void boundary_request_encode(struct buf *out, const struct boundary_request *r)
{
    buf_append_u64(out, r->dataflow);
    buf_append_u64(out, r->source);
    buf_append_u32(out, r->worker);
    buf_append_u32(out, r->resume ? REQUEST_RESUME : 0);
    buf_append_u64(out, r->as_of);
    buf_append_u64(out, r->resume ? r->resume_from : 0);
}

err_t boundary_request_decode(const uint8_t *data, size_t len, struct boundary_request *out)
{
    struct reader r = reader_of(data, len);
    *out = (struct boundary_request){0};
    out->dataflow = reader_u64(&r);
    out->source = reader_u64(&r);
    out->worker = reader_u32(&r);
    uint32_t flags = reader_u32(&r);
    out->resume = (flags & REQUEST_RESUME) != 0;
    out->as_of = reader_u64(&r);
    out->resume_from = reader_u64(&r);
    bool stray = !out->resume && out->resume_from != 0;
    if (r.failed || reader_left(&r) != 0 || (flags & ~(uint32_t)REQUEST_RESUME) != 0 || stray) {
        return err_new(ERR_PROTOCOL, "malformed subscribe message");
    }
    return ERR_OK;
}

void boundary_chunk_encode(const struct boundary_chunk *chunk, uint8_t *out)
{
    if (chunk->ok_len > 0) {
        memcpy(out, chunk->ok, chunk->ok_len);
    }
    if (chunk->err_len > 0) {
        memset(out + chunk->ok_len, 0, boundary_err_at(chunk->ok_len) - chunk->ok_len);
        memcpy(out + boundary_err_at(chunk->ok_len), chunk->err, chunk->err_len);
    }
}

err_t boundary_chunk_decode(const struct carrier_message *m, struct boundary_chunk *out)
{
    *out = (struct boundary_chunk){.lower = m->a, .upper = m->b,
                                   .stable = (m->flags & CARRIER_STABLE) != 0};
    if (m->a > m->b) {
        return err_new(ERR_PROTOCOL, "chunk with lower %llu beyond upper %llu",
                       (unsigned long long)m->a, (unsigned long long)m->b);
    }
    size_t err_at = boundary_err_at(m->c); /* 64 bits: m->c cannot make it overflow */
    if (m->c > m->len || (m->c < m->len && err_at >= m->len)) {
        return err_new(ERR_PROTOCOL, "chunk of %zu bytes with %u of data", m->len, m->c);
    }
    if (m->c > 0) {
        out->ok = m->data;
        out->ok_len = m->c;
    }
    if (m->c < m->len) {
        out->err = m->data + err_at;
        out->err_len = m->len - err_at;
    }
    return ERR_OK;
}

void boundary_readers_encode(struct buf *out, const uint32_t *ids, size_t len)
{
    ASSERT(len <= BOUNDARY_SUBS_MAX);
    for (size_t i = 0; i < len; i++) {
        ASSERT(i == 0 || ids[i - 1] < ids[i]);
        buf_append_u32(out, ids[i]);
    }
}

/* Strictly ascending: nobody is named twice, and so nobody is given a chunk twice. */
err_t boundary_readers_decode(const struct carrier_message *m, uint32_t **ids, size_t *len)
{
    *ids = NULL;
    *len = m->len / sizeof(uint32_t);
    if (m->len % sizeof(uint32_t) != 0 || *len > BOUNDARY_SUBS_MAX) {
        return err_new(ERR_PROTOCOL, "list of readers of %zu bytes", m->len);
    }
    if (*len == 0) {
        return ERR_OK;
    }
    uint32_t *list = mem_alloc(m->len);
    memcpy(list, m->data, m->len); /* then checked: the original may change */
    for (size_t i = 1; i < *len; i++) {
        if (list[i] <= list[i - 1]) {
            err_t err = err_new(ERR_PROTOCOL, "readers %u and %u out of order", list[i - 1],
                                list[i]);
            free(list);
            return err;
        }
    }
    *ids = list;
    return ERR_OK;
}

void boundary_refusal_encode(struct buf *out, err_t err)
{
    const char *text = err_text(err);
    size_t len = strlen(text);
    ASSERT(strlen(err_sqlstate(err)) == SQLSTATE_LEN);
    buf_append(out, err_sqlstate(err), SQLSTATE_LEN);
    buf_append(out, text, len < REFUSAL_TEXT_MAX ? len : REFUSAL_TEXT_MAX);
}

err_t boundary_refusal_decode(const struct carrier_message *m)
{
    char sqlstate[SQLSTATE_LEN + 1] = {0};
    if (m->len < SQLSTATE_LEN || m->len > SQLSTATE_LEN + REFUSAL_TEXT_MAX) {
        return err_new(ERR_PROTOCOL, "refusal of %zu bytes", m->len);
    }
    memcpy(sqlstate, m->data, SQLSTATE_LEN);
    /* It goes to users as it is: only what a SQLSTATE may have. */
    for (size_t i = 0; i < SQLSTATE_LEN; i++) {
        bool fine = (sqlstate[i] >= '0' && sqlstate[i] <= '9') ||
                    (sqlstate[i] >= 'A' && sqlstate[i] <= 'Z');
        sqlstate[i] = fine ? sqlstate[i] : 'X';
    }
    bool known = m->c >= ERR_INTERNAL && m->c <= ERR_IO;
    enum err_code code = known ? (enum err_code)m->c : ERR_PROTOCOL;
    return err_sql(code, sqlstate, "%.*s", (int)(m->len - SQLSTATE_LEN),
                   (const char *)m->data + SQLSTATE_LEN);
}

struct hello boundary_hello(struct io_loop *loop, const struct boundary_identity *self,
                            enum hello_role role, uint32_t workers)
{
    struct hello hello = {
        .version = HELLO_VERSION,
        .protocol = HELLO_BOUNDARY,
        .role = (uint8_t)role,
        .carriers = HELLO_TCP,
        .service = self->service,
        .process = self->process,
        .generation = self->generation,
        .epoch = self->epoch,
        .workers = workers,
    };
    memcpy(hello.environment, self->environment, sizeof(hello.environment));
    hello_set_host(&hello, io_host_id(io_loop_env(loop)));
    return hello;
}
