/*
 * Damaged disks. A worker's directory with log segments, a base, a delta part and manifests is
 * taken from the simulator; then one bit of it is flipped at a time (every byte that is not
 * padding, and a sample of the padding), or a file is cut or missing. Opening and reading must give
 * an error or the same data, never other data, and never crash.
 */
#include "core/base/hash.h"
#include "core/io/sim.h"
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>

enum { FILES_MAX = 64, ROWS = 60 };

struct image {
    char path[FILES_MAX][128];
    uint8_t *data[FILES_MAX];
    size_t len[FILES_MAX];
    size_t files;
};

struct job {
    struct image *image; /* filled by the writer */
    const char *dir;     /* being listed */
    struct io_loop *loop;
    struct storage_worker *storage;
    struct storage_cursor *pin;
    struct io_timer timer;
    struct test_append answer;
    int row;
    struct test_rows rows[2]; /* of tables 1 and 2 */
    err_t err;
    bool done;
};

static void advanced(void *ctx, uint64_t collection, uint64_t upper)
{
}

static void status(void *ctx, uint64_t collection, enum storage_status s, const char *reason,
                   const char *hint)
{
}

static const struct storage_host host_table = {.advanced = advanced, .status = status};

static err_t open_worker(struct job *job)
{
    struct storage_config config = {.loop = job->loop,
                                    .directory = "/w",
                                    .workers = 1,
                                    .epoch = 1,
                                    .host = &host_table,
                                    .ctx = job,
                                    .segment_bytes = 40000,
                                    .memory_tail_bytes = 1};
    return storage_open(&config, &job->storage);
}

static err_t read_tables(struct job *job)
{
    for (uint64_t id = 1; id <= 2; id++) {
        TRY(test_state(job->storage, id, &job->rows[id - 1]));
    }
    return ERR_OK;
}

/* ---- making the image ------------------------------------------------------------------------ */

static err_t take_file(void *arg, const char *name)
{
    struct job *job = arg;
    struct image *image = job->image;
    char path[128];
    struct io_stat st;
    snprintf(path, sizeof(path), "%s/%s", job->dir, name);
    TRY(io_stat_sync(job->loop, path, &st));
    if (st.kind == IO_KIND_DIRECTORY) {
        struct job below = *job;
        below.dir = path;
        return io_dir_list_sync(job->loop, path, take_file, &below);
    }
    CU_ASSERT_FATAL(image->files < FILES_MAX);
    size_t i = image->files++;
    snprintf(image->path[i], sizeof(image->path[i]), "%s", path);
    return io_read_whole_sync(job->loop, path, 10 << 20, &image->data[i], &image->len[i]);
}

static void write_beat(struct io_timer *timer)
{
    struct job *job = CONTAINER_OF(timer, struct job, timer);
    uint64_t now = io_now_us(job->loop);
    storage_advance_tables(job->storage, now);
    io_timer_start(job->loop, timer, now + 10000);
    if (job->row < ROWS) {
        char text[600];
        memset(text, 'a' + job->row % 26, sizeof(text));
        text[sizeof(text) - 1] = '\0';
        test_append_row(job->storage, job->row % 10 == 9 ? 2 : 1, now + 1000, job->row, text, 1,
                        &job->answer);
        if (job->row > 30) {
            (void)storage_allow_compaction(job->storage, 1, now - 200000);
        }
    } else if (job->row == ROWS + 100) {
        /* The lease was renewed since: the last group is not one of rows. */
        job->err = read_tables(job);
        job->dir = "/w";
        if (job->err == ERR_OK) {
            job->err = io_dir_list_sync(job->loop, "/w", take_file, job);
        }
        job->done = true;
    }
    job->row++;
}

static void start_writing(struct io_loop *loop, void *arg)
{
    struct job *job = arg;
    job->loop = loop;
    job->err = open_worker(job);
    CU_ASSERT_PTR_NULL_FATAL(job->err);
    struct storage_collection t = test_table(1);
    CU_ASSERT_PTR_NULL(storage_run(job->storage, &t));
    t.id = 2;
    CU_ASSERT_PTR_NULL(storage_run(job->storage, &t));
    job->timer.fire = write_beat;
    io_timer_start(loop, &job->timer, io_now_us(loop));
}

static void destroy(void *arg)
{
    struct job *job = arg;
    storage_free(job->storage);
}

static void make_image(struct image *image, struct job *job)
{
    struct sim_config config = sim_config_default(3);
    struct sim *sim = sim_new(&config);
    *job = (struct job){.image = image};
    sim_process_start(sim, "h", "writer", start_writing, destroy, job);
    sim_run_until(sim, 3000000);
    CU_ASSERT(job->done);
    CU_ASSERT_PTR_NULL(job->err);
    CU_ASSERT_EQUAL(test_rows_len(&job->rows[0]), ROWS - ROWS / 10);
    CU_ASSERT_EQUAL(test_rows_len(&job->rows[1]), ROWS / 10);
    sim_free(sim);
}

static void free_image(struct image *image, struct job *job)
{
    for (size_t i = 0; i < image->files; i++) {
        free(image->data[i]);
    }
    test_rows_free(&job->rows[0]);
    test_rows_free(&job->rows[1]);
}

/* ---- reading a damaged one ------------------------------------------------------------------- */

static void start_reading(struct io_loop *loop, void *arg)
{
    struct job *job = arg;
    job->loop = loop;
    job->err = open_worker(job);
    if (job->err == ERR_OK) {
        job->err = read_tables(job);
    }
    job->done = true;
}

static uint64_t outcomes[2]; /* same data, error */

/* skip: a file left out; FILES_MAX: none. */
static void try_image(const struct image *image, const struct job *good, size_t skip,
                      const char *what, size_t file, size_t at)
{
    struct sim_config config = sim_config_default(1);
    struct sim *sim = sim_new(&config);
    struct job job = {0};
    for (size_t i = 0; i < image->files; i++) {
        if (i != skip) {
            err_t err = sim_file_write(sim, "h", image->path[i], image->data[i], image->len[i],
                                       false);
            CU_ASSERT_PTR_NULL_FATAL(err);
        }
    }
    sim_process_start(sim, "h", "reader", start_reading, destroy, &job);
    sim_run_until(sim, 1000);
    CU_ASSERT(job.done);
    bool same = job.err == ERR_OK && test_rows_equal(&job.rows[0], &good->rows[0]) &&
                test_rows_equal(&job.rows[1], &good->rows[1]);
    if (!same && job.err == ERR_OK) {
        fprintf(stderr, "%s in %s at %zu: other data (%zu and %zu rows)\n", what,
                image->path[file], at, test_rows_len(&job.rows[0]), test_rows_len(&job.rows[1]));
    }
    if (job.err != ERR_OK && err_code(job.err) != ERR_CORRUPT &&
        err_code(job.err) != ERR_FENCED && err_code(job.err) != ERR_NOT_FOUND) {
        fprintf(stderr, "%s in %s at %zu: %s\n", what, image->path[file], at, err_text(job.err));
        CU_FAIL("another error than corruption");
    }
    CU_ASSERT(same || job.err != ERR_OK);
    outcomes[job.err != ERR_OK]++;
    sim_free(sim);
    err_free(job.err);
    test_rows_free(&job.rows[0]);
    test_rows_free(&job.rows[1]);
}

/* Padding is a run of zeros; of it only a sample. */
static bool worth(const uint8_t *data, size_t len, size_t at)
{
    bool zeros = at >= 8 && at + 8 < len;
    for (size_t i = at - (zeros ? 8 : 0); zeros && i < at + 8; i++) {
        zeros = data[i] == 0;
    }
    bool text = at >= 4 && at + 4 < len && data[at] == data[at - 4] && data[at] == data[at + 4];
    return zeros ? at % 509 == 0 : !text || at % 37 == 0;
}

static void test_bits(void)
{
    struct image image = {0};
    struct job good;
    make_image(&image, &good);
    size_t kinds = 0;
    for (size_t i = 0; i < image.files; i++) {
        kinds |= strstr(image.path[i], ".wal") != NULL ? 1 : 0;
        kinds |= strstr(image.path[i], "/1/0") != NULL ? 2 : 0;
        kinds |= strstr(image.path[i], "/2/0") != NULL ? 4 : 0;
        kinds |= strstr(image.path[i], "manifest") != NULL ? 8 : 0;
    }
    CU_ASSERT_EQUAL(kinds, 15);
    try_image(&image, &good, FILES_MAX, "nothing", 0, 0);
    CU_ASSERT_EQUAL(outcomes[0], 1);
    uint64_t worthy = 0;
    for (size_t i = 0; i < image.files; i++) {
        for (size_t at = 0; at < image.len[i]; at++) {
            if (worth(image.data[i], image.len[i], at) && worthy++ % test_stride() == 0) {
                uint8_t bit = (uint8_t)(1u << (hash_u64(at) % 8));
                image.data[i][at] ^= bit;
                try_image(&image, &good, FILES_MAX, "a flipped bit", i, at);
                image.data[i][at] ^= bit;
            }
        }
    }
    fprintf(stderr, "%llu flips changed nothing, %llu were refused ",
            (unsigned long long)outcomes[0], (unsigned long long)outcomes[1]);
    CU_ASSERT(outcomes[1] > 1000 / test_stride());
    free_image(&image, &good);
}

static void test_missing(void)
{
    struct image image = {0};
    struct job good;
    make_image(&image, &good);
    for (size_t i = 0; i < image.files; i++) {
        /* Without its epoch a directory is anybody's; without a manifest there is no collection;
         * the last segment of a log cannot be missed. */
        uint64_t before = outcomes[1];
        bool may = strstr(image.path[i], "epoch") != NULL;
        bool last = i + 1 < image.files && strstr(image.path[i], ".wal") != NULL &&
                    strstr(image.path[i + 1], ".wal") == NULL;
        if (!last && !(strstr(image.path[i], ".wal") != NULL && i + 1 == image.files)) {
            try_image(&image, &good, i, "a missing file", i, 0);
            CU_ASSERT(may || outcomes[1] == before + 1);
        }
        /* Parts and manifests that were cut. */
        size_t len = image.len[i];
        if (strstr(image.path[i], ".wal") == NULL && len > 1) {
            image.len[i] = len - 1;
            try_image(&image, &good, FILES_MAX, "a cut file", i, 0);
            image.len[i] = len / 2;
            try_image(&image, &good, FILES_MAX, "a cut file", i, 0);
            image.len[i] = len;
        }
    }
    free_image(&image, &good);
}

static const struct test_case cases[] = {
    {"every byte flipped", test_bits},
    {"files missing or cut", test_missing},
};
TEST_SUITE("core/storage damage", cases)
