/*
 * The controller session of a runtime: see runtime.h. Main loop only.
 *
 * Fencing, in order: mTLS lets in only certificates of this environment's authority (authorize); a
 * Hello must name the environment and an epoch not below the highest seen (check_hello); an
 * accepted one replaces the session before anything is run for it (accept_hello). A command is run
 * only if it came on the stream that is the session now, so a predecessor's late commands are void
 * without a number in each of them. The highest epoch is kept in memory: a runtime that restarts
 * holds no session, and storage keeps its own in its log.
 *
 * Two controllers of one epoch cannot be: the catalog raises it at every start of environmentd.
 */
#include "ctrl/runtime/runtime.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ctrl/pki/pki.h"
#include "ctrl/plan/plan_codec.h"
#include "proto/proto_control.desc.h"

struct runtime {
    struct runtime_config config; /* a copy; strings are the owner's */
    struct rpc_server *server;
    struct tls_context *tls; /* NULL: plain text (simulator, tests) */
    struct rpc_call *session; /* the accepted one, or NULL */
    uint64_t epoch;           /* highest seen */
};

/* Each call of a connection, before its handler: environmentd for sessions, tools for the rest. */
static err_t authorize(void *arg, const char *peer_name, const char *path)
{
    ASSERT(path != NULL);
    struct runtime *runtime = arg;
    if (runtime->tls == NULL) {
        return ERR_OK;
    }
    unsigned roles = PKI_ROLE_BIT(PKI_ENVIRONMENTD);
    if (strcmp(path, runtime->config.session_path) != 0) {
        roles |= PKI_ROLE_BIT(PKI_CLIENT); /* tools may ask for health and reflection */
    }
    return pki_check_peer(peer_name, runtime->config.environment, roles);
}

/* Nothing changes here: a foreign or stale controller must leave no trace. */
static err_t check_hello(const struct runtime *runtime, const tailrace_v1_Hello *hello)
{
    ASSERT(runtime->config.environment != NULL);
    if (hello->version != RUNTIME_PROTOCOL_VERSION) {
        return err_new(ERR_UNSUPPORTED, "controller protocol version %u: this process speaks %d",
                       hello->version, RUNTIME_PROTOCOL_VERSION);
    }
    const char *environment = hello->environment != NULL ? hello->environment : "";
    if (strcmp(environment, runtime->config.environment) != 0) {
        return err_new(ERR_PERMISSION, "this process belongs to environment %s, not to \"%s\"",
                       runtime->config.environment, environment);
    }
    if (hello->epoch < runtime->epoch) {
        return err_new(ERR_FENCED, "epoch %llu is stale: a controller of epoch %llu took over",
                       (unsigned long long)hello->epoch, (unsigned long long)runtime->epoch);
    }
    return ERR_OK;
}

/* Commands of both services carry Hello as field 1: one message type decodes either's. */
static err_t accept_hello(struct runtime *runtime, struct rpc_call *call, const uint8_t *data,
                          size_t len)
{
    tailrace_v1_StorageCommand command;
    TRY(rpc_decode_pb(tailrace_v1_StorageCommand_fields, &command, data, len));
    err_t err = ERR_OK;
    if (command.which_command != tailrace_v1_StorageCommand_hello_tag) {
        err = err_new(ERR_PROTOCOL, "the first command of a session must be Hello");
    } else {
        err = check_hello(runtime, &command.command.hello);
    }
    if (err == ERR_OK) {
        struct rpc_call *old = runtime->session;
        runtime->session = call;
        runtime->epoch = command.command.hello.epoch;
        ASSERT(call != old);
        if (old != NULL) {
            rpc_call_finish_err(old, err_new(ERR_FENCED, "a newer session took over"));
        }
        LOG_INFO("runtime", "controller session", LOG_U64("epoch", runtime->epoch),
                 LOG_STR("peer", rpc_call_peer(call)));
        runtime->config.handler->hello(runtime->config.ctx, runtime->epoch,
                                       command.command.hello.nonce);
    }
    rpc_release_pb(tailrace_v1_StorageCommand_fields, &command);
    return err;
}

/* All state is the runtime's: a stream that has not said Hello is nothing yet. */
static void *session_open(void *arg, struct rpc_call *call)
{
    return arg;
}

/* The session's commands, or the first message of a stream that wants to be the session. */
static void session_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    ASSERT(arg != NULL && call != NULL);
    struct runtime *runtime = arg;
    if (call == runtime->session) {
        err_t err = runtime->config.handler->command(runtime->config.ctx, data, len);
        if (err != ERR_OK) {
            runtime_end_session(runtime, err);
        }
        return;
    }
    err_t err = accept_hello(runtime, call, data, len);
    if (err != ERR_OK) {
        LOG_WARN("runtime", "session refused", LOG_ERR(err));
        rpc_call_finish_err(call, err);
    }
}

/* The controller never closes only its half; answering ends the stream for both. */
static void session_half_close(void *arg, struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "");
}

/*
 * Of whichever stream: only the end of the session itself means something. A replaced one was put
 * out of runtime->session before it was finished.
 */
static void session_close(void *arg, struct rpc_call *call, enum rpc_status status,
                          const char *message)
{
    struct runtime *runtime = arg;
    if (call != runtime->session) {
        return;
    }
    runtime->session = NULL;
    LOG_INFO("runtime", "controller session ended", LOG_STR("status", rpc_status_name(status)),
             LOG_STR("reason", message));
    runtime->config.handler->lost(runtime->config.ctx);
}

static const struct rpc_handler session_handler = {
    .message = session_message,
    .half_close = session_half_close,
    .close = session_close,
};

err_t runtime_new(const struct runtime_config *config, struct runtime **out)
{
    ASSERT(config->loop != NULL && config->address != NULL && config->environment != NULL);
    ASSERT(config->handler->hello != NULL && config->handler->command != NULL);
    ASSERT(config->handler->lost != NULL && config->session_path[0] == '/');
    struct runtime *runtime = MEM_NEW(struct runtime);
    runtime->config = *config;
    err_t err = runtime_tls_context(&config->tls, true, "h2", &runtime->tls);
    if (err == ERR_OK) {
        struct rpc_options options = {.message_max = RUNTIME_MESSAGE_MAX,
                                      .window = 4 << 20,
                                      /* a silent controller is given up after four seconds */
                                      .keepalive_us = 2000000,
                                      .keepalive_wait_us = 2000000,
                                      .authorize = authorize,
                                      .authorize_arg = runtime};
        err = rpc_server_new(config->loop, config->address, runtime->tls, &options,
                             &runtime->server);
        err = err_wrap(err, "listening for the controller on %s", config->address);
    }
    if (err == ERR_OK) {
        rpc_server_add_method(runtime->server,
                              (struct rpc_method){.path = config->session_path,
                                                  .handler = &session_handler,
                                                  .open = session_open,
                                                  .arg = runtime});
        err = rpc_server_add_descriptors(runtime->server, proto_control_descriptors,
                                         proto_control_descriptors_len);
    }
    if (err != ERR_OK) {
        runtime_free(runtime);
        return err;
    }
    *out = runtime;
    return ERR_OK;
}

void runtime_free(struct runtime *runtime)
{
    if (runtime == NULL) {
        return;
    }
    runtime->session = NULL; /* no lost(): the owner goes too */
    rpc_server_free(runtime->server);
    tls_context_free(runtime->tls);
    free(runtime);
}

const char *runtime_address(const struct runtime *runtime)
{
    ASSERT(runtime->server != NULL);
    return rpc_server_address(runtime->server);
}

bool runtime_in_session(const struct runtime *runtime)
{
    return runtime->session != NULL;
}

void runtime_send(struct runtime *runtime, const pb_msgdesc_t *fields, const void *message)
{
    ASSERT(fields != NULL && message != NULL);
    if (runtime->session == NULL) {
        return;
    }
    err_t err = rpc_call_send_pb(runtime->session, fields, message);
    if (err != ERR_OK) {
        runtime_end_session(runtime, err_wrap(err, "encoding a response"));
    }
}

void runtime_end_session(struct runtime *runtime, err_t err)
{
    ASSERT(err != ERR_OK);
    struct rpc_call *session = runtime->session;
    if (session == NULL) {
        err_free(err);
        return;
    }
    LOG_WARN("runtime", "ending the session", LOG_ERR(err));
    runtime->session = NULL; /* first: session_close then knows it for an old one */
    rpc_call_finish_err(session, err);
    runtime->config.handler->lost(runtime->config.ctx);
}

void runtime_drain(struct runtime *runtime, void (*done)(void *arg), void *arg)
{
    ASSERT(done != NULL);
    rpc_server_drain(runtime->server, done, arg);
    if (runtime->session != NULL) {
        rpc_call_finish(runtime->session, RPC_UNAVAILABLE, "shutting down");
    }
}

/* -1 for everything else: capitals too, since ids are compared as texts. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

err_t runtime_environment_parse(const char *text, uint8_t out[16])
{
    ASSERT(text != NULL);
    bool ok = strlen(text) == 32;
    for (size_t i = 0; ok && i < 16; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);
        ok = high >= 0 && low >= 0;
        out[i] = ok ? (uint8_t)(high * 16 + low) : 0;
    }
    return ok ? ERR_OK
              : err_new(ERR_INVALID, "environment id \"%s\" is not 32 hexadecimal digits", text);
}

err_t runtime_tls_context(const struct runtime_tls *tls, bool server, const char *alpn,
                          struct tls_context **out)
{
    ASSERT(out != NULL);
    *out = NULL;
    bool all = tls->certificate != NULL && tls->key != NULL && tls->ca != NULL;
    bool none = tls->certificate == NULL && tls->key == NULL && tls->ca == NULL;
    if (none) {
        return ERR_OK;
    }
    if (!all) {
        return err_new(ERR_INVALID, "--tls-cert, --tls-key and --tls-ca go together");
    }
    struct tls_config config = {.certificate_path = tls->certificate,
                                .key_path = tls->key,
                                .ca_path = tls->ca,
                                .require_peer = true,
                                .alpn = alpn};
    return tls_context_new(&config, server, out);
}

err_t runtime_check_peer(void *ctx, const char *peer_name)
{
    ASSERT(ctx != NULL && ((const struct runtime_peer_check *)ctx)->environment != NULL);
    const struct runtime_peer_check *check = ctx;
    return pki_check_peer(peer_name, check->environment, check->roles);
}

err_t runtime_carrier_parse(const char *text, int *out)
{
    ASSERT(text != NULL && out != NULL);
    static const char *const names[] = {"auto", "shm", "tcp"};
    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return ERR_OK;
        }
    }
    return err_new(ERR_INVALID, "unknown carrier \"%s\": use auto, shm or tcp", text);
}
