/* Growable byte buffer: see buf.h. */
#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_reserve(struct buf *buf, size_t extra)
{
    ASSERT(extra <= SIZE_MAX / 4 && buf->len <= SIZE_MAX / 4);
    size_t need = buf->len + extra;
    if (need <= buf->cap) {
        return;
    }
    size_t cap = buf->cap == 0 ? 64 : buf->cap;
    while (cap < need) {
        cap *= 2;
    }
    buf->data = mem_realloc(buf->data, cap);
    buf->cap = cap;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    buf_reserve(buf, len);
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    buf_reserve(buf, (size_t)len + 1);
    va_start(args, format);
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_consume(struct buf *buf, size_t len)
{
    ASSERT(len <= buf->len);
    if (len == 0) {
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}

const char *buf_cstr(struct buf *buf)
{
    buf_reserve(buf, 1);
    buf->data[buf->len] = '\0';
    return (const char *)buf->data;
}
