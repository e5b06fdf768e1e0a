/*
 * What the simulated disk keeps and loses. Each case runs over many seeds: what is promised must
 * hold in all of them, and what may happen must happen in some.
 */
#include "tests/unit/core/io/world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SEEDS = 60, SECTOR = 512, SECTORS = 8, LEN = SECTORS * SECTOR };

/* One process a step, so that everything in between is on the disk only. */
static void step(struct sim *sim, void (*run)(struct io_loop *loop, void *arg), void *arg)
{
    sim_process_start(sim, "h", "step", run, NULL, arg);
    sim_run_until(sim, sim_now_us(sim) + 1000 * 1000);
}

static struct io_file *file_new(struct io_loop *loop, const char *path)
{
    struct io_file *file = NULL;
    expect_ok(io_file_open(loop, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE, &file));
    return file;
}

static void fill(struct io_file *file, size_t from, size_t len, uint8_t byte)
{
    uint8_t data[LEN];
    CU_ASSERT_FATAL(len <= sizeof(data));
    memset(data, byte, len);
    expect_ok(io_file_write_sync(file, from, data, len));
}

/* ---- torn writes ----------------------------------------------------------------------------- */

struct torn {
    unsigned all_old;
    unsigned all_new;
    unsigned mixed;
};

static void torn_write(struct io_loop *loop, void *arg)
{
    struct io_file *file = file_new(loop, "/f");
    fill(file, 0, LEN, 'o');
    expect_ok(io_file_sync_sync(file));
    expect_ok(io_dir_sync_sync(loop, "/"));
    fill(file, 0, LEN, 'n');
}

static void torn_read(struct io_loop *loop, void *arg)
{
    struct torn *torn = arg;
    struct io_file *file = file_new(loop, "/f");
    uint8_t data[LEN + 1];
    size_t got;
    expect_ok(io_file_read_sync(file, 0, data, sizeof(data), &got));
    CU_ASSERT_FATAL(got == LEN);
    unsigned news = 0;
    for (size_t i = 0; i < SECTORS; i++) {
        uint8_t first = data[i * SECTOR];
        CU_ASSERT(first == 'o' || first == 'n');
        for (size_t j = 1; j < SECTOR; j++) {
            CU_ASSERT(data[i * SECTOR + j] == first); /* whole sectors only */
        }
        news += first == 'n' ? 1 : 0;
    }
    torn->all_old += news == 0 ? 1 : 0;
    torn->all_new += news == SECTORS ? 1 : 0;
    torn->mixed += news > 0 && news < SECTORS ? 1 : 0;
}

static void torn_writes(void)
{
    struct torn torn = {0};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        step(sim, torn_write, NULL);
        sim_host_crash(sim, "h");
        step(sim, torn_read, &torn);
        sim_free(sim);
    }
    CU_ASSERT(torn.all_old > 0 && torn.all_new > 0 && torn.mixed > 0);
}

static void unsynced_survive_a_kill(void)
{
    struct torn torn = {0};
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        struct sim_process *process =
            sim_process_start(sim, "h", "writer", torn_write, NULL, NULL);
        sim_run_until(sim, 100000);
        sim_process_kill(sim, process);
        step(sim, torn_read, &torn);
        sim_free(sim);
    }
    CU_ASSERT(torn.all_new == 5);
}

/* ---- sizes: growing and shrinking without a sync --------------------------------------------- */

struct sizes {
    uint64_t low;
    uint64_t high;
    uint64_t kept; /* bytes that must be as synced */
    void (*change)(struct io_file *file);
};

static void sizes_write(struct io_loop *loop, void *arg)
{
    struct sizes *sizes = arg;
    struct io_file *file = file_new(loop, "/f");
    fill(file, 0, 1000, 'o');
    expect_ok(io_file_sync_sync(file));
    expect_ok(io_dir_sync_sync(loop, "/"));
    sizes->change(file);
}

static void sizes_read(struct io_loop *loop, void *arg)
{
    struct sizes *sizes = arg;
    struct io_file *file = file_new(loop, "/f");
    uint64_t size;
    expect_ok(io_file_size_sync(file, &size));
    CU_ASSERT(size >= sizes->low && size <= sizes->high);
    uint8_t data[LEN];
    size_t got;
    expect_ok(io_file_read_sync(file, 0, data, sizeof(data), &got));
    CU_ASSERT(got == size);
    for (size_t i = 0; i < sizes->kept; i++) {
        CU_ASSERT(data[i] == 'o');
    }
}

static void sizes_grow(struct io_file *file)
{
    fill(file, 1000, 2000, 'n');
}

static void sizes_shrink(struct io_file *file)
{
    expect_ok(io_file_truncate_sync(file, 300));
}

static void sizes_shrink_and_grow(struct io_file *file)
{
    expect_ok(io_file_truncate_sync(file, 0));
    expect_ok(io_file_truncate_sync(file, 1500));
    uint8_t data[10];
    size_t got;
    expect_ok(io_file_read_sync(file, 995, data, sizeof(data), &got));
    CU_ASSERT(got == 10 && data[0] == 0 && data[9] == 0); /* not the old bytes */
}

static void sizes_run(struct sizes *sizes)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        step(sim, sizes_write, sizes);
        sim_host_crash(sim, "h");
        step(sim, sizes_read, sizes);
        sim_free(sim);
    }
}

static void sizes(void)
{
    struct sizes grow = {1000, 3000, 1000, sizes_grow};
    struct sizes shrink = {300, 1000, 300, sizes_shrink};
    struct sizes both = {1000, 1500, 0, sizes_shrink_and_grow};
    sizes_run(&grow);
    sizes_run(&shrink);
    sizes_run(&both);
}

/* ---- names ----------------------------------------------------------------------------------- */

struct names {
    bool sync;
    unsigned old_seen;
    unsigned new_seen;
};

static void names_write(struct io_loop *loop, void *arg)
{
    struct names *names = arg;
    expect_ok(io_write_whole_sync(loop, "/f", "old", 3, 0600));
    struct io_file *file = file_new(loop, "/t");
    expect_ok(io_file_write_sync(file, 0, "new", 3));
    expect_ok(io_file_sync_sync(file));
    expect_ok(io_rename_sync(loop, "/t", "/f"));
    if (names->sync) {
        expect_ok(io_dir_sync_sync(loop, "/"));
    }
    expect_ok(io_mkdir_sync(loop, "/lost", 0700));
    expect_ok(io_write_whole_sync(loop, "/lost/g", "g", 1, 0600));
}

static err_t count_name(void *arg, const char *name)
{
    (*(unsigned *)arg)++;
    return ERR_OK;
}

static void names_read(struct io_loop *loop, void *arg)
{
    struct names *names = arg;
    uint8_t *data;
    size_t len;
    expect_ok(io_read_whole_sync(loop, "/f", 100, &data, &len)); /* one of the two, whole */
    CU_ASSERT_FATAL(len == 3);
    names->old_seen += memcmp(data, "old", 3) == 0 ? 1 : 0;
    names->new_seen += memcmp(data, "new", 3) == 0 ? 1 : 0;
    free(data);
    struct io_stat st;
    err_t err = io_stat_sync(loop, "/lost", &st);
    if (err == ERR_OK) { /* the directory's own name was never synced, its content was */
        CU_ASSERT(st.kind == IO_KIND_DIRECTORY);
        unsigned count = 0;
        expect_ok(io_dir_list_sync(loop, "/lost", count_name, &count));
        CU_ASSERT(count == 1);
    }
    err_free(err);
}

static void names_run(struct names *names)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        step(sim, names_write, names);
        sim_host_crash(sim, "h");
        step(sim, names_read, names);
        sim_free(sim);
    }
    CU_ASSERT(names->old_seen + names->new_seen == SEEDS);
}

static void names(void)
{
    struct names loose = {.sync = false};
    struct names synced = {.sync = true};
    names_run(&loose);
    CU_ASSERT(loose.old_seen > 0 && loose.new_seen > 0);
    names_run(&synced);
    CU_ASSERT(synced.new_seen == SEEDS);
}

/* ---- failing disks --------------------------------------------------------------------------- */

struct failing {
    struct sim *sim;
    struct io_loop *loop;
    struct io_file *file;
    struct io_op op;
    unsigned done;
    enum err_code code;
};

static void failing_done(struct io_op *op, err_t err, size_t result)
{
    struct failing *failing = CONTAINER_OF(op, struct failing, op);
    failing->done++;
    failing->code = err != ERR_OK ? err_code(err) : 0;
    err_free(err);
}

static void failing_start(struct io_loop *loop, void *arg)
{
    struct failing *failing = arg;
    failing->loop = loop;
    failing->op.done = failing_done;
    failing->file = file_new(loop, "/f");
    fill(failing->file, 0, LEN, 'o');
    expect_ok(io_file_sync_sync(failing->file));
    expect_ok(io_dir_sync_sync(loop, "/"));
    fill(failing->file, 0, LEN, 'n');
    sim_disk_fail(failing->sim, "h", ENOSPC);
    expect_err(io_file_write_sync(failing->file, 0, "x", 1), ERR_NO_SPACE);
    expect_err(io_mkdir_sync(loop, "/d", 0700), ERR_NO_SPACE);
    char byte;
    size_t got;
    expect_ok(io_file_read_sync(failing->file, 0, &byte, 1, &got)); /* reading needs no space */
    sim_disk_fail(failing->sim, "h", EIO);
    expect_err(io_file_read_sync(failing->file, 0, &byte, 1, &got), ERR_IO);
    io_file_sync(failing->file, &failing->op);
}

static void failed_sync(void)
{
    struct failing failing = {0};
    struct torn torn = {0};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_config config = sim_config_default(seed);
        failing = (struct failing){.sim = sim_new(&config)};
        step(failing.sim, failing_start, &failing);
        CU_ASSERT(failing.done == 1 && failing.code == ERR_IO);
        sim_disk_fail(failing.sim, "h", 0);
        /* This succeeds, and yet what the failed one was to write is gone with the power. */
        expect_ok(io_file_sync_sync(failing.file));
        sim_host_crash(failing.sim, "h");
        step(failing.sim, torn_read, &torn);
        sim_free(failing.sim);
    }
    CU_ASSERT(torn.all_old == SEEDS);
}

/* ---- a write under way when its process is killed happens in part ---------------------------- */

static void cut_write_start(struct io_loop *loop, void *arg)
{
    struct failing *failing = arg;
    static uint8_t data[LEN];
    memset(data, 'w', sizeof(data));
    failing->file = file_new(loop, "/g");
    failing->op.done = failing_done;
    io_file_write(failing->file, 0, data, sizeof(data), &failing->op);
    io_loop_stop(loop);
}

static void cut_write_read(struct io_loop *loop, void *arg)
{
    uint64_t *size = arg;
    struct io_file *file = file_new(loop, "/g");
    expect_ok(io_file_size_sync(file, size));
}

static void interrupted_write(void)
{
    unsigned partial = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        struct failing failing = {.sim = sim};
        uint64_t size;
        step(sim, cut_write_start, &failing);
        CU_ASSERT(failing.done == 0);
        step(sim, cut_write_read, &size);
        CU_ASSERT(size <= LEN);
        partial += size > 0 && size < LEN ? 1 : 0;
        sim_free(sim);
    }
    CU_ASSERT(partial > SEEDS / 2);
}

/* ---- the test's own writes ------------------------------------------------------------------- */

struct watching {
    struct sim *sim;
    struct io_loop *loop;
    struct io_watch *watch;
    unsigned changes;
};

static void watching_changed(void *arg)
{
    ((struct watching *)arg)->changes++;
}

static void watching_start(struct io_loop *loop, void *arg)
{
    struct watching *watching = arg;
    watching->loop = loop;
    expect_ok(io_watch_open(loop, "/in/events", watching_changed, watching, &watching->watch));
}

static void outside_writes(void)
{
    struct sim_config config = sim_config_default(9);
    struct sim *sim = sim_new(&config);
    struct watching watching = {.sim = sim};
    expect_ok(sim_file_write(sim, "h", "/in/other", "x", 1, false));
    step(sim, watching_start, &watching);
    CU_ASSERT(watching.changes == 0);
    expect_ok(sim_file_write(sim, "h", "/in/events", "one", 3, true));
    sim_run_until(sim, sim_now_us(sim) + 100000);
    CU_ASSERT(watching.changes == 1);
    expect_ok(sim_file_write(sim, "h", "/in/events", "two", 3, true));
    expect_ok(sim_file_write(sim, "h", "/in/events", "three", 5, true));
    sim_run_until(sim, sim_now_us(sim) + 100000);
    CU_ASSERT(watching.changes == 2); /* merged */
    expect_ok(sim_file_write(sim, "h", "/in/other", "x", 1, false));
    sim_run_until(sim, sim_now_us(sim) + 100000);
    CU_ASSERT(watching.changes == 2);
    uint8_t *data;
    size_t len;
    expect_ok(io_read_whole_sync(watching.loop, "/in/events", 100, &data, &len));
    CU_ASSERT(len == 11 && memcmp(data, "onetwothree", 11) == 0);
    free(data);
    expect_ok(sim_file_write(sim, "h", "/in/events", "new", 3, false));
    expect_ok(io_read_whole_sync(watching.loop, "/in/events", 100, &data, &len));
    CU_ASSERT(len == 3);
    free(data);
    expect_err(sim_file_write(sim, "h", "/in", "new", 3, false), ERR_IO);
    sim_free(sim);
}

static const struct test_case cases[] = {
    {"unsynced writes are torn by sector", torn_writes},
    {"unsynced writes survive a kill", unsynced_survive_a_kill},
    {"unsynced sizes", sizes},
    {"unsynced names", names},
    {"failing disk and failed sync", failed_sync},
    {"interrupted write", interrupted_write},
    {"writes from outside", outside_writes},
};
TEST_SUITE("core/io/disk", cases)
