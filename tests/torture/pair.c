/* Two processes: see pair.h. */
#include "tests/torture/pair.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void session_new(struct pair *p, struct io_stream *stream)
{
    static const struct hello hello = {.workers = 1};
    const struct carrier_worker worker = {.loop = p->loop, .ctx = p};
    struct carrier_config config = {.net = p->loop, .host = p->host, .net_ctx = p,
                                    .workers = &worker, .workers_len = 1, .ours = &hello,
                                    .theirs = &hello};
    struct shm_config shm = {.initiator = p->child, .arena_bytes = p->arena_bytes};
    p->carrier = shm_carrier_new(&config, stream, &shm);
}

static void have_stream(void *arg, struct io_stream *stream)
{
    struct pair *p = arg;
    if (p->carrier != NULL) {
        io_stream_close(stream); /* the last session has not ended on this side */
        return;
    }
    session_new(p, stream);
}

static void refused(void *arg, err_t reason)
{
    struct pair *p = arg;
    err_free(reason);
    io_loop_stop(p->loop); /* the other process is gone, and with it the reason to be */
}

static const struct io_stream_handler connecting = {.close = refused};

void pair_connect(struct pair *p)
{
    struct io_stream *stream;
    ASSERT(p->child);
    err_t err = io_connect(p->loop, p->path, &connecting, p, have_stream, &stream);
    if (err != ERR_OK) {
        refused(p, err);
    }
}

static void start(struct io_loop *loop, void *arg)
{
    struct pair *p = arg;
    p->loop = loop;
    if (!p->child) {
        err_t err = io_listen(loop, p->path, have_stream, p, &p->listener);
        ASSERT(err == ERR_OK);
    }
    p->started(p);
}

static void run_side(struct pair *p)
{
    struct io_env *env;
    err_t err = io_env_new_real(&env);
    ASSERT(err == ERR_OK);
    err = io_main(env, start, p);
    ASSERT(err == ERR_OK);
    if (p->carrier != NULL) {
        carrier_destroy(p->carrier);
        p->carrier = NULL;
    }
    if (p->listener != NULL) {
        io_listener_close(p->listener);
    }
    io_env_free(env);
}

void pair_run(struct pair *p)
{
    snprintf(p->path, sizeof(p->path), "unixpacket:/tmp/torture-pair-%d", (int)getpid());
    fflush(NULL);
    p->pid = fork();
    ASSERT(p->pid >= 0);
    p->child = p->pid == 0;
    if (p->child) {
        usleep(200 * 1000); /* refused when nobody listens yet */
        run_side(p);
        _exit(0);
    }
    run_side(p);
    kill(p->pid, SIGKILL);
    ASSERT(waitpid(p->pid, NULL, 0) == p->pid);
}
