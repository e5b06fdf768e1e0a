/* The state of an index export, shared by index.c and peek.c. */
#ifndef TAILRACE_CORE_ENGINE_INDEX_H
#define TAILRACE_CORE_ENGINE_INDEX_H

#include "core/engine/probe.h"

/* A time some reader still needs: an import while it scans. */
struct hold {
    const void *holder;
    uint64_t time;
};

struct peek;

/* One index export. Runs on the engine's thread; owned by its operator. */
struct index_op {
    struct op *op;
    const struct plan_export *export;
    const struct type *types; /* of the rows; the plan's */
    struct arrange ok; /* key columns -> rows */
    struct arrange err; /* whole error row -> itself */
    uint64_t since;    /* logical: what the controller allowed */
    struct hold *holds;
    size_t holds_len, holds_cap;
    struct op **followers;
    size_t followers_len, followers_cap;
    size_t followers_now; /* the first ones, who are told of the pass that goes on; the others
                           * came after it began and will find it in the arrangement */
    struct peek **peeks; /* unanswered, oldest first */
    size_t peeks_len, peeks_cap;
    struct intake intake;
    struct probe probe; /* of the intake's next rows */
    struct buf row;     /* scratch of errors */
    bool reported;
    bool closed;
};

/* Answers peeks whose time has come; true when out of fuel before the end. */
bool peek_serve(struct index_op *index);
/* The least time pending peeks need. */
uint64_t peek_hold(const struct index_op *index);
void peek_close(struct index_op *index, enum err_code code, const char *why);
void index_update_since(struct index_op *index);

#endif
