/*
 * Files of a shard and blocks in them. Module-private.
 *
 * A storage_file is a file that readers share by counting references; once it is obsolete, the last
 * reference deletes it. A part is a file of blocks: a 64-byte header with checksums, then the bytes
 * of one batch. A block says which part and offset it was written for, so that a block in the wrong
 * place is noticed.
 */
#ifndef TAILRACE_CORE_STORAGE_PART_H
#define TAILRACE_CORE_STORAGE_PART_H

#include "core/data/batch.h"
#include "core/io/io.h"

struct storage_file {
    struct io_loop *loop;
    struct io_file *io;
    char *path;
    uint64_t number;
    uint64_t size; /* valid bytes */
    uint32_t refs;
    bool obsolete; /* delete when the last reference goes */
};

/* Takes over io. One reference, the caller's. */
struct storage_file *storage_file_new(struct io_loop *loop, const char *path, struct io_file *io,
                                      uint64_t number, uint64_t size);
struct storage_file *storage_file_ref(struct storage_file *file);
/* Closes the file before its last reference goes: no operation is under way any more. */
void storage_file_shut(struct storage_file *file);
/* NULL is allowed. */
void storage_file_unref(struct storage_file *file);

enum { PART_BLOCK_HEADER = 64, PART_BLOCK_MAX = 1 << 30 };

enum storage_stream { STREAM_OK, STREAM_ERR, STREAMS };

/* The header of a block, decoded. What it says of the bytes is checked when they are read. */
struct part_block {
    enum storage_stream stream;
    uint64_t part;   /* number of the part */
    uint64_t offset; /* of the header in the file */
    uint32_t len;    /* bytes of the batch */
    uint32_t rows;
    uint32_t crc;    /* of the batch */
    uint64_t lower;  /* times lie in [lower, upper) */
    uint64_t upper;
};

void part_block_encode(const struct part_block *block, uint8_t out[PART_BLOCK_HEADER]);
/* False when the bytes are not a block header for this place. */
bool part_block_decode(const uint8_t *data, size_t len, uint64_t part, uint64_t offset,
                       struct part_block *out);
/* Bytes a block takes in the file, with padding to 64. */
uint64_t part_block_extent(uint32_t len);

/* Memory for batch bytes, aligned to 64; free with free(). */
void *part_alloc(size_t len);
/* Reads the header at offset: ERR_CORRUPT names file and offset. */
err_t part_read_header(struct storage_file *file, uint64_t offset, struct part_block *out);
/* Reads len bytes at offset and checks their checksum; *out is the caller's (free). */
err_t part_read_bytes(struct storage_file *file, uint64_t offset, uint32_t len, uint32_t crc,
                      void **out);

#endif
