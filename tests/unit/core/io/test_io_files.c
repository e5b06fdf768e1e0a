/* Files on both implementations. */
#include "tests/unit/core/io/world.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- names ----------------------------------------------------------------------------------- */

static err_t names_append(void *arg, const char *name)
{
    buf_printf(arg, "%s ", name);
    return ERR_OK;
}

static err_t names_refuse(void *arg, const char *name)
{
    return err_new(ERR_CANCELLED, "enough");
}

static void names_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    struct io_stat st;
    struct io_stat other;
    struct buf names = {0};
    char to[160];
    expect_ok(io_mkdir_sync(loop, path_in(files, "d/e"), 0700));
    expect_ok(io_mkdir_sync(loop, path_in(files, "d/e"), 0700)); /* there already: fine */
    expect_ok(io_mkdir_sync(loop, path_in(files, "d/e/"), 0700));
    expect_ok(io_write_whole_sync(loop, path_in(files, "d/b"), "bb", 2, 0600));
    expect_ok(io_write_whole_sync(loop, path_in(files, "d/a"), "a", 1, 0640));
    expect_err(io_mkdir_sync(loop, path_in(files, "d/a"), 0700), ERR_EXISTS);
    expect_ok(io_dir_list_sync(loop, path_in(files, "d"), names_append, &names));
    CU_ASSERT(strcmp(buf_cstr(&names), "a b e ") == 0); /* sorted, no temporary files */
    expect_err(io_dir_list_sync(loop, path_in(files, "d"), names_refuse, NULL), ERR_CANCELLED);
    expect_err(io_dir_list_sync(loop, path_in(files, "none"), names_append, &names),
               ERR_NOT_FOUND);
    buf_free(&names);
    expect_ok(io_stat_sync(loop, path_in(files, "d"), &st));
    CU_ASSERT(st.kind == IO_KIND_DIRECTORY);
    expect_ok(io_stat_sync(loop, path_in(files, "d/b"), &st));
    CU_ASSERT(st.kind == IO_KIND_FILE && st.size == 2 && st.mtime_ns > 0);
    snprintf(to, sizeof(to), "%s", path_in(files, "d/a"));
    expect_ok(io_rename_sync(loop, path_in(files, "d/b"), to)); /* replaces */
    expect_ok(io_stat_sync(loop, to, &other));
    CU_ASSERT(other.inode == st.inode && other.size == 2);
    expect_err(io_stat_sync(loop, path_in(files, "d/b"), &st), ERR_NOT_FOUND);
    expect_err(io_rename_sync(loop, path_in(files, "d/b"), to), ERR_NOT_FOUND);
    expect_err(io_unlink_sync(loop, path_in(files, "d")), ERR_IO); /* not empty */
    expect_ok(io_unlink_sync(loop, path_in(files, "d/e")));
    expect_ok(io_unlink_sync(loop, path_in(files, "d/a")));
    expect_err(io_unlink_sync(loop, path_in(files, "d/a")), ERR_NOT_FOUND);
    expect_ok(io_dir_sync_sync(loop, path_in(files, "d")));
    expect_err(io_dir_sync_sync(loop, path_in(files, "none")), ERR_NOT_FOUND);
    expect_ok(io_unlink_sync(loop, path_in(files, "d")));
    io_loop_stop(loop);
}

static void names(enum world_kind kind)
{
    struct files files = {0};
    world_run(&files.world, kind, names_start, &files);
}
ON_BOTH(names)

/* ---- synchronous variants, as a database uses them ------------------------------------------- */

static void open_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    const char *path = path_in(files, "f");
    struct io_file *file;
    struct io_file *again;
    expect_ok(io_mkdir_sync(loop, files->world.dir, 0700));
    expect_err(io_file_open(loop, path, IO_OPEN_READ, &file), ERR_NOT_FOUND);
    CU_ASSERT(file == NULL);
    int flags = IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE;
    expect_ok(io_file_open(loop, path, flags | IO_OPEN_EXCLUSIVE, &file));
    expect_err(io_file_open(loop, path, flags | IO_OPEN_EXCLUSIVE, &again), ERR_EXISTS);
    expect_err(io_file_open(loop, path_in(files, "no/f"), flags, &again), ERR_NOT_FOUND);
    expect_err(io_file_open(loop, path_in(files, "."), flags, &again), ERR_IO);

    uint64_t size;
    size_t got;
    char text[16];
    struct io_stat st;
    expect_ok(io_file_write_sync(file, 5, "world", 5)); /* leaves a hole */
    expect_ok(io_file_size_sync(file, &size));
    CU_ASSERT(size == 10);
    expect_ok(io_file_read_sync(file, 0, text, sizeof(text), &got));
    CU_ASSERT(got == 10 && memcmp(text, "\0\0\0\0\0world", 10) == 0);
    expect_ok(io_file_read_sync(file, 10, text, sizeof(text), &got));
    CU_ASSERT(got == 0);
    expect_ok(io_file_read_sync(file, 1000, text, sizeof(text), &got));
    CU_ASSERT(got == 0);
    expect_ok(io_file_truncate_sync(file, 7));
    expect_ok(io_file_truncate_sync(file, 9)); /* grows with zeros */
    expect_ok(io_file_read_sync(file, 5, text, sizeof(text), &got));
    CU_ASSERT(got == 4 && memcmp(text, "wo\0\0", 4) == 0);
    expect_ok(io_file_sync_sync(file));
    expect_ok(io_file_stat_sync(file, &st));
    CU_ASSERT(st.size == 9 && st.kind == IO_KIND_FILE);

    expect_ok(io_file_open(loop, path_in(files, "f"), flags | IO_OPEN_TRUNCATE, &again));
    expect_ok(io_file_size_sync(file, &size));
    CU_ASSERT(size == 0);
    expect_ok(io_unlink_sync(loop, path_in(files, "f")));
    expect_ok(io_file_write_sync(again, 0, "still", 5)); /* open files outlive their name */
    expect_ok(io_file_read_sync(file, 0, text, sizeof(text), &got));
    CU_ASSERT(got == 5 && memcmp(text, "still", 5) == 0);
    io_file_close(again);
    io_file_close(file);
    expect_ok(io_write_whole_sync(loop, path_in(files, "f"), "x", 1, 0600));
    expect_ok(io_file_open(loop, path_in(files, "f"), IO_OPEN_READ, &file));
    expect_err(io_file_write_sync(file, 0, "y", 1), ERR_IO); /* opened for reading */
    expect_err(io_file_truncate_sync(file, 0), ERR_INVALID);
    io_file_close(file);
    expect_ok(io_file_open(loop, path_in(files, "f"), IO_OPEN_WRITE, &file));
    expect_err(io_file_read_sync(file, 0, text, 1, &got), ERR_IO);
    io_file_close(file);
    io_loop_stop(loop);
}

static void sync_variants(enum world_kind kind)
{
    struct files files = {0};
    world_run(&files.world, kind, open_start, &files);
}
ON_BOTH(sync_variants)

static void whole_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    const char *path = path_in(files, "w");
    uint8_t *data;
    size_t len;
    expect_ok(io_mkdir_sync(loop, files->world.dir, 0700));
    expect_err(io_read_whole_sync(loop, path, 100, &data, &len), ERR_NOT_FOUND);
    CU_ASSERT(data == NULL && len == 0);
    expect_ok(io_write_whole_sync(loop, path, "", 0, 0600));
    expect_ok(io_read_whole_sync(loop, path, 0, &data, &len));
    CU_ASSERT(data != NULL && len == 0);
    free(data);
    expect_ok(io_write_whole_sync(loop, path, "0123456789", 10, 0600));
    expect_err(io_read_whole_sync(loop, path, 9, &data, &len), ERR_LIMIT);
    CU_ASSERT(data == NULL);
    expect_ok(io_read_whole_sync(loop, path, 10, &data, &len));
    CU_ASSERT(len == 10 && memcmp(data, "0123456789", 10) == 0);
    free(data);
    expect_err(io_write_whole_sync(loop, path_in(files, "none/w"), "x", 1, 0600), ERR_NOT_FOUND);
    io_loop_stop(loop);
}

static void whole(enum world_kind kind)
{
    struct files files = {0};
    world_run(&files.world, kind, whole_start, &files);
}
ON_BOTH(whole)

static void lock_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    const char *path = path_in(files, "l");
    struct io_file *first;
    struct io_file *second;
    bool locked;
    int flags = IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE;
    expect_ok(io_mkdir_sync(loop, files->world.dir, 0700));
    expect_ok(io_file_open(loop, path, flags, &first));
    expect_ok(io_file_open(loop, path, flags, &second));
    expect_ok(io_file_lock_sync(first, &locked));
    CU_ASSERT(locked);
    expect_ok(io_file_lock_sync(first, &locked)); /* held already */
    CU_ASSERT(locked);
    expect_ok(io_file_lock_sync(second, &locked));
    CU_ASSERT(!locked);
    io_file_unlock_sync(second); /* not its own */
    expect_ok(io_file_lock_sync(second, &locked));
    CU_ASSERT(!locked);
    io_file_unlock_sync(first);
    expect_ok(io_file_lock_sync(second, &locked));
    CU_ASSERT(locked);
    io_file_close(second);
    expect_ok(io_file_lock_sync(first, &locked));
    CU_ASSERT(locked);
    io_loop_stop(loop);
}

static void lock(enum world_kind kind)
{
    struct files files = {0};
    world_run(&files.world, kind, lock_start, &files);
}
ON_BOTH(lock)

/* ---- closing with operations under way ------------------------------------------------------- */

enum { UNDER_WAY = 40 };

struct under_way {
    struct world world;
    struct io_op ops[UNDER_WAY];
    uint8_t *memory[UNDER_WAY];
};

static void under_way_done(struct io_op *op, err_t err, size_t result)
{
    CU_FAIL("done after close");
    err_free(err);
}

static void under_way_start(struct io_loop *loop, void *arg)
{
    struct under_way *u = arg;
    char path[160];
    snprintf(path, sizeof(path), "%s/u", u->world.dir);
    expect_ok(io_mkdir_sync(loop, u->world.dir, 0700));
    struct io_file *file;
    int flags = IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_DIRECT;
    expect_ok(io_file_open(loop, path, flags, &file));
    for (size_t i = 0; i < UNDER_WAY; i++) {
        u->ops[i].done = under_way_done;
        u->memory[i] = aligned_alloc(4096, 65536);
        memset(u->memory[i], 1, 65536);
        if (i % 2 == 0) {
            io_file_write(file, i * 65536, u->memory[i], 65536, &u->ops[i]);
        } else {
            io_file_read(file, 0, u->memory[i], 65536, &u->ops[i]);
        }
    }
    io_file_close(file);
    for (size_t i = 0; i < UNDER_WAY; i++) {
        free(u->memory[i]); /* nobody writes into it any more */
    }
    io_loop_stop(loop);
}

static void close_under_way(enum world_kind kind)
{
    struct under_way *u = MEM_NEW(struct under_way);
    world_run(&u->world, kind, under_way_start, u);
    free(u);
}
ON_BOTH(close_under_way)

/* Two files: what completes while the first is being closed must not be lost for the second. */
static void two_files_start(struct io_loop *loop, void *arg)
{
    struct under_way *u = arg;
    struct io_file *files[2];
    for (size_t i = 0; i < 2; i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s/%zu", u->world.dir, i);
        expect_ok(io_mkdir_sync(loop, u->world.dir, 0700));
        expect_ok(io_file_open(loop, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &files[i]));
    }
    for (size_t i = 0; i < UNDER_WAY; i++) {
        struct io_file *file = files[i / 2 % 2];
        u->ops[i].done = under_way_done;
        if (i % 2 == 0) {
            u->memory[i] = mem_zalloc(65536);
            io_file_write(file, i * 65536, u->memory[i], 65536, &u->ops[i]);
        } else {
            io_file_sync(file, &u->ops[i]);
        }
    }
    io_file_close(files[0]);
    io_file_close(files[1]);
    for (size_t i = 0; i < UNDER_WAY; i++) {
        free(u->memory[i]);
    }
    io_loop_stop(loop);
}

static void close_two(enum world_kind kind)
{
    struct under_way *u = MEM_NEW(struct under_way);
    world_run(&u->world, kind, two_files_start, u);
    free(u);
}
ON_BOTH(close_two)

/* ---- errors of asynchronous operations ------------------------------------------------------- */

static void error_done(struct io_op *op, err_t err, size_t result)
{
    struct files *files = CONTAINER_OF(op, struct files, op);
    CU_ASSERT(result == 0);
    expect_err(err, ERR_IO);
    io_file_close(files->file); /* inside its own completion */
    files->step++;
    io_loop_stop(files->world.loop);
}

static void error_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    expect_ok(io_mkdir_sync(loop, files->world.dir, 0700));
    expect_ok(io_write_whole_sync(loop, path_in(files, "f"), "x", 1, 0600));
    expect_ok(io_file_open(loop, path_in(files, "f"), IO_OPEN_READ, &files->file));
    files->op.done = error_done;
    io_file_write(files->file, 0, "y", 1, &files->op);
}

static void async_error(enum world_kind kind)
{
    struct files files = {0};
    world_run(&files.world, kind, error_start, &files);
    CU_ASSERT(files.step == 1);
}
ON_BOTH(async_error)

/* ---- watches --------------------------------------------------------------------------------- */

enum { TRIES = 500 }; /* of 10 ms: what must come may take its time on a busy machine */

struct watching {
    struct world world;
    struct io_watch *file_watch;
    struct io_watch *directory_watch;
    struct io_timer timer;
    unsigned step;
    unsigned tries;
    unsigned file_changes;
    unsigned directory_changes;
};

static void watching_path(struct watching *w, char *path, const char *name)
{
    snprintf(path, 160, "%s/%s", w->world.dir, name);
}

static void file_changed(void *arg)
{
    ((struct watching *)arg)->file_changes++;
}

static void directory_changed(void *arg)
{
    ((struct watching *)arg)->directory_changes++;
}

static void watching_append(struct watching *w, const char *path)
{
    struct io_file *file;
    uint64_t size;
    expect_ok(io_file_open(w->world.loop, path, IO_OPEN_READ | IO_OPEN_WRITE, &file));
    expect_ok(io_file_size_sync(file, &size));
    expect_ok(io_file_write_sync(file, size, "more", 4));
    io_file_close(file);
}

/* One change a step; each must be told by the next. */
static void watching_fire(struct io_timer *timer)
{
    struct watching *w = CONTAINER_OF(timer, struct watching, timer);
    struct io_loop *loop = w->world.loop;
    char path[160];
    char other[160];
    watching_path(w, path, "watched");
    watching_path(w, other, "other");
    bool file_meant = w->step != 0 && w->step != 5;
    bool directory_meant = w->step != 0 && w->step != 6;
    bool told = (w->file_changes > 0 || !file_meant) &&
                (w->directory_changes > 0 || !directory_meant);
    if (!told && w->tries++ < TRIES) {
        io_timer_start(loop, timer, io_now_us(loop) + 10000);
        return;
    }
    CU_ASSERT((w->file_changes > 0) == file_meant);
    CU_ASSERT((w->directory_changes > 0) == directory_meant);
    w->tries = w->file_changes = w->directory_changes = 0;
    switch (w->step++) {
    case 0: /* made */
        expect_ok(io_write_whole_sync(loop, path, "content", 7, 0600));
        break;
    case 1: /* grows */
    case 3:
        watching_append(w, path);
        break;
    case 2: /* replaced */
        expect_ok(io_write_whole_sync(loop, path, "new", 3, 0600));
        break;
    case 4: /* another file */
        expect_ok(io_write_whole_sync(loop, other, "x", 1, 0600));
        break;
    case 5: /* removed, but the directory's watch is closed: the file's stays */
        io_watch_close(w->directory_watch);
        expect_ok(io_unlink_sync(loop, path));
        break;
    default:
        io_watch_close(w->file_watch);
        io_loop_stop(loop);
        return;
    }
    io_timer_start(loop, timer, io_now_us(loop) + 30000);
}

static void watching_start(struct io_loop *loop, void *arg)
{
    struct watching *w = arg;
    char path[160];
    watching_path(w, path, "watched");
    struct io_watch *none;
    expect_ok(io_mkdir_sync(loop, w->world.dir, 0700));
    expect_ok(io_watch_open(loop, path, file_changed, w, &w->file_watch));
    expect_ok(io_watch_open(loop, w->world.dir, directory_changed, w, &w->directory_watch));
    watching_path(w, path, "no/such/directory");
    expect_err(io_watch_open(loop, path, file_changed, w, &none), ERR_NOT_FOUND);
    w->timer.fire = watching_fire;
    io_timer_start(loop, &w->timer, io_now_us(loop) + 30000);
}

static void watches(enum world_kind kind)
{
    struct watching w = {0};
    world_run(&w.world, kind, watching_start, &w);
    CU_ASSERT(w.step == 7);
}
ON_BOTH(watches)

/* ---- a watched symbolic link: its target's changes count, also after it points elsewhere ----- */

struct linked {
    struct world world;
    struct io_watch *watch;
    struct io_timer timer;
    unsigned changes;
    unsigned step;
    unsigned tries;
};

static void linked_changed(void *arg)
{
    ((struct linked *)arg)->changes++;
}

static void linked_path(const struct linked *linked, char *out, const char *name)
{
    snprintf(out, 160, "%s/%s", linked->world.dir, name);
}

static void linked_append(struct linked *linked, const char *name)
{
    char path[160];
    linked_path(linked, path, name);
    struct io_file *file;
    expect_ok(io_file_open(linked->world.loop, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file));
    expect_ok(io_file_write_sync(file, linked->step, "x", 1));
    io_file_close(file);
}

static void linked_point(struct linked *linked, const char *name)
{
    char target[160];
    char fresh[160];
    char link[160];
    linked_path(linked, target, name);
    linked_path(linked, fresh, "links/fresh");
    linked_path(linked, link, "links/current");
    CU_ASSERT(symlink(target, fresh) == 0);
    CU_ASSERT(rename(fresh, link) == 0);
}

static void linked_fire(struct io_timer *timer)
{
    struct linked *linked = CONTAINER_OF(timer, struct linked, timer);
    bool meant = linked->step > 0 && linked->step != 4;
    if (meant && linked->changes == 0 && linked->tries++ < TRIES) {
        io_timer_start(linked->world.loop, timer, io_now_us(linked->world.loop) + 10000);
        return;
    }
    CU_ASSERT((linked->changes > 0) == meant);
    linked->changes = linked->tries = 0;
    switch (linked->step++) {
    case 0:
        linked_append(linked, "one");
        break;
    case 1:
        linked_point(linked, "two");
        break;
    case 2:
        linked_append(linked, "two");
        break;
    case 3:
        linked_append(linked, "one"); /* no longer meant */
        break;
    default:
        io_loop_stop(linked->world.loop);
        return;
    }
    io_timer_start(linked->world.loop, timer, io_now_us(linked->world.loop) + 20000);
}

static void linked_start(struct io_loop *loop, void *arg)
{
    struct linked *linked = arg;
    char path[160];
    linked_path(linked, path, "links");
    expect_ok(io_mkdir_sync(loop, path, 0700));
    linked_append(linked, "one");
    linked_append(linked, "two");
    linked_point(linked, "one");
    linked_path(linked, path, "links/current");
    expect_ok(io_watch_open(loop, path, linked_changed, linked, &linked->watch));
    linked->timer.fire = linked_fire;
    io_timer_start(loop, &linked->timer, io_now_us(loop) + 20000);
}

static void watched_link_real(void)
{
    struct linked linked = {0};
    world_run(&linked.world, WORLD_REAL, linked_start, &linked);
    CU_ASSERT(linked.step == 5);
}

/* A pipe nobody writes to: opening it must not stop the loop, and it says what it is. */
static void pipe_start(struct io_loop *loop, void *arg)
{
    struct files *files = arg;
    struct io_stat st = {0};
    CU_ASSERT_EQUAL_FATAL(mkfifo(path_in(files, "pipe"), 0600), 0);
    expect_ok(io_file_open(loop, path_in(files, "pipe"), IO_OPEN_READ, &files->file));
    expect_ok(io_file_stat_sync(files->file, &st));
    CU_ASSERT(st.kind != IO_KIND_FILE);
    io_file_close(files->file);
    files->step = 1;
    io_loop_stop(loop);
}

static void pipe_real(void)
{
    struct files files = {0};
    world_run(&files.world, WORLD_REAL, pipe_start, &files);
    CU_ASSERT(files.step == 1);
}

static const struct test_case cases[] = {
    {"read, write, sync, real", async_real},
    {"read, write, sync, sim", async_sim},
    {"names, real", names_real},
    {"names, sim", names_sim},
    {"synchronous variants, real", sync_variants_real},
    {"synchronous variants, sim", sync_variants_sim},
    {"whole files, real", whole_real},
    {"whole files, sim", whole_sim},
    {"locks, real", lock_real},
    {"locks, sim", lock_sim},
    {"close with operations under way, real", close_under_way_real},
    {"close with operations under way, sim", close_under_way_sim},
    {"close two files, real", close_two_real},
    {"close two files, sim", close_two_sim},
    {"asynchronous error, real", async_error_real},
    {"asynchronous error, sim", async_error_sim},
    {"watches, real", watches_real},
    {"watches, sim", watches_sim},
    {"watched symbolic link", watched_link_real},
    {"a pipe without a writer", pipe_real},
};
TEST_SUITE("core/io/files", cases)
