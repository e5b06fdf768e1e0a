/*
 * One side of a link that is made of our carriers and runs on an io_loop: addresses, the loop, a
 * look at whether the run was interrupted, the first error. What the boundary's links share.
 *
 * A link's own struct begins with a struct link_side. open fills it before the forks, so that both
 * processes know both addresses; run takes it from there, in each process for itself.
 */
#ifndef TAILRACE_BENCH_LINK_SIDE_H
#define TAILRACE_BENCH_LINK_SIDE_H

#include "bench/link.h"
#include "core/io/io.h"
#include "ring/boundary/boundary.h"

enum { LINK_SIDE_WATCH_US = 50 * 1000 };

struct link_side {
    struct link *link;
    struct load *load;    /* what to send, what was received */
    char secret[192];     /* path of the node's secret */
    char tcp[2][32];      /* "127.0.0.1:port", [0] the child's, [1] the parent's */
    char local[2][192];   /* "unixpacket:path", for shared memory */
    struct io_loop *loop; /* net loop and worker loop in one */
    struct io_timer timer;
    err_t (*start)(struct link_side *side);
    err_t err; /* why the loop was stopped before its time */
};

/* Addresses and secret; name: of the link, for its socket. In the program, before the forks. */
err_t link_side_open(struct link_side *side, struct link *link, const char *name);
/* In the program, which never ran a loop of this link. */
void link_side_close(struct link_side *side);
/* start on a new loop, which runs until link_side_end, io_loop_stop or an interruption. What start
 * made is not freed: the process ends when this returns. */
err_t link_side_run(struct link_side *side, struct load *load,
                    err_t (*start)(struct link_side *side));
/* Two of them on one loop, each with its load: for counting instructions. */
err_t link_side_run_both(struct link_side *sides[2], struct load *loads[2],
                         err_t (*start)(struct link_side *side));
/* The first error is the one that counts; the loop ends after the current callback. Owns err. */
void link_side_end(struct link_side *side, err_t err);
/* Who this process is: service 1 the child, 2 the parent. Borrows from side. */
struct boundary_identity link_side_identity(const struct link_side *side);
/* Spins for ever or not at all, when the case says so. */
void link_side_spin(struct link_side *side);

#endif
