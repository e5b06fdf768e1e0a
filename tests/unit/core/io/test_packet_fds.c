/* Descriptors that come with an empty message: the stream ends, and they are closed. */
#include "tests/unit/harness.h"

#include "core/io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct stage {
    struct io_loop *loop;
    struct io_listener *listener;
    char path[64];
    int client;
    int pipe[2]; /* the write end is sent */
    bool closed;
};

/* On a plain socket: nothing but the write end of the pipe. */
static void send_empty(struct stage *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_control = control.room, .msg_controllen = sizeof(control.room)};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->path + strlen("unixpacket:"));
    s->client = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CU_ASSERT_EQUAL_FATAL(connect(s->client, (struct sockaddr *)&address, sizeof(address)), 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &s->pipe[1], sizeof(int));
    CU_ASSERT_EQUAL(sendmsg(s->client, &msg, 0), 0);
    close(s->pipe[1]);
}

static void on_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    CU_FAIL("an empty message is no data");
}

static void on_close(void *arg, err_t reason)
{
    struct stage *s = arg;
    s->closed = true;
    err_free(reason);
    io_loop_stop(s->loop);
}

static const struct io_stream_handler handler = {.data = on_data, .close = on_close};

static void accepted(void *arg, struct io_stream *stream)
{
    io_stream_set_handler(stream, &handler, arg);
}

static void start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->loop = loop;
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, s->path, accepted, s, &s->listener));
    send_empty(s);
}

static void test_empty_message(void)
{
    struct stage s = {.client = -1};
    struct io_env *env;
    char byte;
    snprintf(s.path, sizeof(s.path), "unixpacket:/tmp/test-packet-fds-%d", (int)getpid());
    CU_ASSERT_EQUAL_FATAL(pipe2(s.pipe, O_NONBLOCK | O_CLOEXEC), 0);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, start, &s));
    CU_ASSERT_TRUE(s.closed);
    io_listener_close(s.listener);
    io_env_free(env);
    /* Nobody has the write end any more: not EAGAIN. */
    CU_ASSERT_EQUAL(read(s.pipe[0], &byte, 1), 0);
    close(s.pipe[0]);
    close(s.client);
}

static const struct test_case cases[] = {
    {"an empty message with a descriptor", test_empty_message},
};
TEST_SUITE("core/io, descriptors", cases)
