/*
 * CSV: any bytes, cut at any place, give the same rows and errors as in one piece, and every byte
 * is accounted for. The first byte says where to cut.
 */
#include "core/storage/rows.h"

#include <stdlib.h>

static void take(struct rows_parser *parser, const uint8_t *data, size_t len, size_t cut,
                 size_t *total, uint64_t *lines)
{
    *total = 0;
    *lines = 0;
    for (int part = 0; part < 2; part++) {
        struct rows_place place = {.path = "f", .first = *total == 0, .lines = *lines};
        size_t consumed = 0;
        uint64_t more = 0;
        size_t end = part == 0 ? cut : len;
        err_t err = rows_parse(parser, &place, data + *total, end - *total, part == 1, &consumed,
                               &more);
        ASSERT(consumed <= end - *total);
        *total += consumed;
        *lines += more;
        bool stop = err != ERR_OK;
        err_free(err);
        if (stop) {
            return;
        }
    }
    ASSERT(*total == len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct type types[3] = {type_of(TYPE_INT4), type_of(TYPE_TEXT), type_of(TYPE_FLOAT8)};
    const char *const names[3] = {"a", "b", "c"};
    struct storage_collection desc = {.id = 1,
                                      .kind = STORAGE_FILE,
                                      .types = types,
                                      .names = names,
                                      .cols = 3,
                                      .path = "f",
                                      .format = STORAGE_CSV,
                                      .csv_header = (data[0] & 128) != 0,
                                      .csv_delimiter = ',',
                                      .csv_quote = '"'};
    size_t len = size - 1;
    size_t total[2];
    uint64_t lines[2];
    uint32_t rows[2][STREAMS];
    for (int i = 0; i < 2; i++) {
        struct rows_parser parser;
        rows_init(&parser, &desc);
        take(&parser, data + 1, len, i == 0 ? 0 : len == 0 ? 0 : data[0] % len, &total[i],
             &lines[i]);
        for (int s = 0; s < STREAMS; s++) {
            rows[i][s] = batch_builder_rows(parser.builder[s]);
        }
        (void)rows_built(&parser);
        rows_free(&parser);
    }
    ASSERT(total[0] == total[1] && lines[0] == lines[1]);
    ASSERT(rows[0][STREAM_OK] == rows[1][STREAM_OK] && rows[0][STREAM_ERR] == rows[1][STREAM_ERR]);
    return 0;
}
