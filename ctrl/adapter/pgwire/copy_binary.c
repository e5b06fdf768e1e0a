/*
 * COPY's binary format (PostgreSQL's manual, COPY, "Binary Format"), version 1:
 *
 *     signature "PGCOPY\n\377\r\n\0"   flags u32   length of an extension u32, which is skipped
 *     record:  number of fields i16, then per field its length i32 (-1: NULL) and its bytes
 *     end:     -1 i16
 *
 * Integers are big-endian; a field's bytes are the type's binary form, as in Bind and DataRow.
 *
 * Reading is record by record: a record is looked at only when so many bytes are there as were
 * missing at the last look (r->scanned), so one that comes in many pieces is not walked for each of
 * them. Fields point into r->pending. What the bytes of a field mean is the callback's business.
 */
#include "ctrl/adapter/pgwire/copy_internal.h"

#include "core/base/assert.h"

static const uint8_t signature[] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

enum {
    BINARY_SIGNATURE = 11,
    BINARY_HEADER = BINARY_SIGNATURE + 4 + 4,
    BINARY_CRITICAL = 0xffff << 16, /* flags a reader must know; there are none left */
    BINARY_END = -1,                /* in place of a number of fields */
};
STATIC_ASSERT(sizeof(signature) == BINARY_SIGNATURE, "the signature's length");

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int16_t i16_at(const uint8_t *p)
{
    return (int16_t)(p[0] << 8 | p[1]);
}

static err_t bad(const char *what)
{
    return err_sql(ERR_INVALID, "22P04", "%s", what);
}

/* The header at the beginning; *used 0 when more bytes are needed (r->scanned says how many). */
static err_t take_header(struct copy_reader *r, size_t *used)
{
    const uint8_t *p = r->pending.data;
    size_t len = r->pending.len;
    ASSERT(!r->header_seen);
    *used = 0;
    size_t known = len < sizeof(signature) ? len : sizeof(signature);
    if (memcmp(p, signature, known) != 0) {
        return bad("COPY file signature not recognized"); /* at once: it may be a text file */
    }
    if (len < BINARY_HEADER) {
        r->scanned = BINARY_HEADER;
        return ERR_OK;
    }
    if ((u32_at(p + BINARY_SIGNATURE) & BINARY_CRITICAL) != 0) {
        return bad("unrecognized critical flags in COPY file header");
    }
    uint32_t extension = u32_at(p + BINARY_SIGNATURE + 4);
    if (extension > r->record_max) {
        return bad("invalid COPY file header (wrong length)");
    }
    if (len < BINARY_HEADER + (size_t)extension) {
        r->scanned = BINARY_HEADER + (size_t)extension;
        return ERR_OK;
    }
    r->header_seen = true;
    *used = BINARY_HEADER + (size_t)extension;
    return ERR_OK;
}

/* One record at p of len bytes; *used 0 when it is not complete: *want is how many it needs. */
static err_t take_record(struct copy_reader *r, const uint8_t *p, size_t len, size_t *used,
                         size_t *want)
{
    *used = 0;
    *want = 2;
    if (len < 2) {
        return ERR_OK;
    }
    int16_t n = i16_at(p);
    size_t at = 2;
    if (n == BINARY_END) {
        r->ended = true;
        *used = at;
        return ERR_OK;
    }
    if (n < 0) {
        return err_sql(ERR_INVALID, "22P04", "invalid number of fields: %d", n);
    }
    r->fields_len = 0;
    for (int16_t i = 0; i < n; i++) {
        *want = at + 4;
        if (len < *want) {
            return ERR_OK;
        }
        int32_t size = (int32_t)u32_at(p + at);
        at += 4;
        if (size < -1 || (size >= 0 && (size_t)size > r->record_max)) {
            return bad("invalid field size");
        }
        *want = at + (size > 0 ? (size_t)size : 0);
        if (len < *want) {
            return ERR_OK;
        }
        *VEC_PUSH(r, fields) = (struct copy_field){
            .data = size < 0 ? NULL : (const char *)p + at, .len = size < 0 ? 0 : (size_t)size};
        at = *want;
    }
    ASSERT(at <= len && r->fields_len == (size_t)n);
    *used = at;
    return r->record(r->arg, r->line, r->fields, r->fields_len);
}

err_t copy_binary_take(struct copy_reader *r)
{
    size_t at = 0;
    size_t used = 1;
    ASSERT(r->options.binary);
    if (r->pending.len < r->scanned) {
        return ERR_OK; /* what was missing has not all come */
    }
    r->scanned = 0;
    if (!r->header_seen) {
        TRY(take_header(r, &used));
        at = used;
    }
    while (used > 0 && !r->ended) {
        size_t want = 0;
        TRY(take_record(r, r->pending.data + at, r->pending.len - at, &used, &want));
        at += used;
        r->line += used > 0 && !r->ended;
        r->scanned = used > 0 ? 0 : want;
    }
    buf_consume(&r->pending, at);
    if (r->ended && r->pending.len > 0) {
        return bad("received copy data after EOF marker");
    }
    if (r->scanned > r->record_max) {
        return err_sql(ERR_LIMIT, "54000", "a COPY record is longer than %zu bytes", r->record_max);
    }
    return ERR_OK;
}

err_t copy_binary_end(struct copy_reader *r)
{
    ASSERT(r->options.binary);
    if (!r->header_seen) {
        return bad("COPY file signature not recognized");
    }
    /* The end marker may be missing, as in PostgreSQL, but not part of a record. */
    return r->pending.len > 0 ? bad("unexpected EOF in COPY data") : ERR_OK;
}

static void append_u32(struct buf *out, uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_append(out, b, sizeof(b));
}

void copy_write_binary_header(struct buf *out)
{
    buf_append(out, signature, sizeof(signature));
    append_u32(out, 0); /* flags */
    append_u32(out, 0); /* no extension */
}

void copy_write_binary_count(int16_t fields, struct buf *out)
{
    ASSERT(fields >= BINARY_END);
    const uint8_t b[2] = {(uint8_t)((uint16_t)fields >> 8), (uint8_t)fields};
    buf_append(out, b, sizeof(b));
}

void copy_write_binary_field(const void *data, size_t len, struct buf *out)
{
    ASSERT(len <= INT32_MAX);
    append_u32(out, data == NULL ? UINT32_MAX : (uint32_t)len);
    if (data != NULL) {
        buf_append(out, data, len);
    }
}

void copy_write_binary_end(struct buf *out)
{
    copy_write_binary_count(BINARY_END, out);
}
