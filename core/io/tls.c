/*
 * TLS over io_stream: OpenSSL works on a pipe (tls_pipe.h) to the stream below.
 *
 * Bounds. Ciphertext from below is decrypted as it comes; when the reader pauses, the stream below
 * is paused too, so that at most one delivery of it waits in the pipe. Plaintext to write is
 * encrypted at once, in pieces, into the queue of the stream below, whose length is what
 * io_stream_pending tells the writer; only before the handshake is done it waits here.
 *
 * The end. A peer that closes sends close_notify (close(NULL)); a connection that ends without it
 * may have been cut by somebody else, which is an error the user of the stream sees.
 */
#include "core/io/tls.h"

#include "core/base/buf.h"
#include "core/base/log.h"
#include "core/io/tls_pipe.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

/* What tells a file from the one that was there before it under the same name. */
struct file_stamp {
    ino_t inode;
    off_t size;
    struct timespec changed;
};

enum { FILE_CERTIFICATE, FILE_KEY, FILE_CA, FILES };
enum { RELOAD_EVERY_MS = 1000 }; /* the files are looked at, at most */
struct stamps {
    struct file_stamp of[FILES]; /* zeros: no such file */
};

/* Shared by the threads of a process. Everything above lock is constant once it is made. */
struct tls_context {
    bool server;
    bool verifies; /* peers' certificates are checked against a CA */
    bool require_peer;
    char *path[FILES];     /* NULL: none */
    char *alpn;            /* NULL: none */
    uint8_t alpn_wire[32]; /* length and name, as ALPN has it */
    size_t alpn_wire_len;

    pthread_mutex_t lock;  /* guards what follows */
    SSL_CTX *ctx;          /* replaced when the files were; connections keep the one they have */
    struct stamps stamps;  /* of the files ctx was made from */
    uint64_t looked_ms;    /* when they were looked at last: log_clock_ms */
};

/* ---- errors of OpenSSL ----------------------------------------------------------------------- */

/* "what: reason; reason" from OpenSSL's queue of this thread, which is emptied. */
static err_t openssl_error(enum err_code code, const char *what)
{
    struct buf text = {0};
    unsigned long number;
    while ((number = ERR_get_error()) != 0) {
        const char *reason = ERR_reason_error_string(number);
        buf_printf(&text, "%s%s", text.len == 0 ? "" : "; ",
                   reason == NULL ? "unknown reason" : reason);
    }
    err_t err = err_new(code, "%s: %s", what, text.len == 0 ? "no reason" : buf_cstr(&text));
    buf_free(&text);
    return err;
}

/* ---- contexts -------------------------------------------------------------------------------- */

/* A key others can read is no secret: refused, as ssh and PostgreSQL do. */
static err_t check_key_mode(const char *path)
{
    ASSERT(path != NULL);
    struct stat st;
    if (stat(path, &st) != 0) {
        return err_errno(errno, "TLS key %s", path);
    }
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        err_t err = err_new(ERR_PERMISSION, "TLS key %s can be read by others (mode %04o)", path,
                            (unsigned)(st.st_mode & 07777));
        return err_hint(err, "chmod 600 %s", path);
    }
    return ERR_OK;
}

/* Certificate with its chain, and the key that belongs to it. */
static err_t load_certificate(const struct tls_context *context, SSL_CTX *ctx)
{
    ASSERT(ctx != NULL);
    char what[512];
    const char *certificate = context->path[FILE_CERTIFICATE];
    const char *key = context->path[FILE_KEY];
    if (certificate == NULL) {
        return context->server ? err_new(ERR_INVALID, "a TLS server needs a certificate") : ERR_OK;
    }
    if (key == NULL) {
        return err_new(ERR_INVALID, "TLS certificate %s without a key", certificate);
    }
    TRY(check_key_mode(key));
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
        snprintf(what, sizeof(what), "reading TLS certificate %s", certificate);
        return openssl_error(ERR_INVALID, what);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        snprintf(what, sizeof(what), "reading TLS key %s for certificate %s", key, certificate);
        return openssl_error(ERR_INVALID, what);
    }
    return ERR_OK;
}

/* Who is trusted. A server names its CA to clients, so that they can choose a certificate. */
static err_t load_ca(const struct tls_context *context, SSL_CTX *ctx)
{
    ASSERT(ctx != NULL);
    const char *path = context->path[FILE_CA];
    if (path == NULL) {
        return context->require_peer
                   ? err_new(ERR_INVALID, "TLS peers cannot be required without a CA file")
                   : ERR_OK;
    }
    if (SSL_CTX_load_verify_file(ctx, path) != 1) {
        char what[512];
        snprintf(what, sizeof(what), "reading TLS CA %s", path);
        return openssl_error(ERR_INVALID, what);
    }
    int mode = SSL_VERIFY_PEER;
    if (context->server) {
        SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(path));
        mode |= context->require_peer ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    }
    SSL_CTX_set_verify(ctx, mode, NULL);
    return ERR_OK;
}

/* The one protocol we speak, or a fatal alert: a guess would fail later and less clearly. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    const struct tls_context *context = arg;
    ASSERT(context->server);
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, context->alpn_wire,
                              (unsigned)context->alpn_wire_len, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* The name as the wire has it. */
static err_t take_alpn(struct tls_context *context, const char *alpn)
{
    ASSERT(context->alpn == NULL);
    if (alpn == NULL) {
        return ERR_OK;
    }
    size_t len = strlen(alpn);
    if (len == 0 || len >= sizeof(context->alpn_wire)) {
        return err_new(ERR_INVALID, "\"%s\" cannot be an ALPN name", alpn);
    }
    context->alpn = mem_strdup(alpn);
    context->alpn_wire[0] = (uint8_t)len;
    memcpy(context->alpn_wire + 1, alpn, len);
    context->alpn_wire_len = len + 1;
    return ERR_OK;
}

static err_t set_alpn(struct tls_context *context, SSL_CTX *ctx)
{
    ASSERT(ctx != NULL);
    if (context->alpn == NULL) {
        return ERR_OK;
    }
    if (context->server) {
        SSL_CTX_set_alpn_select_cb(ctx, select_alpn, context);
    } else if (SSL_CTX_set_alpn_protos(ctx, context->alpn_wire,
                                       (unsigned)context->alpn_wire_len) != 0) {
        return openssl_error(ERR_INTERNAL, "setting the ALPN name");
    }
    return ERR_OK;
}

/* The client's order counts. AES-128 first: it is a third faster than OpenSSL's first choice and no
 * weaker in practice; ChaCha20 for processors without AES. */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* TLS 1.3 only, no resumption: nothing of ours talks to anything older. */
static err_t configure(struct tls_context *context, SSL_CTX *ctx)
{
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0); /* each connection proves who it is */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    ASSERT(SSL_CTX_set_ciphersuites(ctx, CIPHERS) == 1);
    TRY(load_certificate(context, ctx));
    TRY(load_ca(context, ctx));
    return set_alpn(context, ctx);
}

/* What OpenSSL needs, from the files as they are now. */
static err_t load(struct tls_context *context, SSL_CTX **out)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(context->server ? TLS_server_method() : TLS_client_method());
    if (ctx == NULL) {
        return openssl_error(ERR_INTERNAL, "making a TLS context");
    }
    err_t err = configure(context, ctx);
    if (err != ERR_OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    *out = ctx;
    return ERR_OK;
}

/* A file that cannot be examined counts as none: loading it says what is wrong. */
static struct stamps look(const struct tls_context *context)
{
    struct stamps stamps;
    memset(&stamps, 0, sizeof(stamps)); /* compared as memory: padding too */
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        if (context->path[i] != NULL && stat(context->path[i], &st) == 0) {
            stamps.of[i].inode = st.st_ino;
            stamps.of[i].size = st.st_size;
            stamps.of[i].changed = st.st_mtim;
        }
    }
    return stamps;
}

/*
 * Certificates are renewed while we run: ctrl/pki puts new files in the place of the old ones, the
 * key first. Under the lock. A pair that does not fit (yet) leaves everything as it was, and is
 * looked at again by the next handshake.
 */
static void reload_if_changed(struct tls_context *context)
{
    uint64_t now_ms = log_clock_ms();
    if (now_ms - context->looked_ms < RELOAD_EVERY_MS) {
        return;
    }
    context->looked_ms = now_ms;
    struct stamps stamps = look(context);
    if (memcmp(&stamps, &context->stamps, sizeof(stamps)) == 0) {
        return;
    }
    SSL_CTX *fresh = NULL;
    err_t err = load(context, &fresh);
    const char *path = context->path[FILE_CERTIFICATE] != NULL ? context->path[FILE_CERTIFICATE]
                                                               : context->path[FILE_CA];
    if (err != ERR_OK) {
        LOG_LIMITED(LOG_LEVEL_WARN, "tls", "changed files are not used",
                    LOG_STR("certificate", path), LOG_ERR(err));
        err_free(err);
        return;
    }
    SSL_CTX_free(context->ctx); /* connections hold references of their own */
    context->ctx = fresh;
    context->stamps = stamps;
    LOG_INFO("tls", "certificate loaded anew", LOG_STR("certificate", path));
}

/* One connection of the context as its files are now. Any thread. */
static SSL *connection_new(struct tls_context *context)
{
    ASSERT(pthread_mutex_lock(&context->lock) == 0);
    reload_if_changed(context);
    SSL *ssl = SSL_new(context->ctx);
    ASSERT(pthread_mutex_unlock(&context->lock) == 0);
    return ssl;
}

static char *copy_path(const char *path)
{
    return path != NULL ? mem_strdup(path) : NULL;
}

err_t tls_context_new(const struct tls_config *config, bool server, struct tls_context **out)
{
    ASSERT(config != NULL && out != NULL);
    struct tls_context *context = MEM_NEW(struct tls_context);
    ASSERT(pthread_mutex_init(&context->lock, NULL) == 0);
    context->server = server;
    context->verifies = config->ca_path != NULL;
    context->require_peer = config->require_peer;
    context->path[FILE_CERTIFICATE] = copy_path(config->certificate_path);
    context->path[FILE_KEY] = copy_path(config->key_path);
    context->path[FILE_CA] = copy_path(config->ca_path);
    context->stamps = look(context); /* first: a change while we read is seen as one later */
    context->looked_ms = log_clock_ms();
    err_t err = take_alpn(context, config->alpn);
    if (err == ERR_OK) {
        err = load(context, &context->ctx);
    }
    if (err != ERR_OK) {
        tls_context_free(context);
        return err;
    }
    *out = context;
    return ERR_OK;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL) {
        return;
    }
    SSL_CTX_free(context->ctx);
    ASSERT(pthread_mutex_destroy(&context->lock) == 0);
    for (int i = 0; i < FILES; i++) {
        free(context->path[i]);
    }
    free(context->alpn);
    free(context);
}

/* ---- streams --------------------------------------------------------------------------------- */

/* The plaintext of a record, and how much OpenSSL is given at once (its lengths are ints). */
enum { RECORD_MAX = 16384, WRITE_PIECE = 1 << 30 };
enum { PLACE_MIN = 4096 }; /* a smaller place is not worth a call of SSL_read of its own */

struct tls_stream {
    struct io_stream base;
    struct tls_context *context;
    struct io_stream *under; /* NULL: it has ended */
    SSL *ssl;
    struct tls_pipe pipe;
    struct io_timer timer; /* something to do from the loop: failed, or input that waits */
    io_connect_fn ready;
    char *peer;
    char *peer_name;
    struct buf waiting; /* plaintext written before the handshake was done */
    err_t failed;       /* told from the timer */
    unsigned busy;
    bool established;
    bool paused;
    bool above; /* pending has passed high_water: drain is owed */
    bool gone;  /* closed by either side: freed when not busy */
};

static struct tls_stream *of(const struct io_stream *stream)
{
    return CONTAINER_OF((struct io_stream *)(uintptr_t)stream, struct tls_stream, base);
}

/* The one place where a stream's memory ends; the stream below was let go before. */
static void stream_free(struct tls_stream *s)
{
    ASSERT(s->busy == 0 && s->under == NULL);
    SSL_free(s->ssl);
    tls_pipe_free(&s->pipe);
    buf_free(&s->waiting);
    err_free(s->failed);
    free(s->peer);
    free(s->peer_name);
    free(s);
}

/* Between enter and leave the memory stays, whatever handlers do to the stream. */
static void enter(struct tls_stream *s)
{
    s->busy++;
}

static void leave(struct tls_stream *s)
{
    ASSERT(s->busy > 0);
    s->busy--;
    if (s->busy == 0 && s->gone) {
        stream_free(s);
    }
}

/* Lets go of everything but the memory. flush: what is queued below still goes out. */
static void detach(struct tls_stream *s, bool flush)
{
    ASSERT(!s->gone);
    io_timer_cancel(s->base.loop, &s->timer);
    struct io_stream *under = s->under;
    s->under = NULL;
    s->pipe.under = NULL;
    if (under != NULL && flush) {
        io_stream_finish(under);
    } else if (under != NULL) {
        io_stream_close(under);
    }
    s->gone = true;
}

/* Ciphertext made so far goes to the stream below. */
static void flush_below(struct tls_stream *s)
{
    ASSERT(s->pipe.under == s->under);
    if (s->under != NULL) {
        io_stream_set_high_water(s->under, s->base.high_water);
    }
    tls_pipe_flush(&s->pipe);
    s->above = s->above ||
               (s->under != NULL && io_stream_pending(s->under) > s->base.high_water);
}

/* The end, from the loop: tells the user. Owns reason. */
static void end(struct tls_stream *s, err_t reason)
{
    if (s->gone) {
        err_free(reason);
        return;
    }
    enter(s);
    flush_below(s); /* an alert for the peer, or our close_notify */
    detach(s, true);
    if (s->base.handler != NULL && s->base.handler->close != NULL) {
        s->base.handler->close(s->base.arg, reason);
    } else {
        err_free(reason);
    }
    leave(s);
}

/* From inside a call of the user: the end follows from the loop. Owns reason. */
static void fail_later(struct tls_stream *s, err_t reason)
{
    ASSERT(reason != ERR_OK && !s->gone);
    if (s->failed != ERR_OK) {
        err_free(reason);
        return;
    }
    s->failed = reason;
    io_timer_start(s->base.loop, &s->timer, io_now_us(s->base.loop));
}

/* What went wrong in the handshake or after it, in words. */
static err_t describe(struct tls_stream *s, const char *what)
{
    ASSERT(what != NULL);
    long verified = SSL_get_verify_result(s->ssl);
    char text[256];
    if (!s->established && verified != X509_V_OK && s->context->verifies) {
        snprintf(text, sizeof(text), "%s with %s: the peer's certificate does not verify (%s)",
                 what, s->peer, X509_verify_cert_error_string(verified));
    } else {
        snprintf(text, sizeof(text), "%s with %s", what, s->peer);
    }
    return openssl_error(s->established ? ERR_PROTOCOL : ERR_PERMISSION, text);
}

/* ---- identity of the peer -------------------------------------------------------------------- */

/* A copy when it is plain text without NUL, else NULL. */
static char *text_of(const ASN1_STRING *string)
{
    ASSERT(string != NULL);
    const unsigned char *data = ASN1_STRING_get0_data(string);
    size_t len = (size_t)ASN1_STRING_length(string);
    for (size_t i = 0; i < len; i++) {
        if (data[i] < 0x20 || data[i] > 0x7e) {
            return NULL;
        }
    }
    return mem_strndup((const char *)data, len);
}

/* The first URI among the alternative names: the identity ctrl/pki issues. */
static char *uri_of(X509 *certificate)
{
    ASSERT(certificate != NULL);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    char *uri = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && uri == NULL; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            uri = text_of(name->d.uniformResourceIdentifier);
        }
    }
    GENERAL_NAMES_free(names);
    return uri;
}

/* For certificates of others, which have no URI. */
static char *common_name_of(X509 *certificate)
{
    ASSERT(certificate != NULL);
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at < 0 ? NULL : text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

/* Only a verified certificate is an identity; everything else is nobody, "". */
static char *identify_peer(struct tls_stream *s)
{
    ASSERT(s->peer_name == NULL);
    X509 *certificate = SSL_get1_peer_certificate(s->ssl);
    char *name = NULL;
    if (certificate != NULL && s->context->verifies && SSL_get_verify_result(s->ssl) == X509_V_OK) {
        name = uri_of(certificate);
        name = name != NULL ? name : common_name_of(certificate);
    }
    X509_free(certificate);
    return name != NULL ? name : mem_strdup("");
}

/* ---- handshake ------------------------------------------------------------------------------- */

static void write_plain(struct tls_stream *s, const uint8_t *data, size_t len);

/* Both sides must mean the same protocol before a byte of it is sent. */
static err_t check_alpn(struct tls_stream *s)
{
    ASSERT(!s->established);
    const unsigned char *chosen;
    unsigned len;
    SSL_get0_alpn_selected(s->ssl, &chosen, &len);
    /* HTTP/1.1 is also spoken by clients that offer nothing; h2 never is. */
    if (s->context->alpn != NULL && len == 0 &&
        (strcmp(s->context->alpn, "h2") == 0 || !s->context->server)) {
        return err_new(ERR_PROTOCOL, "TLS with %s: the peer did not agree to ALPN \"%s\"", s->peer,
                       s->context->alpn);
    }
    return ERR_OK;
}

/* The handshake is done: what was written meanwhile goes out, then the user hears of it. */
static void established(struct tls_stream *s)
{
    ASSERT(!s->established && !s->gone);
    err_t err = check_alpn(s);
    if (err != ERR_OK) {
        end(s, err);
        return;
    }
    s->established = true;
    s->peer_name = identify_peer(s);
    flush_below(s);
    write_plain(s, s->waiting.data, s->waiting.len);
    buf_free(&s->waiting);
    if (s->ready != NULL) {
        s->ready(s->base.arg, &s->base);
    }
}

/* True when the handshake is done; else it waits for the peer, or has failed. */
static bool shake_hands(struct tls_stream *s)
{
    ASSERT(!s->gone);
    if (s->established) {
        return true;
    }
    ERR_clear_error();
    int result = SSL_do_handshake(s->ssl);
    if (result == 1) {
        established(s);
        return !s->gone;
    }
    if (SSL_get_error(s->ssl, result) == SSL_ERROR_WANT_READ) {
        flush_below(s);
        return false;
    }
    end(s, describe(s, "TLS handshake"));
    return false;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Decrypts what is left of a record into the handler's place where it has one, else into plain. */
static int read_record(struct tls_stream *s, uint8_t plain[RECORD_MAX], uint8_t **at)
{
    const struct io_stream_handler *handler = s->base.handler;
    size_t most = 0;
    *at = handler != NULL && handler->place != NULL ? handler->place(s->base.arg, &most) : NULL;
    if (*at == NULL || most < PLACE_MIN) {
        *at = plain;
        most = RECORD_MAX;
    }
    most = most < RECORD_MAX ? most : RECORD_MAX;
    return SSL_read(s->ssl, *at, (int)most);
}

/* Decrypts what is there and hands it up, until it is used up, paused or over. */
static void read_plain(struct tls_stream *s)
{
    uint8_t plain[RECORD_MAX];
    while (!s->gone && !s->paused) {
        ERR_clear_error();
        uint8_t *at;
        int len = read_record(s, plain, &at);
        if (len > 0) {
            if (s->base.handler != NULL && s->base.handler->data != NULL) {
                s->base.handler->data(s->base.arg, at, (size_t)len, NULL, 0);
            }
            continue;
        }
        switch (SSL_get_error(s->ssl, len)) {
        case SSL_ERROR_WANT_READ:
            flush_below(s); /* a reply to a key update */
            return;
        case SSL_ERROR_ZERO_RETURN:
            (void)SSL_shutdown(s->ssl);
            end(s, ERR_OK);
            return;
        default:
            end(s, describe(s, "TLS"));
            return;
        }
    }
}

/* Makes what progress the bytes that are there allow. */
static void process_input(struct tls_stream *s)
{
    ASSERT(!s->gone);
    enter(s);
    if (shake_hands(s)) {
        read_plain(s);
    }
    tls_pipe_take_back(&s->pipe);
    leave(s);
}

static void under_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct tls_stream *s = arg;
    ASSERT(fds_len == 0 && len <= INT32_MAX);
    tls_pipe_lend(&s->pipe, data, len);
    process_input(s);
}

/* Ciphertext has left the queue below: the writer may go on. */
static void under_drain(void *arg)
{
    struct tls_stream *s = arg;
    ASSERT(!s->gone);
    if (s->above && s->established) {
        s->above = false;
        if (s->base.handler != NULL && s->base.handler->drain != NULL) {
            s->base.handler->drain(s->base.arg);
        }
    }
}

/* The stream below ended by itself. Without close_notify that is never the orderly end. */
static void under_close(void *arg, err_t reason)
{
    struct tls_stream *s = arg;
    ASSERT(!s->gone);
    s->under = NULL;
    s->pipe.under = NULL;
    if (reason == ERR_OK) {
        reason =
            s->established
                ? err_new(ERR_CLOSED, "%s closed the connection without TLS close_notify", s->peer)
                : err_new(ERR_CLOSED, "%s closed the connection during the TLS handshake", s->peer);
    }
    end(s, reason);
}

static const struct io_stream_handler under_handler = {
    .data = under_data,
    .drain = under_drain,
    .close = under_close,
};

static void timer_fired(struct io_timer *timer)
{
    struct tls_stream *s = CONTAINER_OF(timer, struct tls_stream, timer);
    ASSERT(!s->gone);
    if (s->failed != ERR_OK) {
        err_t reason = s->failed;
        s->failed = ERR_OK;
        end(s, reason);
        return;
    }
    process_input(s);
}

/* ---- the stream's table ---------------------------------------------------------------------- */

static void write_plain(struct tls_stream *s, const uint8_t *data, size_t len)
{
    ASSERT(s->established);
    if (s->under != NULL) { /* full chunks go there before flush_below */
        io_stream_set_high_water(s->under, s->base.high_water);
    }
    while (len > 0 && s->failed == ERR_OK) {
        int piece = (int)(len < WRITE_PIECE ? len : WRITE_PIECE);
        ERR_clear_error();
        int written = SSL_write(s->ssl, data, piece);
        if (written <= 0) {
            fail_later(s, describe(s, "TLS"));
            break;
        }
        ASSERT(written <= piece);
        data += written;
        len -= (size_t)written;
    }
    flush_below(s);
}

static void tls_write(struct io_stream *stream, const void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    struct tls_stream *s = of(stream);
    if (s->gone || s->failed != ERR_OK || s->under == NULL) {
        return;
    }
    if (s->established) {
        write_plain(s, data, len);
    } else {
        buf_append(&s->waiting, data, len);
    }
}

static void tls_write_ref(struct io_stream *stream, const void *data, size_t len,
                          void (*release)(void *), void *arg)
{
    tls_write(stream, data, len); /* encrypted into the queue below: no longer needed */
    if (release != NULL) {
        release(arg);
    }
}

static void tls_write_fds(struct io_stream *stream, const void *data, size_t len, const int *fds,
                          size_t fds_len)
{
    UNREACHABLE(); /* descriptors travel over Unix sockets, which need no TLS */
}

static size_t tls_pending(const struct io_stream *stream)
{
    const struct tls_stream *s = of(stream);
    return s->waiting.len + (s->under == NULL ? 0 : io_stream_pending(s->under));
}

/* The ciphertext's sender is held back too, so that at most one delivery waits here. */
static void tls_pause(struct io_stream *stream, bool paused)
{
    struct tls_stream *s = of(stream);
    if (s->gone || s->paused == paused) {
        return;
    }
    s->paused = paused;
    if (s->under == NULL) {
        return;
    }
    if (paused) {
        io_stream_pause(s->under);
    } else {
        io_stream_resume(s->under);
        /* What was decrypted or received before the pause comes first; nothing may overtake it:
         * the pipe is read from its front. */
        io_timer_start(s->base.loop, &s->timer, io_now_us(s->base.loop));
    }
}

/* flush: close_notify and everything queued still go out. */
static void tls_close(struct io_stream *stream, bool flush)
{
    struct tls_stream *s = of(stream);
    if (s->gone) {
        return;
    }
    enter(s);
    bool in_order = flush && s->established && s->failed == ERR_OK;
    if (in_order) {
        ERR_clear_error();
        (void)SSL_shutdown(s->ssl);
        flush_below(s);
    }
    detach(s, in_order);
    leave(s);
}

static const char *tls_peer(const struct io_stream *stream)
{
    return of(stream)->peer;
}

static const char *tls_peer_name(const struct io_stream *stream)
{
    const struct tls_stream *s = of(stream);
    return s->peer_name == NULL ? "" : s->peer_name;
}

static err_t tls_peer_cred(const struct io_stream *stream, pid_t *pid, uid_t *uid)
{
    const struct tls_stream *s = of(stream);
    if (s->under == NULL) {
        return err_new(ERR_CLOSED, "the connection has ended");
    }
    return io_stream_peer_cred(s->under, pid, uid);
}

static const struct io_stream_ops tls_ops = {
    .write = tls_write,
    .write_ref = tls_write_ref,
    .write_fds = tls_write_fds,
    .pending = tls_pending,
    .pause = tls_pause,
    .close = tls_close,
    .peer = tls_peer,
    .peer_name = tls_peer_name,
    .peer_cred = tls_peer_cred,
};

/* ---- starting -------------------------------------------------------------------------------- */

/* The pipe instead of a socket. */
static err_t make_ssl(struct tls_stream *s, const char *server_name)
{
    ASSERT(s->context != NULL && s->ssl == NULL);
    ERR_clear_error();
    s->ssl = connection_new(s->context);
    BIO *bio = tls_pipe_bio(&s->pipe);
    ASSERT(s->ssl != NULL && bio != NULL);
    SSL_set_bio(s->ssl, bio, bio);
    if (s->context->server) {
        SSL_set_accept_state(s->ssl);
        return ERR_OK;
    }
    SSL_set_connect_state(s->ssl);
    if (server_name != NULL && (SSL_set_tlsext_host_name(s->ssl, server_name) != 1 ||
                                SSL_set1_host(s->ssl, server_name) != 1)) {
        return openssl_error(ERR_INVALID, "setting the TLS server name");
    }
    return ERR_OK;
}

void tls_start(struct tls_context *context, struct io_stream *under, const char *server_name,
               const uint8_t *early, size_t early_len, const struct io_stream_handler *handler,
               void *arg, io_connect_fn ready, struct io_stream **out)
{
    ASSERT(context != NULL && under != NULL && out != NULL);
    ASSERT(early_len == 0 || early != NULL);
    struct tls_stream *s = MEM_NEW(struct tls_stream);
    s->base = (struct io_stream){.ops = &tls_ops,
                                 .loop = io_stream_loop(under),
                                 .handler = handler,
                                 .arg = arg,
                                 .high_water = under->high_water,
                                 .sealed = true};
    s->context = context;
    s->under = under;
    tls_pipe_init(&s->pipe, under);
    s->ready = ready;
    s->timer.fire = timer_fired;
    s->peer = mem_strdup(io_stream_peer(under));
    io_stream_set_handler(under, &under_handler, s);
    *out = &s->base;
    err_t err = make_ssl(s, server_name);
    if (err != ERR_OK) {
        fail_later(s, err);
        return;
    }
    if (early_len > 0) {
        tls_pipe_lend(&s->pipe, early, early_len);
        tls_pipe_take_back(&s->pipe);
    }
    /* The client's hello, or bytes already there: from the loop, like everything else. */
    io_timer_start(s->base.loop, &s->timer, io_now_us(s->base.loop));
}
