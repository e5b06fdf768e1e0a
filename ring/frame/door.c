/*
 * Doors and dialers: see door.h. Everything runs on the net loop that owns them.
 *
 *   door:    accepted -> visit (greeting under way) -> judged -> done, or refused and logged
 *   dialer:  idle -> timer -> attempt (greeting) -> done            (the owner starts it again)
 *                                                -> failed -> timer -> attempt ...
 *
 * A visit owns its greeting and is forgotten before done or the log line, so that the owner may do
 * what it likes in there, also free the door. A dialer has a greeting or an armed timer or neither,
 * never both. Each attempt by the local socket that fails is followed at once by one over TCP,
 * unless local_only; only a failure of the latter counts for the back-off.
 *
 * The local socket gives access to shared memory, so its peer must be on this host (the names of
 * hosts, which a stranger could guess), the same user (the kernel's word), and know the node's
 * secret (a proof over both sides' fresh challenges, so an old one cannot be used again). The
 * acceptor proves itself in its WELCOME; the one that connects does so in its first message behind
 * the handshake, when it has seen the acceptor's challenge: the session checks that (shm.c).
 */
#include "ring/frame/door.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <unistd.h>

enum {
    GREETINGS_MAX = 256, /* handshakes under way at a time: strangers take no more memory */
    BACKOFF_MIN_US = 10 * 1000,   /* doubled from attempt to attempt */
    BACKOFF_MAX_US = 1000 * 1000, /* so long at most until a peer that comes back is found */
    SECRET_MAX = 4096, /* bytes of the file */
};
STATIC_ASSERT(BACKOFF_MIN_US <= BACKOFF_MAX_US, "it grows");

/* ---- being on the same node ------------------------------------------------------------------ */

/* root may be anybody, and could read the secret anyhow. */
static err_t same_user(struct io_stream *stream)
{
    pid_t pid;
    uid_t uid;
    TRY(io_stream_peer_cred(stream, &pid, &uid));
    if (uid != getuid() && uid != 0) {
        return err_new(ERR_PERMISSION, "the local peer runs as user %u", (unsigned)uid);
    }
    return ERR_OK;
}

/* Proofs under the node's secret, for the two sides of a connection. The labels differ, so that one
 * side's proof sent back to it proves nothing. The file is read each time: a secret that was
 * changed holds from the next connection on. */
static err_t prove(struct io_loop *loop, const char *path, uint64_t client, uint64_t server,
                   uint8_t client_proof[HELLO_PROOF_LEN], uint8_t server_proof[HELLO_PROOF_LEN])
{
    ASSERT(path != NULL && client_proof != server_proof);
    uint8_t *secret = NULL;
    size_t len = 0;
    TRY(err_wrap(io_read_whole_sync(loop, path, SECRET_MAX, &secret, &len), "the node's secret"));
    if (len == 0) {
        free(secret);
        return err_new(ERR_INVALID, "the node's secret %s is empty", path);
    }
    hello_prove(secret, len, "tailrace ring client", client, server, client_proof);
    hello_prove(secret, len, "tailrace ring server", client, server, server_proof);
    free(secret);
    return ERR_OK;
}

/* Paths are taken with or without the scheme of io.h. */
static char *local_address(const char *path)
{
    struct buf text = {0};
    if (strncmp(path, "unixpacket:", 11) != 0) {
        buf_append_str(&text, "unixpacket:");
    }
    buf_append_str(&text, path);
    char *address = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return address;
}

/* ---- door ------------------------------------------------------------------------------------ */

/* Somebody at the door, until the greeting is over. */
struct visit {
    struct door *door;
    struct visit *next;
    struct visit *prev;
    struct greeting *greeting;
    struct io_stream *stream; /* while greeting */
    char *peer;               /* for the log: the stream goes before a failure is told */
    bool local;
    uint8_t client_proof[HELLO_PROOF_LEN]; /* local: what the peer has to show */
};

struct door {
    struct door_config config;
    struct io_listener *tcp;   /* NULL: not asked for, as local */
    struct io_listener *local;
    char *address;      /* TCP, with the real port */
    char *secret_path;  /* with local only */
    struct visit *visits; /* newest first */
    size_t visits_len;  /* <= GREETINGS_MAX */
};

/* The greeting has ended, or was cancelled. */
static void visit_free(struct visit *visit)
{
    struct door *door = visit->door;
    ASSERT(door->visits_len > 0);
    door->visits_len--;
    if (visit->next != NULL) {
        visit->next->prev = visit->prev;
    }
    *(visit->prev != NULL ? &visit->prev->next : &door->visits) = visit->next;
    free(visit->peer);
    free(visit);
}

/* Another way to connect may do: a peer refused so tries TCP next. */
static err_t carrier_refused(enum hello_refusal *refusal, err_t err)
{
    *refusal = REFUSE_CARRIER;
    return err;
}

/* Behind the owner's judgement; fills our proof. */
static err_t judge_local(struct visit *visit, const struct hello *theirs, struct hello *welcome,
                         enum hello_refusal *refusal)
{
    struct door *door = visit->door;
    ASSERT(visit->local && door->secret_path != NULL);
    if (strcmp(theirs->host, welcome->host) != 0) {
        return carrier_refused(refusal, err_new(ERR_PERMISSION, "the peer is on another host"));
    }
    err_t err = same_user(visit->stream);
    if (err == ERR_OK) {
        err = prove(door->config.loop, door->secret_path, theirs->challenge, welcome->challenge,
                    visit->client_proof, welcome->proof);
    }
    return err == ERR_OK ? ERR_OK : carrier_refused(refusal, err);
}

/* The cheap question first, then the owner's, then files and proofs. */
static err_t visit_judge(void *arg, const struct hello *theirs, const char *peer_name,
                         struct hello *welcome, enum hello_refusal *refusal)
{
    struct visit *visit = arg;
    struct door *door = visit->door;
    uint8_t carrier = visit->local ? HELLO_SHM : HELLO_TCP;
    if ((theirs->carriers & carrier) == 0) {
        return carrier_refused(refusal, err_new(ERR_UNSUPPORTED, "no carrier in common"));
    }
    TRY(door->config.judge(door->config.arg, theirs, peer_name, visit->local, welcome, refusal));
    welcome->carriers = carrier;
    welcome->challenge = io_random_u64(io_loop_env(door->config.loop));
    return visit->local ? judge_local(visit, theirs, welcome, refusal) : ERR_OK;
}

static void visit_done(void *arg, struct greeting *greeting, struct io_stream *stream,
                       const struct hello *ours, const struct hello *theirs, const uint8_t *rest,
                       size_t rest_len)
{
    struct visit *visit = arg;
    struct door *door = visit->door;
    ASSERT(visit->greeting == greeting && stream != NULL);
    struct greeted greeted = {.stream = stream, .local = visit->local, .ours = ours,
                              .theirs = theirs, .rest = rest, .rest_len = rest_len};
    memcpy(greeted.client_proof, visit->client_proof, sizeof(greeted.client_proof));
    visit_free(visit);
    door->config.done(door->config.arg, &greeted);
}

/* The peer was told why (greeting.c); here the log is, at a limited rate: strangers may call. */
static void visit_failed(void *arg, struct greeting *greeting, err_t reason,
                         enum hello_refusal refusal)
{
    ASSERT(reason != ERR_OK && ((struct visit *)arg)->greeting == greeting);
    LOG_LIMITED(LOG_LEVEL_WARN, "ring", "connection refused",
                LOG_STR("peer", ((struct visit *)arg)->peer),
                LOG_STR("refusal", hello_refusal_name(refusal)), LOG_ERR(reason));
    visit_free(arg);
    err_free(reason);
}

/* Neither is anything believed of a peer here nor much memory spent on it. */
static void visited(struct door *door, struct io_stream *stream, bool local)
{
    if (door->visits_len >= GREETINGS_MAX) {
        LOG_LIMITED(LOG_LEVEL_WARN, "ring", "too many handshakes at a time",
                    LOG_STR("peer", io_stream_peer(stream)));
        io_stream_close(stream);
        return;
    }
    struct visit *visit = MEM_NEW(struct visit);
    visit->door = door;
    visit->stream = stream;
    visit->peer = mem_strdup(io_stream_peer(stream));
    visit->local = local;
    visit->next = door->visits;
    if (door->visits != NULL) {
        door->visits->prev = visit;
    }
    door->visits = visit;
    door->visits_len++;
    ASSERT(door->visits_len <= GREETINGS_MAX && visit->prev == NULL);
    struct greeting_config config = {.loop = door->config.loop,
                                     .tls = local ? NULL : door->config.tls,
                                     .arg = visit,
                                     .judge = visit_judge,
                                     .done = visit_done,
                                     .failed = visit_failed};
    visit->greeting = greeting_accept(&config, stream);
}

static void visited_tcp(void *arg, struct io_stream *stream)
{
    visited(arg, stream, false);
}

static void visited_local(void *arg, struct io_stream *stream)
{
    visited(arg, stream, true);
}

/* The simulator has no shared memory, and so no local socket. */
static err_t door_open(struct door *door)
{
    const struct door_config *config = &door->config;
    if (config->address != NULL) {
        TRY(err_wrap(io_listen(config->loop, config->address, visited_tcp, door, &door->tcp),
                     "listening on %s", config->address));
        door->address = mem_strdup(io_listener_address(door->tcp));
    }
    if (config->unix_path != NULL && config->node_secret_path != NULL &&
        !io_env_simulated(io_loop_env(config->loop))) {
        char *path = local_address(config->unix_path);
        err_t err = err_wrap(io_listen(config->loop, path, visited_local, door, &door->local),
                             "listening on %s", path);
        free(path);
        TRY(err);
        door->secret_path = mem_strdup(config->node_secret_path);
    }
    return ERR_OK;
}

err_t door_new(const struct door_config *config, struct door **out)
{
    ASSERT(config->judge != NULL && config->done != NULL && config->loop != NULL);
    struct door *door = MEM_NEW(struct door);
    door->config = *config;
    err_t err = door_open(door);
    if (err != ERR_OK) {
        door_free(door);
        return err;
    }
    *out = door;
    return ERR_OK;
}

const char *door_address(const struct door *door)
{
    return door->address;
}

void door_free(struct door *door)
{
    if (door == NULL) {
        return;
    }
    ASSERT((door->visits == NULL) == (door->visits_len == 0));
    io_listener_close(door->tcp);
    io_listener_close(door->local);
    while (door->visits != NULL) {
        greeting_cancel(door->visits->greeting);
        visit_free(door->visits);
    }
    free(door->address);
    free(door->secret_path);
    free(door);
}

/* ---- dialer ---------------------------------------------------------------------------------- */

struct dialer {
    struct dialer_config config;
    char *address;
    char *unix_path;   /* NULL: there is no local socket, or no secret */
    char *secret_path;
    struct greeting *greeting; /* the attempt under way */
    struct io_timer timer;     /* to the next one */
    uint64_t backoff_us;       /* after the next failure */
    uint64_t not_before_us;    /* no attempt is made earlier */
    bool local;      /* the attempt under way is */
    bool local_next; /* the next one is, if there is a local socket */
};

static void dialer_attempt(struct dialer *d);

static void dialer_fire(struct io_timer *timer)
{
    dialer_attempt(CONTAINER_OF(timer, struct dialer, timer));
}

/* Also after a success: a session that ends at once must not make the loop spin. */
static void dialer_back_off(struct dialer *d)
{
    ASSERT(d->backoff_us >= BACKOFF_MIN_US && d->backoff_us <= BACKOFF_MAX_US);
    d->not_before_us = io_now_us(d->config.loop) + d->backoff_us;
    d->backoff_us = d->backoff_us * 2 < BACKOFF_MAX_US ? d->backoff_us * 2 : BACKOFF_MAX_US;
}

/* The owner may free the dialer inside failed(). */
static void dialer_fail(struct dialer *d, err_t reason, bool for_good)
{
    ASSERT(reason != ERR_OK && d->greeting == NULL);
    if (d->local && !d->config.local_only) {
        /* The other way may still do: at once, and quietly. */
        LOG_DEBUG("ring", "no shared memory", LOG_STR("path", d->unix_path), LOG_ERR(reason));
        err_free(reason);
        d->local_next = false;
        dialer_attempt(d);
        return;
    }
    d->local_next = true;
    dialer_back_off(d);
    io_timer_start(d->config.loop, &d->timer, d->not_before_us);
    d->config.failed(d->config.arg, reason, for_good);
}

static void dialer_failed(void *arg, struct greeting *greeting, err_t reason,
                          enum hello_refusal refusal)
{
    struct dialer *d = arg;
    ASSERT(d->greeting == greeting);
    d->greeting = NULL;
    dialer_fail(d, reason, refusal != 0 && !hello_refusal_transient(refusal));
}

/* The answer fits what was asked; on the local socket the other side is who it must be. Fills what
 * we have to show. */
static err_t dialer_check(struct dialer *d, struct io_stream *stream, const struct hello *ours,
                          const struct hello *theirs, uint8_t client_proof[HELLO_PROOF_LEN])
{
    ASSERT(!d->local || d->secret_path != NULL);
    TRY(d->config.check(d->config.arg, ours, theirs, io_stream_peer_name(stream)));
    if (theirs->carriers != (d->local ? HELLO_SHM : HELLO_TCP)) {
        return err_new(ERR_PROTOCOL, "the peer chose carrier %u", theirs->carriers);
    }
    if (!d->local) {
        return ERR_OK;
    }
    uint8_t server_proof[HELLO_PROOF_LEN];
    TRY(same_user(stream));
    TRY(prove(d->config.loop, d->secret_path, ours->challenge, theirs->challenge, client_proof,
              server_proof));
    if (!hello_proof_equal(server_proof, theirs->proof)) {
        return err_new(ERR_PERMISSION, "the local peer does not know the node's secret");
    }
    return ERR_OK;
}

static void dialer_done(void *arg, struct greeting *greeting, struct io_stream *stream,
                        const struct hello *ours, const struct hello *theirs, const uint8_t *rest,
                        size_t rest_len)
{
    struct dialer *d = arg;
    ASSERT(d->greeting == greeting);
    d->greeting = NULL;
    struct greeted greeted = {.stream = stream, .local = d->local, .ours = ours, .theirs = theirs,
                              .rest = rest, .rest_len = rest_len};
    err_t err = dialer_check(d, stream, ours, theirs, greeted.client_proof);
    if (err != ERR_OK) {
        io_stream_close(stream);
        dialer_fail(d, err, err_code(err) == ERR_PERMISSION);
        return;
    }
    d->local_next = true;
    dialer_back_off(d); /* for a session that ends at once */
    ASSERT(d->greeting == NULL && d->timer.heap_at == 0);
    d->config.done(d->config.arg, &greeted);
}

/* One connection, by the socket whose turn it is. Ends in dialer_done or dialer_fail, both from the
 * loop, but for an address that makes no sense: that fails here. */
static void dialer_attempt(struct dialer *d)
{
    ASSERT(d->greeting == NULL && d->timer.heap_at == 0);
    if (d->config.local_only && d->unix_path == NULL) {
        dialer_fail(d, err_new(ERR_INVALID, "shared memory is asked for and no local socket named"),
                    true);
        return;
    }
    d->local = d->unix_path != NULL && (d->local_next || d->config.local_only);
    struct greeting_config config = {.loop = d->config.loop,
                                     .tls = d->local ? NULL : d->config.tls,
                                     .arg = d,
                                     .done = dialer_done,
                                     .failed = dialer_failed};
    struct hello hello = {0};
    d->config.hello(d->config.arg, &hello);
    hello.carriers = d->local ? HELLO_SHM : HELLO_TCP;
    hello.challenge = io_random_u64(io_loop_env(d->config.loop));
    err_t err = greeting_connect(&config, d->local ? d->unix_path : d->address, &hello,
                                 &d->greeting);
    if (err != ERR_OK) {
        d->greeting = NULL;
        dialer_fail(d, err, err_code(err) == ERR_INVALID);
    }
}

static char *copy_of(const char *s)
{
    return s != NULL ? mem_strdup(s) : NULL;
}

struct dialer *dialer_new(const struct dialer_config *config)
{
    ASSERT(config->address != NULL && config->done != NULL && config->failed != NULL);
    ASSERT(config->hello != NULL && config->check != NULL);
    struct dialer *d = MEM_NEW(struct dialer);
    d->config = *config;
    d->address = mem_strdup(config->address);
    bool local = config->node_secret_path != NULL && config->unix_path != NULL &&
                 !io_env_simulated(io_loop_env(config->loop));
    d->unix_path = local ? local_address(config->unix_path) : NULL;
    d->secret_path = copy_of(config->node_secret_path);
    d->local_next = true;
    d->backoff_us = BACKOFF_MIN_US;
    d->timer.fire = dialer_fire;
    return d;
}

void dialer_start(struct dialer *d)
{
    if (d->greeting != NULL || d->timer.heap_at != 0) {
        return;
    }
    /* Always from the loop: the owner is never called back from inside. */
    io_timer_start(d->config.loop, &d->timer, d->not_before_us);
}

void dialer_well(struct dialer *d)
{
    ASSERT(d->backoff_us >= BACKOFF_MIN_US);
    d->backoff_us = BACKOFF_MIN_US;
}

void dialer_avoid_local(struct dialer *d)
{
    d->local_next = false;
}

void dialer_free(struct dialer *d)
{
    if (d == NULL) {
        return;
    }
    io_timer_cancel(d->config.loop, &d->timer);
    greeting_cancel(d->greeting);
    free(d->address);
    free(d->unix_path);
    free(d->secret_path);
    free(d);
}
