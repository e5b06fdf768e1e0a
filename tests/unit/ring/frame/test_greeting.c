/*
 * Handshakes in which the peer takes its time: a client that says nothing, or a byte now and then,
 * is let go when the time of the whole is over, be it before TLS, within its handshake, or within
 * ours. The simulator has no TLS: this is the real world.
 */
#include "tests/unit/harness.h"

#include "ctrl/pki/pki.h"
#include "ring/frame/greeting.h"

#include "core/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_US = 200 * 1000, DRIP_US = 20 * 1000, LIMIT_US = 20 * 1000 * 1000 };

struct scene {
    struct io_loop *loop;
    char dir[64];
    struct tls_context *tls; /* the server's; NULL: plain */
    struct io_listener *listener;
    struct io_stream *client;
    struct io_timer drip;
    struct io_timer limit;
    size_t said;
    const char *say; /* these bytes first, one at a time, then zeros; NULL: nothing at all */
    uint64_t begun_us;
    bool encrypted;
    bool failed;
    bool hung_up;
};

static void end_if_over(struct scene *s)
{
    if (!s->failed || !s->hung_up) {
        return;
    }
    io_timer_cancel(s->loop, &s->drip);
    io_timer_cancel(s->loop, &s->limit);
    io_listener_close(s->listener);
    tls_context_free(s->tls);
    io_loop_stop(s->loop);
}

static void greeted(void *arg, struct greeting *greeting, struct io_stream *stream,
                    const struct hello *ours, const struct hello *theirs, const uint8_t *rest,
                    size_t rest_len)
{
    CU_FAIL_FATAL("nobody said hello");
}

static err_t judge(void *arg, const struct hello *theirs, const char *peer_name,
                   struct hello *welcome, enum hello_refusal *refusal)
{
    CU_FAIL_FATAL("nobody said hello");
    return ERR_OK;
}

static void failed(void *arg, struct greeting *greeting, err_t reason, enum hello_refusal refusal)
{
    struct scene *s = arg;
    CU_ASSERT_EQUAL(err_code(reason), ERR_TIMEOUT);
    CU_ASSERT_TRUE(io_now_us(s->loop) - s->begun_us >= TIMEOUT_US);
    err_free(reason);
    s->failed = true;
    end_if_over(s);
}

static void accepted(void *arg, struct io_stream *stream)
{
    struct scene *s = arg;
    struct greeting_config config = {.loop = s->loop, .tls = s->tls, .timeout_us = TIMEOUT_US,
                                     .arg = s, .judge = judge, .done = greeted,
                                     .failed = failed};
    s->begun_us = io_now_us(s->loop);
    (void)greeting_accept(&config, stream);
}

static void client_closed(void *arg, err_t reason)
{
    struct scene *s = arg;
    err_free(reason);
    s->client = NULL;
    s->hung_up = true;
    end_if_over(s);
}

static const struct io_stream_handler client = {.close = client_closed};

static void drip(struct io_timer *timer)
{
    struct scene *s = CONTAINER_OF(timer, struct scene, drip);
    if (s->client == NULL || s->say == NULL) {
        return;
    }
    uint8_t byte = s->said < strlen(s->say) ? (uint8_t)s->say[s->said] : 0;
    s->said++;
    io_stream_write(s->client, &byte, 1);
    io_timer_start(s->loop, timer, io_now_us(s->loop) + DRIP_US);
}

static void connected(void *arg, struct io_stream *stream)
{
    struct scene *s = arg;
    drip(&s->drip);
}

static void too_late(struct io_timer *timer)
{
    struct scene *s = CONTAINER_OF(timer, struct scene, limit);
    CU_FAIL("still waiting");
    s->failed = s->hung_up = true;
    end_if_over(s);
}

static void start(struct io_loop *loop, void *arg)
{
    struct scene *s = arg;
    struct pki *pki = NULL;
    s->loop = loop;
    if (s->encrypted) {
        struct pki_files files = {0};
        CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, s->dir, "env", &pki));
        CU_ASSERT_PTR_NULL_FATAL(pki_issue(pki, PKI_STORAGED, "test", &files));
        struct tls_config config = {.certificate_path = files.certificate_path,
                                    .key_path = files.key_path};
        CU_ASSERT_PTR_NULL_FATAL(tls_context_new(&config, true, &s->tls));
        pki_files_free(&files);
        pki_free(pki);
    }
    s->drip.fire = drip;
    s->limit.fire = too_late;
    io_timer_start(loop, &s->limit, io_now_us(loop) + LIMIT_US);
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, "127.0.0.1:0", accepted, s, &s->listener));
    CU_ASSERT_PTR_NULL_FATAL(io_connect(loop, io_listener_address(s->listener), &client, s,
                                        connected, &s->client));
}

static void play(bool encrypted, const char *say)
{
    struct scene s = {.encrypted = encrypted, .say = say};
    snprintf(s.dir, sizeof(s.dir), "/tmp/tailrace-greeting-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s.dir));
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, start, &s));
    io_env_free(env);
    CU_ASSERT_TRUE(s.failed && s.hung_up);
    CU_ASSERT_EQUAL(s.said > 1, say != NULL);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", s.dir);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void test_silent(void)
{
    play(false, NULL);
    play(true, NULL);
}

/* The magic of a frame; a TLS record of 512 bytes, a hello within. */
static void test_drips(void)
{
    play(false, "TRF1");
    play(true, "\x16\x03\x01\x02");
}

static const struct test_case cases[] = {
    {"nothing at all", test_silent},
    {"a byte at a time", test_drips},
};
TEST_SUITE("ring/greeting", cases)
