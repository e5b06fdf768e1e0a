/*
 * The handshake's one message, sent by both sides: who I am, and what I offer (HELLO) or have
 * chosen (WELCOME). Everything is checked; what does not fit is answered by a refusal that says
 * why, as a code for programs and a text for people.
 */
#ifndef TAILRACE_RING_FRAME_HELLO_H
#define TAILRACE_RING_FRAME_HELLO_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "ring/frame/frame.h"

enum {
    HELLO_VERSION = 3,
    HELLO_HOST_MAX = 96,
    HELLO_WORKERS_MAX = 256, /* worker loops of one process */
    HELLO_PROOF_LEN = 32,
    HELLO_LEN_MAX = 512,
};

/* "TAILRACE" read as a little-endian number. */
#define HELLO_MAGIC 0x454341524C494154ULL

enum hello_protocol { HELLO_BOUNDARY = 1, HELLO_EXCHANGE = 2 };
enum hello_role { HELLO_STORAGE = 1, HELLO_COMPUTE = 2 };
enum hello_carriers { HELLO_TCP = 1, HELLO_SHM = 2 };

enum hello_refusal {
    REFUSE_MAGIC = 1,
    REFUSE_VERSION,
    REFUSE_PROTOCOL,    /* 2101 spoken to 2102 */
    REFUSE_ENVIRONMENT,
    REFUSE_ROLE,        /* by claim or by certificate */
    REFUSE_EPOCH,       /* fenced by a newer epoch */
    REFUSE_GENERATION,  /* a newer incarnation of that process is there */
    REFUSE_PROCESS,     /* not a process of this replica, or not the one meant */
    REFUSE_CARRIER,     /* none in common, or not on the same node */
    REFUSE_NOT_READY,   /* ask again soon */
    REFUSE_FRAME,       /* malformed bytes */
    REFUSE_LAST = REFUSE_FRAME,
};

struct hello {
    uint16_t version;
    uint8_t protocol;  /* enum hello_protocol */
    uint8_t role;      /* enum hello_role */
    uint8_t carriers;  /* set of enum hello_carriers: offered, or the one chosen */
    uint8_t environment[16];
    uint64_t service;      /* which service the process is of: unique in the environment */
    uint32_t process;
    uint64_t generation;
    uint64_t epoch;
    uint64_t nonce;        /* of this start of the process */
    uint64_t challenge;    /* of this connection */
    uint32_t workers;      /* worker loops of this process */
    uint32_t worker_base;  /* global index of the first */
    uint32_t processes;    /* exchange: of the replica */
    uint64_t formation;    /* exchange: last generation of the replica this process has seen */
    char host[HELLO_HOST_MAX + 1];
    uint8_t proof[HELLO_PROOF_LEN]; /* of knowing the node's secret; zeros: none */
};

/* Fills host, cut to what fits. */
void hello_set_host(struct hello *hello, const char *host);
void hello_encode(struct buf *out, const struct hello *hello);
/* ERR_PROTOCOL, with the refusal to answer in *refusal. The structure and every number's range
 * are checked here; whether peer and we fit together is hello_check's. */
err_t hello_decode(const uint8_t *data, size_t len, struct hello *out,
                   enum hello_refusal *refusal);

/* The checks both protocols share: protocol, environment, role. */
err_t hello_check(const struct hello *theirs, const struct hello *ours, enum hello_role role,
                  enum hello_refusal *refusal);

const char *hello_refusal_name(enum hello_refusal refusal);
/* Will the same question be answered otherwise later? */
bool hello_refusal_transient(enum hello_refusal refusal);

/* HMAC-SHA-256 of both challenges under the node's secret; label tells the two sides apart. */
void hello_prove(const uint8_t *secret, size_t secret_len, const char *label, uint64_t client,
                 uint64_t server, uint8_t out[HELLO_PROOF_LEN]);
/* In constant time. */
bool hello_proof_equal(const uint8_t a[HELLO_PROOF_LEN], const uint8_t b[HELLO_PROOF_LEN]);

#endif
