/*
 * Recovery of a worker's directory from hostile files, in the simulator. The first byte chooses
 * what the rest is: the payload of an append record (with all checksums right), a whole log
 * segment, a manifest (checksum right), a part as base, or a part as delta (checksums of each block
 * right). Opening and reading give data or an error.
 */
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/io/sim.h"
#include "core/storage/manifest.h"
#include "core/storage/part.h"
#include "core/storage/wal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct job {
    struct io_loop *loop;
    struct storage_worker *storage;
};

static void advanced(void *ctx, uint64_t collection, uint64_t upper)
{
}

static const struct storage_host host = {.advanced = advanced};

static err_t read_all(struct storage_worker *storage)
{
    struct storage_cursor *cursor = NULL;
    uint64_t since = 0;
    uint64_t upper = 0;
    TRY(storage_frontiers(storage, 1, &since, &upper));
    err_t err = storage_cursor_open(storage, 1, since, NULL, &cursor);
    for (bool more = true; err == ERR_OK && more;) {
        struct storage_chunk chunk;
        err = storage_cursor_next(cursor, 1000, NULL, &chunk, &more);
    }
    storage_cursor_close(cursor);
    return err;
}

static void start(struct io_loop *loop, void *arg)
{
    struct job *job = arg;
    struct storage_config config = {.loop = loop,
                                    .directory = "/w",
                                    .workers = 1,
                                    .epoch = 1,
                                    .host = &host,
                                    .ctx = job,
                                    .memory_tail_bytes = 1};
    err_t err = storage_open(&config, &job->storage);
    if (err == ERR_OK) {
        err = read_all(job->storage);
    }
    err_free(err);
}

static void destroy(void *arg)
{
    storage_free(((struct job *)arg)->storage);
}

static void put(struct sim *sim, const char *path, const void *data, size_t len)
{
    err_t err = sim_file_write(sim, "h", path, data, len, false);
    ASSERT(err == ERR_OK);
}

static void put_manifest(struct sim *sim, uint64_t base, uint64_t delta, size_t size)
{
    struct type types[2] = {type_of(TYPE_INT8), type_of(TYPE_TEXT)};
    const char *const names[2] = {"a", "b"};
    struct storage_collection desc = {
        .id = 1, .kind = STORAGE_TABLE, .types = types, .names = names, .cols = 2};
    struct buf desc_bytes = {0};
    struct buf bytes = {0};
    struct manifest_part part = {.number = delta, .size = size};
    description_encode(&desc, &desc_bytes);
    struct manifest manifest = {.desc = desc_bytes.data,
                                .desc_len = (uint32_t)desc_bytes.len,
                                .since = 10,
                                .upper = 20,
                                .folded = base != 0 ? 5 : 0,
                                .next_part = 9,
                                .base = {.number = base, .size = size},
                                .deltas = &part,
                                .deltas_len = delta != 0};
    manifest_encode(&manifest, &bytes);
    put(sim, "/w/1/manifest", bytes.data, bytes.len);
    buf_free(&bytes);
    buf_free(&desc_bytes);
}

static void put_record(struct sim *sim, const uint8_t *data, size_t size)
{
    uint8_t page[WAL_ALIGN];
    struct wal_segment_header segment = {.number = 1, .oldest = 1, .first_seq = 1, .salt = 7};
    struct wal_group_header group = {
        .first_seq = 1, .len = WAL_RECORD_HEADER + size, .records = 1};
    struct buf bytes = {0};
    wal_segment_header_encode(&segment, page);
    buf_append(&bytes, page, WAL_ALIGN);
    wal_group_header_encode(&group, 7, page);
    buf_append(&bytes, page, WAL_GROUP_HEADER);
    wal_record_header_encode(7, 1, WAL_APPEND, data, size, page);
    buf_append(&bytes, page, WAL_RECORD_HEADER);
    buf_append(&bytes, data, size);
    put(sim, "/w/log/0000000000000001.wal", bytes.data, bytes.len);
    buf_free(&bytes);
}

/* The input is blocks of {length u16, rows u8, lower u8, upper u8, stream u8, bytes}. */
static void put_part(struct sim *sim, const uint8_t *data, size_t size, bool base)
{
    struct reader r = reader_of(data, size);
    struct buf bytes = {0};
    while (reader_left(&r) > 6 && bytes.len < 1 << 16) {
        uint8_t header[PART_BLOCK_HEADER];
        size_t len = reader_u16(&r);
        struct part_block block = {.part = 1, .offset = bytes.len, .rows = reader_u8(&r)};
        block.lower = reader_u8(&r);
        block.upper = block.lower + reader_u8(&r);
        block.stream = reader_u8(&r) % STREAMS;
        block.len = (uint32_t)(len < reader_left(&r) ? len : reader_left(&r));
        const uint8_t *batch = reader_bytes(&r, block.len);
        block.crc = hash_crc32c(0, batch, block.len);
        part_block_encode(&block, header);
        buf_append(&bytes, header, sizeof(header));
        buf_append(&bytes, batch, block.len);
        while (bytes.len % BATCH_ALIGN != 0) {
            buf_append_byte(&bytes, 0);
        }
    }
    put(sim, "/w/1/0000000000000001.part", bytes.data, bytes.len);
    put_manifest(sim, base, !base, bytes.len);
    buf_free(&bytes);
}

static void put_raw_manifest(struct sim *sim, const uint8_t *data, size_t size)
{
    static const char magic[] = "TLTRMAN1";
    struct buf bytes = {0};
    uint32_t crc = hash_crc32c(0, data, size);
    buf_append(&bytes, magic, 8);
    buf_append_u32(&bytes, crc);
    buf_append(&bytes, data, size);
    put(sim, "/w/1/manifest", bytes.data, bytes.len);
    buf_free(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct sim_config config = sim_config_default(1);
    struct sim *sim = sim_new(&config);
    struct job job = {0};
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "fuzz");
    uint8_t choice = data[0] % 5;
    data++;
    size--;
    if (choice < 2) {
        put_manifest(sim, 0, 0, 0);
    }
    if (choice == 0) {
        put_record(sim, data, size);
    } else if (choice == 1) {
        put(sim, "/w/log/0000000000000001.wal", data, size);
    } else if (choice == 2) {
        put_raw_manifest(sim, data, size);
    } else {
        put_part(sim, data, size, choice == 3);
    }
    sim_process_start(sim, "h", "fuzz", start, destroy, &job);
    sim_run_until(sim, 3000);
    sim_free(sim);
    return 0;
}
