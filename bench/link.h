/*
 * A link is a way to move messages between two processes: our carriers, the bare mechanisms below
 * them (floors), and other message systems (peers). link_run runs one case over one link:
 *
 *   program: open  ->  fork                              ->  close
 *   parent:                   fork  ->  run (measures)  ->  kills child
 *   child:                              run (works for ever)
 *
 * Most links are a table of four functions for drive() in drive.h; carriers run their own loop.
 *
 * To add a peer: a file link_NAME.c with a struct link_ops, its lines in links.c, and a
 * bench_peer() in CMakeLists.txt. What it must see to:
 *
 *   - messages arrive whole and in order, each given to load_take once;
 *   - nothing is dropped where the sender can be made to wait instead;
 *   - it sleeps or spins as shape->wait says, as far as it has the choice;
 *   - it has no more settings than its users would make;
 *   - what it leaves on disk lies in link->directory, which goes at the end.
 */
#ifndef TAILRACE_BENCH_LINK_H
#define TAILRACE_BENCH_LINK_H

#include "bench/load.h"
#include "core/base/err.h"

#include <signal.h>

enum link_kind { LINK_OURS, LINK_FLOOR, LINK_PEER };

/* What a link of ours is made of: a carrier, or a protocol over one. */
enum link_layer { LINK_CARRIER, LINK_BOUNDARY, LINK_EXCHANGE };

struct link;
struct link_ops {
    const char *name;
    enum link_kind kind;
    enum link_layer layer;
    const struct link_ops *under; /* of a protocol: the bare carrier to compare with */
    bool threads; /* its library has threads of its own: it is not pinned to one CPU */
    /* Can it do that at all? NULL: everything. */
    bool (*fits)(const struct load_shape *shape);
    /* In the program, before the forks: what both inherit. May be NULL. ERR_UNSUPPORTED: what it
     * needs is not installed. */
    err_t (*open)(struct link *link);
    /* In both, until load->over (parent) or the kill (child). */
    err_t (*run)(struct link *link, struct load *load);
    /* Both sides on one loop in this process until parent->limit messages have come: what
     * tailrace-bench count counts. NULL: cannot. */
    err_t (*count)(struct link *link, struct load *child, struct load *parent);
    /* In the program, at the end, also after a failed open. May be NULL. */
    void (*close)(struct link *link);
};

/* Of one run of one case. Made in the program, copied by the forks, freed by close. */
struct link {
    const struct link_ops *ops;
    const struct load_shape *shape;
    const char *directory; /* for sockets, certificates and brokers' files; private to the run */
    unsigned serial;       /* of the run: for names, since a killed process's sockets outlive it */
    bool parent;           /* which side this process is */
    pid_t broker;          /* a server between the two that open started, or 0 */
    void *state;           /* the link's */
};

/* Set when the child died or time is up, by a signal: blocking calls return EINTR, then look. */
extern volatile sig_atomic_t link_interrupted;

/* figures are those of the parent; ERR_UNSUPPORTED: absent, with a reason. */
err_t link_run(const struct link_ops *ops, const struct load_shape *shape, const char *directory,
               struct load_figures *figures);

/* Starts a program whose death is ours, its output thrown away; -1: not found or no process left.
 * argv[0] is looked for in PATH and in /usr/sbin. */
pid_t link_spawn(char *const argv[]);
void link_kill(pid_t pid);
/* Is there such a program? */
bool link_program(const char *name);
/* A node's secret, which proves to each other that processes are on one node. */
err_t link_write_secret(const char *path);
/* With all that is in it. */
void link_remove_directory(const char *path);
/* A TCP port of the loopback that was free a moment ago. */
int link_free_port(void);

/* All there are, NULL at the end. Peers not compiled in are absent, see link_absent. */
extern const struct link_ops *const links[];
/* Names of peers that were not found when this was built, separated by commas; "" if none. */
extern const char link_absent[];

extern const struct link_ops link_shm, link_tcp, link_tls;             /* link_carrier.c */
extern const struct link_ops link_boundary_shm, link_boundary_tcp;     /* link_boundary.c */
extern const struct link_ops link_exchange_shm, link_exchange_tcp;     /* link_exchange.c */
extern const struct link_ops link_exchange_inner; /* link_exchange.c; not among links */
/* link_many.c; not among links: they need their shapes */
extern const struct link_ops link_many, link_many_tcp;
extern const struct link_ops link_ring, link_bytes;                    /* link_floor.c */
extern const struct link_ops link_ring_futex, link_ring_eventfd;       /* link_floor.c */
extern const struct link_ops link_socket_tcp, link_socket_sealed;      /* link_socket.c */
extern const struct link_ops link_unix, link_pipe;                     /* link_socket.c */
extern const struct link_ops link_zmq_ipc, link_zmq_tcp;               /* link_zmq.c */
extern const struct link_ops link_redis;                               /* link_redis.c */
extern const struct link_ops link_nats;                                /* link_nats.c */
extern const struct link_ops link_iceoryx;                             /* link_iceoryx.c */

#endif
