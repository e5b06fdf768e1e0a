/*
 * grpc.testing.TestService as the gRPC project's interoperability cases want it, on ctrl/rpc.
 *
 *     interop_server [--plain] --directory DIR
 *
 * Listens on a free port of 127.0.0.1 and prints "ADDRESS" on one line. With TLS, DIR gets an
 * environment's CA and certificates: client-good and computed-other (a role that may not call).
 * SIGTERM drains: open calls end first, then the process.
 */
#include "core/base/log.h"
#include "core/io/tls.h"
#include "ctrl/pki/pki.h"
#include "ctrl/rpc/rpc.h"

#include "proto/grpc/testing/empty.pb.h"
#include "proto/grpc/testing/messages.pb.h"
#include "proto/interop_proto.desc.h"

#include <signal.h>
#include <stdio.h>

#define ENVIRONMENT "interop"
#define ECHO_INITIAL "x-grpc-test-echo-initial"
#define ECHO_TRAILING "x-grpc-test-echo-trailing-bin"

enum { RESPONSE_MAX = 4 << 20 };

struct interop {
    struct io_loop *loop;
    const char *directory;
    bool plain;
    struct pki *pki;
    struct tls_context *tls;
    struct rpc_server *server;
    uint8_t *zeros; /* RESPONSE_MAX of them */
    bool draining;
    int exit_code;
};

/* A response that a streaming call owes. */
struct owed {
    size_t size;
    uint64_t interval_us;
};

struct call {
    struct interop *interop;
    struct rpc_call *rpc;
    struct owed *owed;
    size_t owed_len;
    size_t owed_cap;
    size_t owed_at;
    struct io_timer timer;
    size_t received; /* payload bytes of a streaming input */
    bool input_ended;
};

/* ---- what all calls share -------------------------------------------------------------------- */

static void echo_metadata(struct rpc_call *rpc)
{
    size_t len;
    const char *value = rpc_call_metadata(rpc, ECHO_INITIAL, &len);
    if (value != NULL) {
        err_free(rpc_call_add_header(rpc, (struct rpc_metadata){ECHO_INITIAL, value, len}));
    }
    value = rpc_call_metadata(rpc, ECHO_TRAILING, &len);
    if (value != NULL) {
        err_free(rpc_call_add_trailer(rpc, (struct rpc_metadata){ECHO_TRAILING, value, len}));
    }
}

static void timer_fired(struct io_timer *timer);

static void *open_call(void *arg, struct rpc_call *rpc)
{
    struct call *call = MEM_NEW(struct call);
    call->interop = arg;
    call->rpc = rpc;
    call->timer.fire = timer_fired;
    echo_metadata(rpc);
    return call;
}

static void close_call(void *arg, struct rpc_call *rpc, enum rpc_status status, const char *message)
{
    struct call *call = arg;
    io_timer_cancel(call->interop->loop, &call->timer);
    free(call->owed);
    free(call);
}

/* True when the request asks for a status and got it. */
static bool answered_with_status(struct rpc_call *rpc, bool asked,
                                 const grpc_testing_EchoStatus *status)
{
    if (asked && status->code != 0) {
        rpc_call_finish(rpc, (enum rpc_status)status->code,
                        status->message == NULL ? "" : status->message);
        return true;
    }
    return false;
}

static bool size_ok(struct rpc_call *rpc, int32_t size)
{
    if (size < 0 || size > RESPONSE_MAX) {
        rpc_call_finish(rpc, RPC_INVALID_ARGUMENT, "a response of that size is not offered");
        return false;
    }
    return true;
}

/* ---- unary ----------------------------------------------------------------------------------- */

static void empty_message(void *arg, struct rpc_call *rpc, const uint8_t *data, size_t len)
{
    grpc_testing_Empty response = {0};
    err_free(rpc_call_send_pb(rpc, grpc_testing_Empty_fields, &response));
    rpc_call_finish(rpc, RPC_OK, "");
}

static void unary_answer(struct call *call, const grpc_testing_SimpleRequest *request)
{
    if (answered_with_status(call->rpc, request->has_response_status, &request->response_status) ||
        !size_ok(call->rpc, request->response_size)) {
        return;
    }
    grpc_testing_SimpleResponse response = {.has_payload = true};
    response.payload.body =
        (struct rpc_bytes){call->interop->zeros, (size_t)request->response_size};
    err_t err = rpc_call_send_pb(call->rpc, grpc_testing_SimpleResponse_fields, &response);
    rpc_call_finish_err(call->rpc, err);
}

static void unary_message(void *arg, struct rpc_call *rpc, const uint8_t *data, size_t len)
{
    struct call *call = arg;
    grpc_testing_SimpleRequest request = {0};
    err_t err = rpc_decode_pb(grpc_testing_SimpleRequest_fields, &request, data, len);
    if (err != ERR_OK) {
        rpc_call_finish_err(rpc, err);
        return;
    }
    unary_answer(call, &request);
    rpc_release_pb(grpc_testing_SimpleRequest_fields, &request);
}

/* ---- streaming input ------------------------------------------------------------------------- */

static void input_message(void *arg, struct rpc_call *rpc, const uint8_t *data, size_t len)
{
    struct call *call = arg;
    grpc_testing_StreamingInputCallRequest request = {0};
    err_t err = rpc_decode_pb(grpc_testing_StreamingInputCallRequest_fields, &request, data, len);
    if (err != ERR_OK) {
        rpc_call_finish_err(rpc, err);
        return;
    }
    call->received += request.payload.body.len;
    rpc_release_pb(grpc_testing_StreamingInputCallRequest_fields, &request);
}

static void input_end(void *arg, struct rpc_call *rpc)
{
    struct call *call = arg;
    grpc_testing_StreamingInputCallResponse response = {.aggregated_payload_size =
                                                            (int32_t)call->received};
    err_t err = rpc_call_send_pb(rpc, grpc_testing_StreamingInputCallResponse_fields, &response);
    rpc_call_finish_err(rpc, err);
}

/* ---- streaming output ------------------------------------------------------------------------ */

static void send_one(struct call *call, size_t size)
{
    grpc_testing_StreamingOutputCallResponse response = {.has_payload = true};
    response.payload.body = (struct rpc_bytes){call->interop->zeros, size};
    err_t err =
        rpc_call_send_pb(call->rpc, grpc_testing_StreamingOutputCallResponse_fields, &response);
    if (err != ERR_OK) {
        rpc_call_finish_err(call->rpc, err);
    }
}

/* Pays what is owed, as fast as intervals and the client's window allow. */
static void pay(struct call *call, bool waited)
{
    while (call->owed_at < call->owed_len && !rpc_call_choked(call->rpc)) {
        const struct owed *owed = &call->owed[call->owed_at];
        if (owed->interval_us > 0 && !waited) {
            io_timer_start(call->interop->loop, &call->timer,
                           io_now_us(call->interop->loop) + owed->interval_us);
            return;
        }
        waited = false;
        send_one(call, owed->size);
        call->owed_at++;
    }
    if (call->owed_at == call->owed_len && call->input_ended) {
        rpc_call_finish(call->rpc, RPC_OK, "");
    }
}

static void timer_fired(struct io_timer *timer)
{
    pay(CONTAINER_OF(timer, struct call, timer), true);
}

static void output_drain(void *arg, struct rpc_call *rpc)
{
    struct call *call = arg;
    if (call->timer.heap_at == 0) {
        pay(call, false);
    }
}

static void output_request(struct call *call,
                           const grpc_testing_StreamingOutputCallRequest *request)
{
    if (answered_with_status(call->rpc, request->has_response_status, &request->response_status)) {
        return;
    }
    for (pb_size_t i = 0; i < request->response_parameters_count; i++) {
        const grpc_testing_ResponseParameters *wanted = &request->response_parameters[i];
        if (!size_ok(call->rpc, wanted->size)) {
            return;
        }
        *VEC_PUSH(call, owed) = (struct owed){
            (size_t)wanted->size, wanted->interval_us > 0 ? (uint64_t)wanted->interval_us : 0};
    }
    if (call->timer.heap_at == 0) {
        pay(call, false);
    }
}

static void output_message(void *arg, struct rpc_call *rpc, const uint8_t *data, size_t len)
{
    struct call *call = arg;
    grpc_testing_StreamingOutputCallRequest request = {0};
    err_t err = rpc_decode_pb(grpc_testing_StreamingOutputCallRequest_fields, &request, data, len);
    if (err != ERR_OK) {
        rpc_call_finish_err(rpc, err);
        return;
    }
    output_request(call, &request);
    rpc_release_pb(grpc_testing_StreamingOutputCallRequest_fields, &request);
}

static void output_end(void *arg, struct rpc_call *rpc)
{
    struct call *call = arg;
    call->input_ended = true;
    if (call->timer.heap_at == 0) {
        pay(call, false);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static const struct rpc_handler empty_handler = {.message = empty_message, .close = close_call};
static const struct rpc_handler unary_handler = {.message = unary_message, .close = close_call};
static const struct rpc_handler input_handler = {
    .message = input_message, .half_close = input_end, .close = close_call};
static const struct rpc_handler output_handler = {.message = output_message,
                                                  .half_close = output_end,
                                                  .drain = output_drain,
                                                  .close = close_call};

static void add_methods(struct interop *interop)
{
    static const struct {
        const char *path;
        const struct rpc_handler *handler;
    } methods[] = {
        {"/grpc.testing.TestService/EmptyCall", &empty_handler},
        {"/grpc.testing.TestService/UnaryCall", &unary_handler},
        {"/grpc.testing.TestService/CacheableUnaryCall", &unary_handler},
        {"/grpc.testing.TestService/StreamingInputCall", &input_handler},
        {"/grpc.testing.TestService/StreamingOutputCall", &output_handler},
        {"/grpc.testing.TestService/FullDuplexCall", &output_handler},
    };
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        rpc_server_add_method(interop->server, (struct rpc_method){.path = methods[i].path,
                                                                   .handler = methods[i].handler,
                                                                   .open = open_call,
                                                                   .arg = interop});
    }
}

static err_t authorize(void *arg, const char *peer_name, const char *path)
{
    return pki_check_peer(peer_name, ENVIRONMENT,
                          PKI_ROLE_BIT(PKI_ENVIRONMENTD) | PKI_ROLE_BIT(PKI_CLIENT));
}

static err_t issue_only(struct interop *interop, enum pki_role role, const char *name)
{
    struct pki_files files;
    TRY(pki_issue(interop->pki, role, name, &files));
    pki_files_free(&files);
    return ERR_OK;
}

static err_t make_tls(struct interop *interop)
{
    TRY(pki_init(interop->loop, interop->directory, ENVIRONMENT, &interop->pki));
    TRY(issue_only(interop, PKI_CLIENT, "good"));
    TRY(issue_only(interop, PKI_COMPUTED, "other"));
    struct pki_files files;
    TRY(pki_issue(interop->pki, PKI_STORAGED, "server", &files));
    struct tls_config config = {.certificate_path = files.certificate_path,
                                .key_path = files.key_path,
                                .ca_path = files.ca_path,
                                .require_peer = true,
                                .alpn = "h2"};
    err_t err = tls_context_new(&config, true, &interop->tls);
    pki_files_free(&files);
    return err;
}

static void finish(struct interop *interop)
{
    rpc_server_free(interop->server);
    tls_context_free(interop->tls);
    pki_free(interop->pki);
    free(interop->zeros);
    io_loop_stop(interop->loop);
}

static void drained(void *arg)
{
    finish(arg);
}

static void on_signal(void *arg, int signal_number)
{
    struct interop *interop = arg;
    if (!interop->draining) {
        interop->draining = true;
        rpc_server_drain(interop->server, drained, interop);
    }
}

static err_t start_server(struct interop *interop)
{
    struct rpc_options options = {0};
    if (!interop->plain) {
        TRY(make_tls(interop));
        options.authorize = authorize;
    }
    TRY(rpc_server_new(interop->loop, "127.0.0.1:0", interop->tls, &options, &interop->server));
    add_methods(interop);
    TRY(rpc_server_add_descriptors(interop->server, interop_proto_descriptors,
                                   interop_proto_descriptors_len));
    rpc_server_set_health(interop->server, "grpc.testing.TestService", true);
    rpc_server_set_health(interop->server, "sleeping", false);
    return io_signal_watch(interop->loop, SIGTERM, on_signal, interop);
}

static void start(struct io_loop *loop, void *arg)
{
    struct interop *interop = arg;
    interop->loop = loop;
    interop->zeros = mem_zalloc(RESPONSE_MAX);
    err_t err = start_server(interop);
    if (err != ERR_OK) {
        fprintf(stderr, "interop_server: %s\n", err_text(err));
        err_free(err);
        interop->exit_code = 1;
        finish(interop);
        return;
    }
    printf("%s\n", rpc_server_address(interop->server));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct interop interop = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plain") == 0) {
            interop.plain = true;
        } else if (strcmp(argv[i], "--directory") == 0 && i + 1 < argc) {
            interop.directory = argv[++i];
        } else {
            fprintf(stderr, "usage: interop_server [--plain] --directory DIR\n");
            return 2;
        }
    }
    struct io_env *env;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, start, &interop);
        io_env_free(env);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "interop_server: %s\n", err_text(err));
        err_free(err);
        return 1;
    }
    return interop.exit_code;
}
