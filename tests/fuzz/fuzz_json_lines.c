/* JSON lines: any bytes give rows or error rows, and every byte is accounted for. */
#include "core/storage/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const struct storage_collection *desc, const uint8_t *data, size_t size)
{
    struct rows_parser parser;
    struct rows_place place = {.path = "f", .first = true};
    size_t consumed = 0;
    uint64_t lines = 0;
    rows_init(&parser, desc);
    err_t err = rows_parse(&parser, &place, data, size, true, &consumed, &lines);
    ASSERT(consumed <= size && (err != ERR_OK || consumed == size));
    ASSERT(batch_builder_rows(parser.builder[STREAM_OK]) +
               batch_builder_rows(parser.builder[STREAM_ERR]) <=
           lines);
    err_free(err);
    rows_free(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct type types[4] = {type_of(TYPE_NUMERIC), type_of(TYPE_TEXT), type_of(TYPE_JSONB),
                            type_of(TYPE_BOOL)};
    const char *const names[4] = {"a", "b", "j", "t"};
    struct storage_collection desc = {.id = 1,
                                      .kind = STORAGE_FILE,
                                      .types = types,
                                      .names = names,
                                      .cols = 4,
                                      .path = "f",
                                      .format = STORAGE_JSON_LINES};
    parse(&desc, data, size);
    const char *const whole[1] = {"data"};
    desc.names = whole;
    desc.types = &types[2];
    desc.cols = 1;
    parse(&desc, data, size);
    return 0;
}
