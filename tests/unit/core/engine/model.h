/*
 * What a plan means, computed the slow way: every node from scratch over all updates up to a time.
 * Shares no code with the engine's operators (only batches, SQL comparison and numeric addition).
 */
#ifndef TAILRACE_TESTS_UNIT_CORE_ENGINE_MODEL_H
#define TAILRACE_TESTS_UNIT_CORE_ENGINE_MODEL_H

#include "tests/unit/core/engine/host.h"

/* All updates of one source so far. */
struct model_source {
    struct batch_builder *ok, *err;
};

struct model_result {
    struct batch_builder *ok, *err; /* consolidated; owned by the caller */
};

/* sources[i] is the i-th PLAN_SOURCE. */
struct model_result model_eval(const struct plan *plan, uint32_t node,
                               const struct model_source *sources, uint64_t time);
void model_free(struct model_result *result);

#endif
