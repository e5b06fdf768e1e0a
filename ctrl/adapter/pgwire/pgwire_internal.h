/*
 * Private to pgwire: the connection. One file per concern: server.c (listeners, the set of
 * connections, cancel keys), conn.c (bytes in, framing, life and death), startup.c (everything
 * before ReadyForQuery), messages.c (requests), output.c (answers).
 */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_PGWIRE_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_PGWIRE_INTERNAL_H

#include "core/base/map.h"
#include "ctrl/adapter/pgwire/pgwire.h"

enum {
    PGWIRE_HEADER = 5,             /* type and length */
    PGWIRE_IN_MAX = 1024 * 1024,   /* waiting requests beyond this stop our reading */
    PGWIRE_BUF_KEPT = 16 * 1024,   /* memory a buffer keeps while its client is idle */
    PGWIRE_OUT_CHUNK = 64 * 1024,  /* answers are written in pieces of about this */
};

enum pgwire_phase {
    PGWIRE_STARTUP, /* expects a start-up packet, SSLRequest, GSSENCRequest or CancelRequest */
    PGWIRE_TLS,     /* the TLS handshake is under way */
    PGWIRE_SASL,    /* AuthenticationSASL sent, expects the mechanism and first message */
    PGWIRE_SASL_FINAL, /* our challenge sent, expects the proof */
    PGWIRE_OPEN,    /* requests */
    PGWIRE_DEAD,    /* the stream is gone or finishing; waits to be freed */
};

/* One address. Owned by the server; allocated apart, since io_listen keeps a pointer to it. */
struct pgwire_listener {
    struct pgwire_server *server;
    struct io_listener *listener;
};

/* Owned by environmentd; touched on its loop only. Connections are in the list from accept until
 * pgwire_conn_free, in by_pid while they have a session. */
struct pgwire_server {
    struct pgwire_config config; /* with its defaults filled in */
    struct pgwire_listener **listeners; /* owned */
    size_t listeners_len, listeners_cap;
    struct pgwire_conn *conns;   /* doubly linked, newest first */
    size_t conns_len;
    size_t open_len;             /* of them, with a session */
    struct u64map by_pid;        /* open ones */
    uint32_t next_pid;
    bool draining; /* no new connections any more */
    /* all NULL without a registry */
    struct metric *connections, *accepted, *refused, *bytes_in, *bytes_out, *messages;
};

/* Owned by the server, on its loop only. in and out are bounded: see README.md. */
struct pgwire_conn {
    struct pgwire_server *server;
    struct pgwire_conn *next, *prev;
    struct io_stream *stream;     /* NULL once DEAD */
    enum pgwire_phase phase;
    bool tls; /* the stream is encrypted */
    void *session;                /* the backend's; NULL before open */
    uint32_t pid;
    uint32_t secret; /* the other half of the cancel key */
    struct buf in;                /* [in_at, len) not yet handled */
    size_t in_at;
    struct buf out;               /* encoded, not yet given to the stream */
    size_t message_at;            /* in out: the message under construction */
    char request;                 /* type of the request under way; 0: idle */
    bool processing;              /* conn_process is on the stack */
    bool paused; /* the stream is: too much waits */
    bool skip_to_sync; /* an extended request failed */
    bool copy_in; /* the request under way takes COPY data */
    bool blocked;                 /* waits for drain before the next request */
    char transaction; /* as pgwire_set_transaction said last */
    uint64_t idle_us;             /* limits of idleness outside and inside a transaction; 0: none */
    uint64_t idle_transaction_us;
    struct io_timer timeout;      /* start-up, then idle */
    struct io_timer reap;         /* frees the dead from the loop */
    struct buf startup;           /* NUL-separated names and values of the start-up packet */
    struct pgwire_setting *settings; /* pointing into startup */
    size_t settings_len, settings_cap;
    struct pgwire_startup info; /* what the backend is told; points into startup */
    struct scram_exchange scram; /* while phase is SASL or SASL_FINAL */
    const struct scram_verifier *verifier; /* borrowed from the backend; NULL: trusted */
};

/* Integers of the protocol are big-endian, at any address; four bytes must be there. */
static inline uint32_t pgwire_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* conn.c: from accept to the end. Only the server makes and frees connections. */
struct pgwire_conn *pgwire_conn_new(struct pgwire_server *server, struct io_stream *stream);
void pgwire_conn_free(struct pgwire_conn *conn);
extern const struct io_stream_handler pgwire_stream_handler;
/* Handles buffered requests until one is under way or nothing is left. */
void pgwire_conn_process(struct pgwire_conn *conn);
/* Ends the connection without a word. */
void pgwire_conn_drop(struct pgwire_conn *conn);

/* startup.c: take a packet (without its length) or a password message. Either may end the
 * connection or open its session. */
void pgwire_startup_packet(struct pgwire_conn *conn, const uint8_t *data, size_t len);
void pgwire_startup_password(struct pgwire_conn *conn, const uint8_t *data, size_t len);

/* messages.c: one request, its body (without type and length); borrowed for the call. */
void pgwire_message(struct pgwire_conn *conn, char type, const uint8_t *data, size_t len);

/* server.c */
void pgwire_server_cancel(struct pgwire_server *server, uint32_t pid, uint32_t secret);
/* A session may open: gives the connection its pid and secret. False: too many. */
bool pgwire_server_admit(struct pgwire_server *server, struct pgwire_conn *conn);

/* output.c: begin, fields, end. Values of a row are appended to conn->out directly. */
void pgwire_out_begin(struct pgwire_conn *conn, char type);
void pgwire_out_u8(struct pgwire_conn *conn, uint8_t v);
void pgwire_out_u16(struct pgwire_conn *conn, uint16_t v);
void pgwire_out_u32(struct pgwire_conn *conn, uint32_t v);
void pgwire_out_cstr(struct pgwire_conn *conn, const char *s);
void pgwire_out_end(struct pgwire_conn *conn);
void pgwire_out_error(struct pgwire_conn *conn, char type, const char *severity,
                      const struct err *err);
void pgwire_out_ready(struct pgwire_conn *conn);

#endif
