/*
 * The simulated disk against the real file system: the same random operations must give the same
 * results. What each operation gave is written down as text, and the two texts are compared.
 */
#include "core/base/hash.h"
#include "tests/unit/core/io/world.h"

#include <stdio.h>
#include <string.h>

enum { SEEDS = 40, STEPS = 400, OPEN = 6, PATHS = 10 };

struct differ {
    struct world world;
    uint64_t seed;
    uint64_t random;
    struct io_loop *loop;
    struct io_file *files[OPEN];
    struct buf text;
};

static uint64_t dice(struct differ *d, uint64_t sides)
{
    d->random += 0x9E3779B97F4A7C15ULL;
    return hash_u64(d->random) % sides;
}

/* A few names, so that they meet: files in directories, directories in files' places. */
static const char *path_pick(struct differ *d, char *out)
{
    static const char *const names[PATHS] = {"a",   "b",   "d",   "d/a", "d/b",
                                             "d/e", "e",   "e/a", "a/x", "d/e/a"};
    snprintf(out, 160, "%s/%s", d->world.dir, names[dice(d, PATHS)]);
    return out;
}

static void note(struct differ *d, const char *what, err_t err)
{
    buf_printf(&d->text, "%s %s\n", what, err != ERR_OK ? err_code_name(err_code(err)) : "ok");
    err_free(err);
}

static void do_open(struct differ *d)
{
    char path[160];
    size_t slot = dice(d, OPEN);
    int flags = IO_OPEN_READ | (dice(d, 4) != 0 ? IO_OPEN_WRITE : 0);
    if ((flags & IO_OPEN_WRITE) != 0) {
        flags |= dice(d, 3) != 0 ? IO_OPEN_CREATE : 0;
        flags |= dice(d, 8) == 0 ? IO_OPEN_TRUNCATE : 0;
        flags |= (flags & IO_OPEN_CREATE) != 0 && dice(d, 4) == 0 ? IO_OPEN_EXCLUSIVE : 0;
    }
    io_file_close(d->files[slot]);
    note(d, "open", io_file_open(d->loop, path_pick(d, path), flags, &d->files[slot]));
}

static void do_write(struct differ *d, struct io_file *file)
{
    uint8_t data[3000];
    size_t len = dice(d, sizeof(data));
    memset(data, (int)dice(d, 256), len);
    uint64_t offset = dice(d, 5000);
    note(d, "write", len > 0 ? io_file_write_sync(file, offset, data, len) : ERR_OK);
}

static void do_read(struct differ *d, struct io_file *file)
{
    uint8_t data[4000];
    size_t got;
    uint64_t offset = dice(d, 9000);
    size_t len = dice(d, sizeof(data) - 1) + 1;
    err_t err = io_file_read_sync(file, offset, data, len, &got);
    bool failed = err != ERR_OK;
    note(d, "read", err);
    if (!failed) {
        buf_printf(&d->text, "%zu %llx\n", got, (unsigned long long)hash_bytes(data, got));
    }
}

static void do_examine(struct differ *d, struct io_file *file)
{
    struct io_stat st;
    note(d, "examine", io_file_stat_sync(file, &st));
    buf_printf(&d->text, "kind %d", (int)st.kind);
    if (st.kind == IO_KIND_FILE) {
        buf_printf(&d->text, " size %llu", (unsigned long long)st.size);
    }
    buf_append_byte(&d->text, '\n');
}

static err_t do_name(void *arg, const char *name)
{
    struct differ *d = arg;
    buf_printf(&d->text, "  %s\n", name);
    return ERR_OK;
}

static void do_with_file(struct differ *d)
{
    struct io_file *file = d->files[dice(d, OPEN)];
    if (file == NULL) {
        return;
    }
    switch (dice(d, 6)) {
    case 0:
    case 1:
        do_write(d, file);
        break;
    case 2:
    case 3:
        do_read(d, file);
        break;
    case 4:
        note(d, "truncate", io_file_truncate_sync(file, dice(d, 6000)));
        break;
    default:
        do_examine(d, file);
    }
}

static void do_with_names(struct differ *d)
{
    char path[160];
    char to[160];
    struct io_stat st;
    path_pick(d, path);
    switch (dice(d, 6)) {
    case 0:
        note(d, "mkdir", io_mkdir_sync(d->loop, path, 0700));
        break;
    case 1:
        note(d, "rename", io_rename_sync(d->loop, path, path_pick(d, to)));
        break;
    case 2:
        note(d, "unlink", io_unlink_sync(d->loop, path));
        break;
    case 3:
        note(d, "list", io_dir_list_sync(d->loop, path, do_name, d));
        break;
    case 4:
        note(d, "stat", io_stat_sync(d->loop, path, &st));
        buf_printf(&d->text, "kind %d\n", (int)st.kind);
        break;
    default:
        note(d, "dir sync", io_dir_sync_sync(d->loop, path));
    }
}

static void differ_start(struct io_loop *loop, void *arg)
{
    struct differ *d = arg;
    d->loop = loop;
    d->random = d->seed;
    expect_ok(io_mkdir_sync(loop, d->world.dir, 0700));
    for (int step = 0; step < STEPS; step++) {
        buf_printf(&d->text, "%d ", step);
        uint64_t what = dice(d, 10);
        if (what < 2) {
            do_open(d);
        } else if (what < 6) {
            do_with_file(d);
        } else {
            do_with_names(d);
        }
    }
    io_loop_stop(loop);
}

static void same_results(void)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct differ real = {.seed = seed};
        struct differ simulated = {.seed = seed};
        world_run(&real.world, WORLD_REAL, differ_start, &real);
        world_run(&simulated.world, WORLD_SIM, differ_start, &simulated);
        const char *a = buf_cstr(&real.text);
        const char *b = buf_cstr(&simulated.text);
        size_t same = 0;
        while (a[same] != '\0' && a[same] == b[same]) {
            same++;
        }
        if (a[same] != b[same]) {
            size_t from = same > 60 ? same - 60 : 0;
            fprintf(stderr, "seed %llu\nreal: ...%.100s\nsim: ...%.100s\n",
                    (unsigned long long)seed, a + from, b + from);
        }
        CU_ASSERT(a[same] == b[same]);
        buf_free(&real.text);
        buf_free(&simulated.text);
    }
}

static const struct test_case cases[] = {
    {"files and names: the same as the real ones", same_results},
};
TEST_SUITE("core/io/differential", cases)
