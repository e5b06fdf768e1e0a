/* Random values as text, for the comparison with PostgreSQL. */
#ifndef TAILRACE_TESTS_UNIT_CORE_DATA_ORACLE_GEN_H
#define TAILRACE_TESTS_UNIT_CORE_DATA_ORACLE_GEN_H

#include "core/data/expr.h"

struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);

/* Text that the input function of a kind mostly accepts; hostile: sometimes mangled. */
void gen_value(struct rng *r, uint8_t kind, bool hostile, struct buf *out);
/* Text for argument number arg of a function, which suits it (field names, patterns, ...). */
void gen_arg(struct rng *r, const struct func *f, uint32_t arg, uint8_t kind, struct buf *out);

#endif
