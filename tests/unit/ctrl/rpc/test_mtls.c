/* ctrl/rpc over TLS: our client and our server, who is let in, who is refused and with what reason.
 */
#include "core/base/log.h"
#include "core/io/tls.h"
#include "ctrl/pki/pki.h"
#include "ctrl/rpc/rpc.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>

/* One call of the health service, from a client with some identity to a server with another. */
struct scene {
    enum pki_role server_role;
    enum pki_role client_role;
    const char *client_environment;
    bool client_without_certificate;
    bool client_in_clear;

    char dir[64];
    struct io_loop *loop;
    struct pki *pki;
    struct pki *other;
    struct tls_context *server_tls;
    struct tls_context *client_tls;
    struct rpc_server *server;
    struct rpc_channel *channel;
    struct io_timer limit;
    enum rpc_status status;
    char text[512];
    bool done;
};

/* computed serves environmentd only; environmentd talks to computed only. */
static err_t judge_client(void *arg, const char *peer_name, const char *path)
{
    CU_ASSERT_STRING_EQUAL(path, "/grpc.health.v1.Health/Check");
    return pki_check_peer(peer_name, "prod", PKI_ROLE_BIT(PKI_ENVIRONMENTD));
}

static err_t judge_server(void *arg, const char *peer_name, const char *path)
{
    CU_ASSERT_STRING_EQUAL(path, "");
    return pki_check_peer(peer_name, "prod", PKI_ROLE_BIT(PKI_COMPUTED));
}

static err_t make_tls(struct pki *pki, const char *ca_path, enum pki_role role, bool server,
                      bool without, struct tls_context **out)
{
    struct pki_files files;
    TRY(pki_issue(pki, role, server ? "s" : "c", &files));
    struct tls_config config = {.certificate_path = without ? NULL : files.certificate_path,
                                .key_path = without ? NULL : files.key_path,
                                .ca_path = ca_path,
                                .require_peer = server,
                                .alpn = "h2"};
    err_t err = tls_context_new(&config, server, out);
    pki_files_free(&files);
    return err;
}

static void finish(struct scene *scene)
{
    scene->done = true;
    io_timer_cancel(scene->loop, &scene->limit);
    rpc_channel_free(scene->channel);
    rpc_server_free(scene->server);
    tls_context_free(scene->server_tls);
    tls_context_free(scene->client_tls);
    pki_free(scene->pki);
    pki_free(scene->other);
    io_loop_stop(scene->loop);
}

static void answered(void *arg, enum rpc_status status, const char *message,
                     const uint8_t *response, size_t len)
{
    struct scene *scene = arg;
    if (scene->done) {
        return;
    }
    scene->status = status;
    snprintf(scene->text, sizeof(scene->text), "%s", message);
    finish(scene);
}

static void limit_fired(struct io_timer *timer)
{
    struct scene *scene = CONTAINER_OF(timer, struct scene, limit);
    CU_FAIL("no answer");
    finish(scene);
}

static err_t set_up(struct scene *scene)
{
    char dir[80];
    snprintf(dir, sizeof(dir), "%s/prod", scene->dir);
    TRY(pki_init(scene->loop, dir, "prod", &scene->pki));
    struct pki *client_pki = scene->pki;
    if (scene->client_environment != NULL) {
        snprintf(dir, sizeof(dir), "%s/other", scene->dir);
        TRY(pki_init(scene->loop, dir, scene->client_environment, &scene->other));
        client_pki = scene->other;
    }
    const char *ca = pki_ca_path(scene->pki);
    TRY(make_tls(scene->pki, ca, scene->server_role, true, false, &scene->server_tls));
    TRY(make_tls(client_pki, ca, scene->client_role, false, scene->client_without_certificate,
                 &scene->client_tls));
    struct rpc_options options = {.authorize = judge_client};
    TRY(rpc_server_new(scene->loop, "127.0.0.1:0", scene->server_tls, &options, &scene->server));
    options.authorize = scene->client_in_clear ? NULL : judge_server;
    TRY(rpc_channel_new(scene->loop, rpc_server_address(scene->server),
                        scene->client_in_clear ? NULL : scene->client_tls, NULL, &options,
                        &scene->channel));
    return rpc_call_unary(scene->channel, "/grpc.health.v1.Health/Check", 0, "", 0, answered, scene,
                          NULL);
}

static void scene_start(struct io_loop *loop, void *arg)
{
    struct scene *scene = arg;
    scene->loop = loop;
    scene->limit.fire = limit_fired;
    io_timer_start(loop, &scene->limit, io_now_us(loop) + 20000000);
    err_t err = set_up(scene);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

static void play(struct scene *scene, enum rpc_status status, const char *first, const char *second)
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    snprintf(scene->dir, sizeof(scene->dir), "/tmp/tailrace-mtls-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(scene->dir));
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, scene_start, scene));
    io_env_free(env);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", scene->dir);
    CU_ASSERT_EQUAL(system(command), 0);
    CU_ASSERT_EQUAL(scene->status, status);
    CU_ASSERT_PTR_NOT_NULL(strstr(scene->text, first));
    CU_ASSERT_PTR_NOT_NULL(strstr(scene->text, second));
    if (strstr(scene->text, first) == NULL || strstr(scene->text, second) == NULL) {
        printf("got: %s\n", scene->text);
    }
}

static void test_let_in(void)
{
    struct scene scene = {.server_role = PKI_COMPUTED, .client_role = PKI_ENVIRONMENTD};
    play(&scene, RPC_OK, "", "");
}

static void test_client_of_wrong_role(void)
{
    struct scene scene = {.server_role = PKI_COMPUTED, .client_role = PKI_STORAGED};
    play(&scene, RPC_PERMISSION_DENIED, "storaged \"c\" of environment \"prod\"",
         "wanted is environmentd");
}

static void test_server_of_wrong_role(void)
{
    struct scene scene = {.server_role = PKI_STORAGED, .client_role = PKI_ENVIRONMENTD};
    play(&scene, RPC_UNAVAILABLE, "storaged \"s\"", "wanted is computed");
}

static void test_client_without_certificate(void)
{
    struct scene scene = {.server_role = PKI_COMPUTED,
                          .client_role = PKI_ENVIRONMENTD,
                          .client_without_certificate = true};
    play(&scene, RPC_UNAVAILABLE, "certificate required", "127.0.0.1");
}

static void test_client_of_another_environment(void)
{
    struct scene scene = {
        .server_role = PKI_COMPUTED, .client_role = PKI_ENVIRONMENTD, .client_environment = "test"};
    play(&scene, RPC_UNAVAILABLE, "unknown ca", "127.0.0.1");
}

static void test_client_in_clear(void)
{
    struct scene scene = {
        .server_role = PKI_COMPUTED, .client_role = PKI_ENVIRONMENTD, .client_in_clear = true};
    play(&scene, RPC_UNAVAILABLE, "127.0.0.1", "");
}

static const struct test_case cases[] = {
    {"a known client is let in", test_let_in},
    {"a client of the wrong role", test_client_of_wrong_role},
    {"a server of the wrong role", test_server_of_wrong_role},
    {"a client without a certificate", test_client_without_certificate},
    {"a client of another environment", test_client_of_another_environment},
    {"a client in clear", test_client_in_clear},
};
TEST_SUITE("ctrl/rpc/mtls", cases)
