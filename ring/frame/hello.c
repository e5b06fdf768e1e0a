/*
 * The handshake's message: see hello.h. Fields of fixed size in one order, then the host's name
 * with its length, then the proof; nothing follows. The magic and the version come first and keep
 * their places for ever, so that a peer of any version can be told what is wrong with it.
 *
 * hello_decode checks what can be checked without knowing anybody (form and bounds), hello_check
 * what both protocols ask of a peer; who may connect to whom is judged above (exchange.c, server.c,
 * client.c). Proofs are HMAC-SHA-256 under the node's secret, compared in constant time.
 */
#include "ring/frame/hello.h"

#include "core/base/utf8.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

STATIC_ASSERT(HELLO_HOST_MAX <= UINT8_MAX, "its length is one byte");
STATIC_ASSERT(HELLO_WORKERS_MAX <= UINT16_MAX, "frames name workers by 16 bits");

/* A longer name is cut: it is only compared, and both sides cut alike. */
void hello_set_host(struct hello *hello, const char *host)
{
    ASSERT(host != NULL);
    size_t len = strlen(host);
    len = len < HELLO_HOST_MAX ? len : HELLO_HOST_MAX;
    memset(hello->host, 0, sizeof(hello->host));
    memcpy(hello->host, host, len);
}

/* The same fields in the same order as decode_fields. */
void hello_encode(struct buf *out, const struct hello *h)
{
    size_t host_len = strlen(h->host);
    ASSERT(host_len <= HELLO_HOST_MAX && h->workers <= HELLO_WORKERS_MAX);
    buf_append_u64(out, HELLO_MAGIC);
    buf_append_u16(out, h->version);
    buf_append_byte(out, h->protocol);
    buf_append_byte(out, h->role);
    buf_append_byte(out, h->carriers);
    buf_append(out, h->environment, sizeof(h->environment));
    buf_append_u64(out, h->service);
    buf_append_u32(out, h->process);
    buf_append_u64(out, h->generation);
    buf_append_u64(out, h->epoch);
    buf_append_u64(out, h->nonce);
    buf_append_u64(out, h->challenge);
    buf_append_u32(out, h->workers);
    buf_append_u32(out, h->worker_base);
    buf_append_u32(out, h->processes);
    buf_append_u64(out, h->formation);
    buf_append_byte(out, (uint8_t)host_len);
    buf_append(out, h->host, host_len);
    buf_append(out, h->proof, sizeof(h->proof));
    ASSERT(out->len <= HELLO_LEN_MAX);
}

static err_t refuse(enum hello_refusal *out, enum hello_refusal refusal, err_t err)
{
    *out = refusal;
    return err;
}

/* Behind the version. A name with a NUL would compare equal to a shorter one; one that is no UTF-8
 * would spoil the log. */
static void decode_fields(struct reader *r, struct hello *h)
{
    h->protocol = reader_u8(r);
    h->role = reader_u8(r);
    h->carriers = reader_u8(r);
    const void *environment = reader_bytes(r, sizeof(h->environment));
    h->service = reader_u64(r);
    h->process = reader_u32(r);
    h->generation = reader_u64(r);
    h->epoch = reader_u64(r);
    h->nonce = reader_u64(r);
    h->challenge = reader_u64(r);
    h->workers = reader_u32(r);
    h->worker_base = reader_u32(r);
    h->processes = reader_u32(r);
    h->formation = reader_u64(r);
    size_t host_len = reader_u8(r);
    const void *host = reader_bytes(r, host_len);
    const void *proof = reader_bytes(r, sizeof(h->proof));
    if (host_len > HELLO_HOST_MAX) {
        r->failed = true;
    }
    if (!r->failed) {
        memcpy(h->environment, environment, sizeof(h->environment));
        memcpy(h->host, host, host_len);
        memcpy(h->proof, proof, sizeof(h->proof));
        r->failed = memchr(h->host, 0, host_len) != NULL || !utf8_valid(h->host, host_len);
    }
}

/* What the magic or the version refuse is told apart, as only then the rest means something. */
err_t hello_decode(const uint8_t *data, size_t len, struct hello *out, enum hello_refusal *refusal)
{
    *out = (struct hello){0};
    struct reader r = reader_of(data, len);
    if (reader_u64(&r) != HELLO_MAGIC) {
        return refuse(refusal, REFUSE_MAGIC, err_new(ERR_PROTOCOL, "not a Tailrace handshake"));
    }
    out->version = reader_u16(&r);
    if (out->version != HELLO_VERSION) {
        return refuse(refusal, REFUSE_VERSION,
                      err_new(ERR_PROTOCOL, "protocol version %u, this side speaks %d",
                              out->version, HELLO_VERSION));
    }
    decode_fields(&r, out);
    if (r.failed || reader_left(&r) != 0) {
        return refuse(refusal, REFUSE_FRAME, err_new(ERR_PROTOCOL, "malformed handshake"));
    }
    if (out->workers == 0 || out->workers > HELLO_WORKERS_MAX ||
        out->worker_base > UINT32_MAX - HELLO_WORKERS_MAX || out->processes > UINT16_MAX) {
        return refuse(refusal, REFUSE_FRAME,
                      err_new(ERR_PROTOCOL, "handshake with %u workers from %u", out->workers,
                              out->worker_base));
    }
    return ERR_OK;
}

/* role: which one we expect. The texts name no more of us than the peer has to know. */
err_t hello_check(const struct hello *theirs, const struct hello *ours, enum hello_role role,
                  enum hello_refusal *refusal)
{
    if (theirs->protocol != ours->protocol) {
        return refuse(refusal, REFUSE_PROTOCOL,
                      err_new(ERR_PROTOCOL, "the peer speaks protocol %u, this port %u",
                              theirs->protocol, ours->protocol));
    }
    if (memcmp(theirs->environment, ours->environment, sizeof(ours->environment)) != 0) {
        return refuse(refusal, REFUSE_ENVIRONMENT,
                      err_new(ERR_PERMISSION, "the peer belongs to another environment"));
    }
    if (theirs->role != role) {
        return refuse(refusal, REFUSE_ROLE,
                      err_new(ERR_PERMISSION, "the peer's role is %u, expected %d", theirs->role,
                              role));
    }
    return ERR_OK;
}

const char *hello_refusal_name(enum hello_refusal refusal)
{
    static const char *const names[] = {
        [REFUSE_MAGIC] = "magic",           [REFUSE_VERSION] = "version",
        [REFUSE_PROTOCOL] = "protocol",     [REFUSE_ENVIRONMENT] = "environment",
        [REFUSE_ROLE] = "role",             [REFUSE_EPOCH] = "epoch",
        [REFUSE_GENERATION] = "generation", [REFUSE_PROCESS] = "process",
        [REFUSE_CARRIER] = "carrier",       [REFUSE_NOT_READY] = "not ready",
        [REFUSE_FRAME] = "bad frame",
    };
    return refusal >= REFUSE_MAGIC && refusal <= REFUSE_LAST ? names[refusal] : "unknown";
}

/* Does it help to try again without anybody changing anything? */
bool hello_refusal_transient(enum hello_refusal refusal)
{
    /* A carrier is refused towards one socket of the peer; another one may do. An epoch that is
     * over is renewed by the controller, a generation gives way when the newer process goes. */
    return refusal == REFUSE_NOT_READY || refusal == REFUSE_CARRIER || refusal == REFUSE_FRAME ||
           refusal == REFUSE_EPOCH || refusal == REFUSE_GENERATION;
}

/* The label and both challenges are what is authenticated: one proof is good for one connection and
 * one direction. */
void hello_prove(const uint8_t *secret, size_t secret_len, const char *label, uint64_t client,
                 uint64_t server, uint8_t out[HELLO_PROOF_LEN])
{
    ASSERT(secret != NULL && secret_len > 0 && label[0] != 0);
    struct buf text = {0};
    buf_append_str(&text, label);
    buf_append_u64(&text, client);
    buf_append_u64(&text, server);
    unsigned len = 0;
    ASSERT(secret_len <= INT32_MAX);
    ASSERT(HMAC(EVP_sha256(), secret, (int)secret_len, text.data, text.len, out, &len) != NULL);
    ASSERT(len == HELLO_PROOF_LEN);
    buf_free(&text);
}

/* In time that does not depend on where they differ. */
bool hello_proof_equal(const uint8_t a[HELLO_PROOF_LEN], const uint8_t b[HELLO_PROOF_LEN])
{
    return CRYPTO_memcmp(a, b, HELLO_PROOF_LEN) == 0;
}
