/* Files on both implementations. */
#include "tests/unit/core/io/world.h"

#include <stdio.h>
#include <string.h>

struct files {
    struct world world;
    struct io_file *file;
    struct io_op op;
    int step;
    uint8_t *data;
    uint8_t *back;
};

enum { FILE_BYTES = 3 * 1000 * 1000 };

static char *path_in(struct files *files, const char *name)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/%s", files->world.dir, name);
    return path;
}

static void async_done(struct io_op *op, err_t err, size_t result)
{
    struct files *files = CONTAINER_OF(op, struct files, op);
    expect_ok(err);
    files->step++;
    switch (files->step) {
    case 1:
        CU_ASSERT(result == FILE_BYTES);
        io_file_sync(files->file, op);
        break;
    case 2:
        io_file_read(files->file, 10, files->back, FILE_BYTES, op);
        break;
    case 3:
        CU_ASSERT(result == FILE_BYTES - 10); /* stops short at the end */
        CU_ASSERT(memcmp(files->back, files->data + 10, FILE_BYTES - 10) == 0);
        io_file_close(files->file);
        io_loop_stop(files->world.loop);
        break;
    default:
        CU_FAIL("too many completions");
    }
}

static void async_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    expect_ok(io_mkdir_sync(loop, path_in(files, "a/b"), 0700));
    expect_ok(io_file_open(loop, path_in(files, "a/b/file"),
                           IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE, &files->file));
    files->op.done = async_done;
    io_file_write(files->file, 0, files->data, FILE_BYTES, &files->op);
}

static void async(enum world_kind kind)
{
    struct files files = {.data = mem_alloc(FILE_BYTES), .back = mem_zalloc(FILE_BYTES)};
    for (size_t i = 0; i < FILE_BYTES; i++) {
        files.data[i] = (uint8_t)(i * 31 + i / 1000);
    }
    world_run(&files.world, kind, async_start, &files);
    CU_ASSERT(files.step == 3);
    free(files.data);
    free(files.back);
}
ON_BOTH(async)

static const struct test_case cases[] = {
    {"read, write, sync, real", async_real},
    {"read, write, sync, sim", async_sim},
};
TEST_SUITE("core/io/files", cases)
