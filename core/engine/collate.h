/*
 * Aggregates whose answer puts all values of a group together in an order: string_agg, array_agg,
 * jsonb_agg, jsonb_object_agg. The state is the group's values as an ordered multiset; one change
 * costs O(log n), and reading, once a time in which the group changed, the length of the answer.
 */
#ifndef TAILRACE_CORE_ENGINE_COLLATE_H
#define TAILRACE_CORE_ENGINE_COLLATE_H

#include "core/engine/oset.h"
#include "core/engine/plan.h"

/* diff copies of the row's value; scratch is the caller's and holds nothing between calls. */
void collate_update(const struct plan_agg *agg, struct oset *set, struct pool *pool,
                    const struct batch *b, uint32_t row, int64_t diff, struct buf *scratch);
/* Appends the answer as an encoded column. False: an error, *sqlstate and *message say which. */
bool collate_result(const struct plan_agg *agg, uint8_t arg_kind, const struct oset *set,
                    struct buf *out, const char **sqlstate, const char **message);

#endif
