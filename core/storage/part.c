/*
 * Shared files and blocks: see part.h. A block's header is checked on its own before its length is
 * believed, then the bytes by their checksum, then (by batch_open, at the reader) what the bytes
 * mean. All reads here are synchronous: they are of what lies behind the memory tail, one block of
 * at most a few hundred KiB at a time.
 */
#include "core/storage/part.h"

#include "core/base/hash.h"
#include "core/base/log.h"

struct storage_file *storage_file_new(struct io_loop *loop, const char *path, struct io_file *io,
                                      uint64_t number, uint64_t size)
{
    ASSERT(io != NULL);
    struct storage_file *file = MEM_NEW(struct storage_file);
    file->loop = loop;
    file->io = io;
    file->path = mem_strdup(path);
    file->number = number;
    file->size = size;
    file->refs = 1;
    return file;
}

struct storage_file *storage_file_ref(struct storage_file *file)
{
    ASSERT(file->refs > 0);
    file->refs++;
    return file;
}

/* After this the file cannot be read: for the log's end, while entries still hold references. */
void storage_file_shut(struct storage_file *file)
{
    ASSERT(file->refs > 0);
    if (file->io != NULL) {
        io_file_close(file->io);
        file->io = NULL;
    }
}

void storage_file_unref(struct storage_file *file)
{
    if (file == NULL) {
        return;
    }
    ASSERT(file->refs > 0);
    if (file->refs == 1) {
        storage_file_shut(file);
    }
    if (--file->refs > 0) {
        return;
    }
    if (file->obsolete) {
        /* A file that stays behind costs space only: recovery deletes what nothing refers to. */
        err_t err = io_unlink_sync(file->loop, file->path);
        if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND && err_code(err) != ERR_CANCELLED) {
            LOG_WARN("storage", "obsolete file not deleted", LOG_STR("path", file->path),
                     LOG_ERR(err));
        }
        err_free(err);
    }
    free(file->path);
    free(file);
}

static const uint32_t PART_MAGIC = 0x4B4C4254; /* "TBLK" */

/*
 * magic, header crc, stream, len, rows, crc, part, offset, lower, upper: 56 of 64 bytes. Fixed
 * places, little endian; the checksum of the header comes last.
 */
void part_block_encode(const struct part_block *block, uint8_t out[PART_BLOCK_HEADER])
{
    ASSERT(block->stream < STREAMS && block->offset % BATCH_ALIGN == 0);
    uint32_t stream = block->stream;
    memset(out, 0, PART_BLOCK_HEADER);
    memcpy(out, &PART_MAGIC, 4);
    memcpy(out + 8, &stream, 4);
    memcpy(out + 12, &block->len, 4);
    memcpy(out + 16, &block->rows, 4);
    memcpy(out + 20, &block->crc, 4);
    memcpy(out + 24, &block->part, 8);
    memcpy(out + 32, &block->offset, 8);
    memcpy(out + 40, &block->lower, 8);
    memcpy(out + 48, &block->upper, 8);
    uint32_t crc = hash_crc32c(0, out + 8, PART_BLOCK_HEADER - 8);
    memcpy(out + 4, &crc, 4);
}

bool part_block_decode(const uint8_t *data, size_t len, uint64_t part, uint64_t offset,
                       struct part_block *out)
{
    if (len < PART_BLOCK_HEADER) {
        return false;
    }
    struct reader r = reader_of(data, PART_BLOCK_HEADER);
    uint32_t magic = reader_u32(&r);
    uint32_t crc = reader_u32(&r);
    uint32_t stream = reader_u32(&r);
    *out = (struct part_block){.len = reader_u32(&r)};
    out->rows = reader_u32(&r);
    out->crc = reader_u32(&r);
    out->part = reader_u64(&r);
    out->offset = reader_u64(&r);
    out->lower = reader_u64(&r);
    out->upper = reader_u64(&r);
    out->stream = stream == STREAM_ERR ? STREAM_ERR : STREAM_OK;
    return magic == PART_MAGIC && crc == hash_crc32c(0, data + 8, PART_BLOCK_HEADER - 8) &&
           stream < STREAMS && out->part == part && out->offset == offset &&
           out->len <= PART_BLOCK_MAX && out->lower <= out->upper;
}

uint64_t part_block_extent(uint32_t len)
{
    ASSERT(len <= PART_BLOCK_MAX);
    return ((uint64_t)PART_BLOCK_HEADER + len + BATCH_ALIGN - 1) & ~(uint64_t)(BATCH_ALIGN - 1);
}

void *part_alloc(size_t len)
{
    size_t size = (len + BATCH_ALIGN) & ~(size_t)(BATCH_ALIGN - 1);
    void *data = aligned_alloc(BATCH_ALIGN, size);
    ASSERT(data != NULL);
    return data;
}

err_t part_read_header(struct storage_file *file, uint64_t offset, struct part_block *out)
{
    uint8_t header[PART_BLOCK_HEADER];
    size_t got = 0;
    TRY(io_file_read_sync(file->io, offset, header, sizeof(header), &got));
    if (!part_block_decode(header, got, file->number, offset, out) ||
        offset + part_block_extent(out->len) > file->size) {
        return err_new(ERR_CORRUPT, "%s: damaged block header at offset %llu", file->path,
                       (unsigned long long)offset);
    }
    return ERR_OK;
}

err_t part_read_bytes(struct storage_file *file, uint64_t offset, uint32_t len, uint32_t crc,
                      void **out)
{
    ASSERT(len <= PART_BLOCK_MAX);
    size_t got = 0;
    void *data = part_alloc(len);
    err_t err = io_file_read_sync(file->io, offset, data, len, &got);
    if (err == ERR_OK && (got != len || hash_crc32c(0, data, len) != crc)) {
        err = err_new(ERR_CORRUPT, "%s: damaged data at offset %llu (%u bytes)", file->path,
                      (unsigned long long)offset, len);
    }
    if (err != ERR_OK) {
        free(data);
        return err;
    }
    *out = data;
    return ERR_OK;
}
