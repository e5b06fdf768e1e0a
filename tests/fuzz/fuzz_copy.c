/*
 * COPY's formats: any bytes, in any pieces, give the same records or the same error; and what is
 * read, written again, reads back alike.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/pgwire/copy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Records as written again in the same format. */
struct sink {
    struct copy_options options;
    struct buf out;
};

static err_t take(void *arg, uint64_t line, const struct copy_field *fields, size_t fields_len)
{
    struct sink *sink = arg;
    ASSERT(line > 0);
    if (sink->options.binary) {
        copy_write_binary_count((int16_t)fields_len, &sink->out);
        for (size_t i = 0; i < fields_len; i++) {
            copy_write_binary_field(fields[i].data, fields[i].len, &sink->out);
        }
        return ERR_OK;
    }
    for (size_t i = 0; i < fields_len; i++) {
        copy_write_field(&sink->options, i == 0, fields[i].data, fields[i].len, &sink->out);
    }
    buf_append_byte(&sink->out, '\n');
    return ERR_OK;
}

static bool read_all(const struct copy_options *options, const uint8_t *data, size_t size,
                     size_t piece, struct buf *out)
{
    struct sink sink = {.options = *options};
    if (options->binary) {
        copy_write_binary_header(&sink.out);
    }
    struct copy_reader r;
    err_t err = ERR_OK;
    copy_reader_init(&r, options, 4096, take, &sink);
    for (size_t at = 0; at < size && err == ERR_OK; at += piece) {
        err = copy_reader_feed(&r, data + at, size - at < piece ? size - at : piece);
    }
    if (err == ERR_OK) {
        err = copy_reader_end(&r);
    }
    copy_reader_free(&r);
    *out = sink.out;
    bool ok = err == ERR_OK;
    err_free(err);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct copy_options formats[] = {
        {.delimiter = '\t', .null = "\\N"},
        {.csv = true, .delimiter = ',', .quote = '"', .escape = '"', .null = ""},
        {.csv = true, .delimiter = ';', .quote = '\'', .escape = '\\', .null = "NULL"},
        {.binary = true},
    };
    if (size < 2 || size > 4000) {
        return 0;
    }
    const struct copy_options *options = &formats[data[0] % ARRAY_LEN(formats)];
    size_t piece = data[1] % 16 + 1;
    struct buf whole = {0};
    struct buf pieces = {0};
    struct buf again = {0};
    bool ok = read_all(options, data + 2, size - 2, size, &whole);
    bool same = read_all(options, data + 2, size - 2, piece, &pieces);
    ASSERT(ok == same);
    ASSERT(!ok || (whole.len == pieces.len &&
                   (whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0)));
    if (ok && whole.len > 0 && whole.len < 4000) {
        bool back = read_all(options, whole.data, whole.len, whole.len, &again);
        ASSERT(back && again.len == whole.len && memcmp(again.data, whole.data, whole.len) == 0);
    }
    buf_free(&whole);
    buf_free(&pieces);
    buf_free(&again);
    return 0;
}
