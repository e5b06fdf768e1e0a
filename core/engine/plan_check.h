/*
 * Between the files that validate plans: plan_check.c and, for window functions, plan_window.c, for
 * recursion plan_scope.c.
 */
#ifndef TAILRACE_CORE_ENGINE_PLAN_CHECK_H
#define TAILRACE_CORE_ENGINE_PLAN_CHECK_H

#include "core/engine/plan.h"

/* Fails with ERR_INVALID unless the condition holds. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return err_new(ERR_INVALID, __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

/* what: names the list in the message. */
err_t plan_check_cols(const char *what, const uint32_t *cols, uint32_t len, uint32_t bound);
err_t plan_check_order(const struct plan_order *order, uint32_t len, const struct schema *input);
err_t plan_check_agg(const struct plan_agg *agg, const struct schema *input);
err_t plan_check_window(const struct plan_node *node, const struct schema *input);
/* a: the node's schema; b: what its operator produces. */
err_t plan_check_same_kinds(const struct schema *a, const struct schema *b);
/* One node by itself; its inputs come before it. */
err_t plan_check_fixpoint(const struct plan *plan, uint32_t index);
err_t plan_check_leave(const struct plan *plan, const struct plan_node *node);
/* How scopes lie to each other, when all nodes and exports are good by themselves. */
err_t plan_check_scopes(const struct plan *plan);

#endif
