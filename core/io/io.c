/*
 * The calls of io.h: each finds the implementation through the object's loop and passes on. What
 * both implementations would do alike is done here: calls on a loop that has stopped, the list of
 * pollers, whole small files, writes that copy.
 */
#include "core/io/io_internal.h"

#include "core/base/buf.h"
#include "core/base/mem.h"

#include <stdio.h>

/* What calls that would make something on a loop that has stopped give. */
static err_t stopped(void)
{
    return err_new(ERR_CANCELLED, "the event loop has stopped");
}

#define TRY_ALIVE(loop)                                                                            \
    do {                                                                                           \
        if (io_loop_dead(loop)) {                                                                  \
            return stopped();                                                                      \
        }                                                                                          \
    } while (0)

/* ---- environment, loops ---------------------------------------------------------------------- */

void io_env_free(struct io_env *env)
{
    if (env != NULL) {
        env->backend->env_free(env);
    }
}

bool io_env_simulated(const struct io_env *env)
{
    return env->backend->simulated;
}

void io_random(struct io_env *env, void *out, size_t len)
{
    env->backend->random(env, out, len);
}

uint64_t io_random_u64(struct io_env *env)
{
    uint64_t v;
    io_random(env, &v, sizeof(v));
    return v;
}

const char *io_host_id(struct io_env *env)
{
    return env->backend->host_id(env);
}

err_t io_main(struct io_env *env, io_start_fn start, void *arg)
{
    ASSERT(start != NULL);
    return env->backend->main(env, start, arg);
}

err_t io_thread_start(struct io_loop *owner, const char *name, int cpu, io_start_fn start,
                      void (*done)(void *arg), void *arg)
{
    ASSERT(io_loop_here(owner));
    ASSERT(start != NULL && name != NULL);
    TRY_ALIVE(owner);
    return owner->backend->thread_start(owner, name, cpu, start, done, arg);
}

void io_loop_stop(struct io_loop *loop)
{
    ASSERT(io_loop_here(loop));
    if (!io_loop_dead(loop)) {
        loop->backend->loop_stop(loop);
    }
}

void io_loop_set_spin(struct io_loop *loop, uint32_t max_us)
{
    ASSERT(io_loop_here(loop));
    if (!io_loop_dead(loop)) {
        loop->backend->set_spin(loop, max_us);
    }
}

struct io_env *io_loop_env(struct io_loop *loop)
{
    return loop->env;
}

uint64_t io_now_us(struct io_loop *loop)
{
    return loop->backend->now_us(loop);
}

uint64_t io_mono_ns(struct io_loop *loop)
{
    return loop->backend->mono_ns(loop);
}

void io_post(struct io_loop *loop, struct io_task *task)
{
    ASSERT(task->run != NULL);
    loop->backend->post(loop, task);
}

void io_task_cancel(struct io_loop *loop, struct io_task *task)
{
    ASSERT(io_loop_here(loop));
    loop->backend->task_cancel(loop, task);
}

void io_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t deadline_us)
{
    ASSERT(io_loop_here(loop));
    ASSERT(timer->fire != NULL);
    io_timer_cancel(loop, timer);
    if (io_loop_dead(loop)) {
        return;
    }
    timer->deadline_us = deadline_us;
    loop->backend->timer_start(loop, timer);
}

void io_timer_cancel(struct io_loop *loop, struct io_timer *timer)
{
    ASSERT(io_loop_here(loop));
    if (timer->heap_at != 0) { /* a loop that ended has disarmed all its timers */
        loop->backend->timer_cancel(loop, timer);
        ASSERT(timer->heap_at == 0);
    }
}

/* ---- pollers --------------------------------------------------------------------------------- */

void io_poller_add(struct io_loop *loop, struct io_poller *poller)
{
    ASSERT(io_loop_here(loop));
    ASSERT(poller->poll != NULL);
    if (io_loop_dead(loop)) {
        return;
    }
    struct io_poller **at = &loop->pollers;
    while (*at != NULL) {
        ASSERT(*at != poller);
        at = &(*at)->next;
    }
    poller->next = NULL;
    *at = poller;
    loop->lasting += poller->brief ? 0 : 1;
    loop->backend->pollers_changed(loop);
}

void io_poller_remove(struct io_loop *loop, struct io_poller *poller)
{
    ASSERT(io_loop_here(loop));
    if (io_loop_dead(loop)) {
        return;
    }
    for (struct io_poller **at = &loop->pollers; *at != NULL; at = &(*at)->next) {
        if (*at == poller) {
            *at = poller->next;
            loop->lasting -= poller->brief ? 0 : 1;
            if (loop->poller_next == poller) {
                loop->poller_next = poller->next;
            }
            poller->next = NULL;
            return;
        }
    }
}

bool io_loop_poll(struct io_loop *loop, bool brief_only)
{
    bool worked = false;
    struct io_poller *at = loop->pollers;
    while (at != NULL) {
        loop->poller_next = at->next;
        if (at->brief || !brief_only) {
            worked |= at->poll(at);
        }
        at = loop->poller_next;
    }
    loop->poller_next = NULL;
    return worked;
}

void io_loop_note_wake(struct io_loop *loop, uint64_t rung_ns)
{
    ASSERT(io_loop_here(loop));
    if (!io_loop_dead(loop)) {
        loop->backend->note_wake(loop, rung_ns);
    }
}

const struct io_loop_counters *io_loop_counters(const struct io_loop *loop)
{
    return loop->counters;
}

void io_loop_publish(struct io_loop *loop, struct counters *counters, uint64_t id)
{
    static const struct counters_type type = {
        .name = "loop",
        .ids = {"worker"},
        .values = {"spins", "yields", "sleeps", "wake_cost"},
        .gauges = 1 << 3,
    };
    ASSERT(io_loop_here(loop) && loop->counters == &loop->own_counters);
    STATIC_ASSERT(sizeof(struct io_loop_counters) == 4 * sizeof(uint64_t), "one value each");
    if (counters != NULL) {
        struct counters_slot *slot = counters_open(counters, &type, (uint64_t[COUNTERS_IDS]){id});
        loop->counters = (struct io_loop_counters *)slot->values;
    }
}

/* ---- doorbells ------------------------------------------------------------------------------- */

err_t io_bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg, struct io_bell **out)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    ASSERT(ring != NULL && out != NULL);
    return loop->backend->bell_open(loop, ring, arg, out);
}

int io_bell_fd(const struct io_bell *bell)
{
    return bell->loop->backend->bell_fd(bell);
}

void io_bell_close(struct io_bell *bell)
{
    if (bell != NULL) {
        ASSERT(io_loop_here(bell->loop));
        bell->loop->backend->bell_close(bell);
    }
}

bool io_loop_has_futex(struct io_loop *loop)
{
    return !io_loop_dead(loop) && loop->backend->has_futex(loop);
}

err_t io_futex_open(struct io_loop *loop, const _Atomic uint32_t *word, void (*woken)(void *arg),
                    void *arg, struct io_futex **out)
{
    ASSERT(io_loop_here(loop) && woken != NULL);
    *out = NULL;
    TRY_ALIVE(loop);
    return loop->backend->futex_open(loop, word, woken, arg, out);
}

void io_futex_arm(struct io_futex *futex, uint32_t seen)
{
    if (!io_loop_dead(futex->loop)) {
        futex->loop->backend->futex_arm(futex, seen);
    }
}

void io_futex_close(struct io_futex *futex)
{
    if (futex != NULL) {
        ASSERT(io_loop_here(futex->loop));
        futex->loop->backend->futex_close(futex);
    }
}

/* ---- streams --------------------------------------------------------------------------------- */

err_t io_connect(struct io_loop *loop, const char *address, const struct io_stream_handler *handler,
                 void *arg, io_connect_fn connected, struct io_stream **out)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    return loop->backend->connect(loop, address, handler, arg, connected, out);
}

void io_stream_set_handler(struct io_stream *stream, const struct io_stream_handler *handler,
                           void *arg)
{
    ASSERT(io_loop_here(stream->loop));
    stream->handler = handler;
    stream->arg = arg;
}

void io_stream_write(struct io_stream *stream, const void *data, size_t len)
{
    ASSERT(io_loop_here(stream->loop));
    if (len == 0) {
        return;
    }
    if (stream->ops->write != NULL) {
        stream->ops->write(stream, data, len);
        return;
    }
    void *copy = mem_alloc(len);
    memcpy(copy, data, len);
    stream->ops->write_ref(stream, copy, len, free, copy);
}

void io_stream_write_ref(struct io_stream *stream, const void *data, size_t len,
                         void (*release)(void *arg), void *arg)
{
    ASSERT(io_loop_here(stream->loop));
    if (len == 0) {
        if (release != NULL) {
            release(arg);
        }
        return;
    }
    stream->ops->write_ref(stream, data, len, release, arg);
}

void io_stream_write_fds(struct io_stream *stream, const void *data, size_t len, const int *fds,
                         size_t fds_len)
{
    ASSERT(io_loop_here(stream->loop));
    ASSERT(len > 0); /* an empty SEQPACKET message reads as the end of the stream */
    stream->ops->write_fds(stream, data, len, fds, fds_len);
}

size_t io_stream_pending(const struct io_stream *stream)
{
    ASSERT(io_loop_here(stream->loop));
    return stream->ops->pending(stream);
}

void io_stream_set_high_water(struct io_stream *stream, size_t bytes)
{
    stream->high_water = bytes;
}

void io_stream_pause(struct io_stream *stream)
{
    ASSERT(io_loop_here(stream->loop));
    stream->ops->pause(stream, true);
}

void io_stream_resume(struct io_stream *stream)
{
    ASSERT(io_loop_here(stream->loop));
    stream->ops->pause(stream, false);
}

void io_stream_close(struct io_stream *stream)
{
    if (stream != NULL) {
        ASSERT(io_loop_here(stream->loop));
        stream->ops->close(stream, false);
    }
}

void io_stream_finish(struct io_stream *stream)
{
    if (stream != NULL) {
        ASSERT(io_loop_here(stream->loop));
        stream->ops->close(stream, true);
    }
}

const char *io_stream_peer(const struct io_stream *stream)
{
    return stream->ops->peer(stream);
}

struct io_loop *io_stream_loop(const struct io_stream *stream)
{
    return stream->loop;
}

err_t io_stream_peer_cred(const struct io_stream *stream, pid_t *pid, uid_t *uid)
{
    return stream->ops->peer_cred(stream, pid, uid);
}

bool io_stream_sealed(const struct io_stream *stream)
{
    return stream->sealed;
}

const char *io_stream_peer_name(const struct io_stream *stream)
{
    return stream->ops->peer_name(stream);
}

err_t io_listen(struct io_loop *loop, const char *address, io_accept_fn accepted, void *arg,
                struct io_listener **out)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    ASSERT(accepted != NULL && out != NULL);
    return loop->backend->listen(loop, address, accepted, arg, out);
}

const char *io_listener_address(const struct io_listener *listener)
{
    return listener->loop->backend->listener_address(listener);
}

void io_listener_close(struct io_listener *listener)
{
    if (listener != NULL) {
        ASSERT(io_loop_here(listener->loop));
        listener->loop->backend->listener_close(listener);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

err_t io_file_open(struct io_loop *loop, const char *path, int flags, struct io_file **out)
{
    ASSERT(io_loop_here(loop));
    ASSERT((flags & (IO_OPEN_READ | IO_OPEN_WRITE)) != 0);
    TRY_ALIVE(loop);
    return loop->backend->file_open(loop, path, flags, out);
}

void io_file_close(struct io_file *file)
{
    if (file != NULL) {
        ASSERT(io_loop_here(file->loop));
        file->loop->backend->file_close(file);
    }
}

void io_file_read(struct io_file *file, uint64_t offset, void *data, size_t len, struct io_op *op)
{
    ASSERT(io_loop_here(file->loop));
    if (!io_loop_dead(file->loop)) {
        file->loop->backend->file_read(file, offset, data, len, op);
    }
}

void io_file_write(struct io_file *file, uint64_t offset, const void *data, size_t len,
                   struct io_op *op)
{
    ASSERT(io_loop_here(file->loop));
    if (!io_loop_dead(file->loop)) {
        file->loop->backend->file_write(file, offset, data, len, op);
    }
}

void io_file_sync(struct io_file *file, struct io_op *op)
{
    ASSERT(io_loop_here(file->loop));
    if (!io_loop_dead(file->loop)) {
        file->loop->backend->file_sync(file, op);
    }
}

err_t io_file_read_sync(struct io_file *file, uint64_t offset, void *data, size_t len,
                        size_t *result)
{
    *result = 0;
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_read_sync(file, offset, data, len, result);
}

err_t io_file_write_sync(struct io_file *file, uint64_t offset, const void *data, size_t len)
{
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_write_sync(file, offset, data, len);
}

err_t io_file_sync_sync(struct io_file *file)
{
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_sync_sync(file);
}

err_t io_file_truncate_sync(struct io_file *file, uint64_t size)
{
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_truncate_sync(file, size);
}

err_t io_file_stat_sync(struct io_file *file, struct io_stat *out)
{
    memset(out, 0, sizeof(*out));
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_stat_sync(file, out);
}

err_t io_file_size_sync(struct io_file *file, uint64_t *size)
{
    struct io_stat st;
    *size = 0;
    TRY(io_file_stat_sync(file, &st));
    *size = st.size;
    return ERR_OK;
}

err_t io_file_lock_sync(struct io_file *file, bool *locked)
{
    *locked = false;
    TRY_ALIVE(file->loop);
    return file->loop->backend->file_lock_sync(file, locked);
}

void io_file_unlock_sync(struct io_file *file)
{
    if (!io_loop_dead(file->loop)) {
        file->loop->backend->file_unlock_sync(file);
    }
}

err_t io_stat_sync(struct io_loop *loop, const char *path, struct io_stat *out)
{
    memset(out, 0, sizeof(*out));
    TRY_ALIVE(loop);
    return loop->backend->stat(loop, path, out);
}

err_t io_mkdir_sync(struct io_loop *loop, const char *path, int mode)
{
    TRY_ALIVE(loop);
    return loop->backend->mkdir(loop, path, mode);
}

err_t io_rename_sync(struct io_loop *loop, const char *from, const char *to)
{
    TRY_ALIVE(loop);
    return loop->backend->rename(loop, from, to);
}

err_t io_unlink_sync(struct io_loop *loop, const char *path)
{
    TRY_ALIVE(loop);
    return loop->backend->unlink(loop, path);
}

err_t io_dir_sync_sync(struct io_loop *loop, const char *path)
{
    TRY_ALIVE(loop);
    return loop->backend->dir_sync(loop, path);
}

err_t io_dir_list_sync(struct io_loop *loop, const char *path,
                       err_t (*each)(void *arg, const char *name), void *arg)
{
    TRY_ALIVE(loop);
    ASSERT(each != NULL);
    return loop->backend->dir_list(loop, path, each, arg);
}

/* Appends a file's content up to its end; at most max_len bytes are accepted. */
static err_t read_whole(struct io_file *file, const char *path, size_t max_len, struct buf *out)
{
    uint64_t size;
    TRY(io_file_size_sync(file, &size));
    /* Files of /proc say size 0, and a file may grow meanwhile: read until it ends. */
    buf_reserve(out, (size < max_len ? (size_t)size : max_len) + 1);
    for (;;) {
        if (out->len == out->cap) {
            buf_reserve(out, out->cap);
        }
        size_t got;
        TRY(io_file_read_sync(file, out->len, out->data + out->len, out->cap - out->len, &got));
        out->len += got;
        if (out->len > max_len) {
            return err_new(ERR_LIMIT, "%s is larger than %zu bytes", path, max_len);
        }
        if (got == 0) {
            return ERR_OK;
        }
    }
}

err_t io_read_whole_sync(struct io_loop *loop, const char *path, size_t max_len, uint8_t **data,
                         size_t *len)
{
    *data = NULL;
    *len = 0;
    struct io_file *file;
    TRY(io_file_open(loop, path, IO_OPEN_READ, &file));
    struct buf content = {0};
    err_t err = read_whole(file, path, max_len, &content);
    io_file_close(file);
    if (err != ERR_OK) {
        buf_free(&content);
        return err;
    }
    *data = content.data;
    *len = content.len;
    return ERR_OK;
}

/* Writes and syncs a file that has no reader yet. */
static err_t write_temporary(struct io_loop *loop, const char *path, const void *data, size_t len,
                             int mode)
{
    struct io_file *file;
    TRY(io_file_open(loop, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file));
    err_t err = loop->backend->chmod(loop, path, mode);
    if (err == ERR_OK) {
        err = io_file_write_sync(file, 0, data, len);
    }
    if (err == ERR_OK) {
        err = io_file_sync_sync(file);
    }
    io_file_close(file);
    return err;
}

err_t io_write_whole_sync(struct io_loop *loop, const char *path, const void *data, size_t len,
                          int mode)
{
    TRY_ALIVE(loop);
    struct buf temporary = {0};
    struct buf directory = {0};
    buf_printf(&temporary, "%s.tmp-%016llx", path, (unsigned long long)io_random_u64(loop->env));
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        buf_append_str(&directory, ".");
    } else {
        buf_append(&directory, path, slash == path ? 1 : (size_t)(slash - path));
    }
    err_t err = write_temporary(loop, buf_cstr(&temporary), data, len, mode);
    if (err == ERR_OK) {
        err = io_rename_sync(loop, buf_cstr(&temporary), path);
    }
    if (err != ERR_OK) {
        err_free(io_unlink_sync(loop, buf_cstr(&temporary))); /* best effort: the cause is err */
    } else {
        err = io_dir_sync_sync(loop, buf_cstr(&directory));
    }
    buf_free(&temporary);
    buf_free(&directory);
    return err_wrap(err, "writing %s", path);
}

/* ---- watches, processes, signals ------------------------------------------------------------- */

err_t io_watch_open(struct io_loop *loop, const char *path, void (*changed)(void *arg), void *arg,
                    struct io_watch **out)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    ASSERT(changed != NULL && out != NULL);
    return loop->backend->watch_open(loop, path, changed, arg, out);
}

void io_watch_close(struct io_watch *watch)
{
    if (watch != NULL) {
        ASSERT(io_loop_here(watch->loop));
        watch->loop->backend->watch_close(watch);
    }
}

err_t io_process_start(struct io_loop *loop, const struct io_process_spec *spec, io_exit_fn exited,
                       void *arg, struct io_process **out)
{
    ASSERT(io_loop_here(loop));
    ASSERT(spec->argv != NULL && spec->argv[0] != NULL);
    TRY_ALIVE(loop);
    ASSERT(exited != NULL && out != NULL);
    return loop->backend->process_start(loop, spec, exited, arg, out);
}

err_t io_process_adopt(struct io_loop *loop, pid_t pid, const char *executable,
                       uint64_t start_ticks, io_exit_fn exited, void *arg, struct io_process **out)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    ASSERT(exited != NULL && out != NULL);
    return loop->backend->process_adopt(loop, pid, executable, start_ticks, exited, arg, out);
}

pid_t io_process_pid(const struct io_process *process)
{
    return process->pid;
}

uint64_t io_process_start_ticks(const struct io_process *process)
{
    return process->start_ticks;
}

err_t io_process_signal(struct io_process *process, int signal_number)
{
    ASSERT(io_loop_here(process->loop));
    TRY_ALIVE(process->loop);
    return process->loop->backend->process_signal(process, signal_number);
}

err_t io_process_limit_memory(struct io_process *process, uint64_t bytes)
{
    ASSERT(io_loop_here(process->loop));
    TRY_ALIVE(process->loop);
    return process->loop->backend->process_limit_memory(process, bytes);
}

void io_process_release(struct io_process *process)
{
    if (process != NULL) {
        ASSERT(io_loop_here(process->loop));
        process->loop->backend->process_release(process);
    }
}

err_t io_signal_watch(struct io_loop *loop, int signal_number,
                      void (*caught)(void *arg, int signal_number), void *arg)
{
    ASSERT(io_loop_here(loop));
    TRY_ALIVE(loop);
    ASSERT(caught != NULL);
    return loop->backend->signal_watch(loop, signal_number, caught, arg);
}

/* A directory's name is durable once its parent was synced, the parent's once its own was. */
err_t io_mkdir_durable_sync(struct io_loop *loop, const char *path, int mode)
{
    TRY(io_mkdir_sync(loop, path, mode));
    char *parent = mem_strdup(path);
    err_t err = ERR_OK;
    for (size_t len = strlen(path); err == ERR_OK && len > 0; len--) {
        if (path[len - 1] != '/' || path[len] == '\0') {
            continue;
        }
        parent[len > 1 ? len - 1 : 1] = '\0';
        err = io_dir_sync_sync(loop, parent);
    }
    if (err == ERR_OK && path[0] != '/') {
        err = io_dir_sync_sync(loop, ".");
    }
    free(parent);
    return err;
}
