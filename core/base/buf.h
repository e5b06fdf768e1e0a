/* A growable byte buffer. Zero-initialised is empty; one thread at a time; buf_free releases. */
#ifndef TAILRACE_CORE_BASE_BUF_H
#define TAILRACE_CORE_BASE_BUF_H

#include "core/base/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len; /* bytes used */
    size_t cap; /* bytes allocated */
};

/* Room for extra more bytes; data may move. */
void buf_reserve(struct buf *buf, size_t extra);
/* data must not lie in the buffer itself, which may move. */
void buf_append(struct buf *buf, const void *data, size_t len);
/* Adds formatted text; the NUL behind it is not counted in len. */
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_free(struct buf *buf);
/* Drops the first len bytes (len <= buf->len). Moves the rest: not for small steps through much. */
void buf_consume(struct buf *buf, size_t len);
/* The content as a C string: adds a NUL behind the last byte, not counted in len. */
const char *buf_cstr(struct buf *buf);

static inline void buf_append_byte(struct buf *buf, uint8_t byte)
{
    if (buf->len == buf->cap) {
        buf_reserve(buf, 1);
    }
    buf->data[buf->len++] = byte;
}

static inline void buf_append_str(struct buf *buf, const char *s)
{
    buf_append(buf, s, strlen(s));
}

static inline void buf_clear(struct buf *buf)
{
    buf->len = 0;
}

/* Little-endian integers, the byte order of everything we write ourselves. */
STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "memory order is wire order");

static inline void buf_append_u16(struct buf *buf, uint16_t v)
{
    buf_append(buf, &v, sizeof(v));
}

static inline void buf_append_u32(struct buf *buf, uint32_t v)
{
    buf_append(buf, &v, sizeof(v));
}

static inline void buf_append_u64(struct buf *buf, uint64_t v)
{
    buf_append(buf, &v, sizeof(v));
}

/*
 * A cursor over bytes from outside. A read past the end sets failed and yields zeros; check
 * failed once at the end of a decode, before anything decoded is used.
 */
struct reader {
    const uint8_t *data; /* borrowed */
    size_t len;
    size_t at;   /* <= len: the next byte to be read */
    bool failed; /* and stays so */
};

static inline struct reader reader_of(const void *data, size_t len)
{
    return (struct reader){.data = data, .len = len};
}

/* Bytes not read yet, also after a failure, which leaves the cursor where it was. */
static inline size_t reader_left(const struct reader *r)
{
    ASSERT(r->at <= r->len);
    return r->len - r->at;
}

/* len bytes in place, or NULL (and failed) when there are not as many. */
static inline const void *reader_bytes(struct reader *r, size_t len)
{
    if (r->failed || len > r->len - r->at) {
        r->failed = true;
        return NULL;
    }
    const void *p = r->data + r->at;
    r->at += len;
    return p;
}

/* One function an integer type; memcpy, since the bytes lie at any address. */
#define READER_INT(name, type)                                                                     \
    static inline type name(struct reader *r)                                                      \
    {                                                                                              \
        type v = 0;                                                                                \
        const void *p = reader_bytes(r, sizeof(v));                                                \
        if (p != NULL) {                                                                           \
            memcpy(&v, p, sizeof(v));                                                              \
        }                                                                                          \
        return v;                                                                                  \
    }
READER_INT(reader_u8, uint8_t)
READER_INT(reader_u16, uint16_t)
READER_INT(reader_u32, uint32_t)
READER_INT(reader_u64, uint64_t)
#undef READER_INT

#endif
