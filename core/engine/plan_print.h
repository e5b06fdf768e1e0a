/*
 * Between the files that print plans: plan_print.c and, for window functions, plan_window.c.
 * Columns are printed by name where the planner gave one.
 */
#ifndef TAILRACE_CORE_ENGINE_PLAN_PRINT_H
#define TAILRACE_CORE_ENGINE_PLAN_PRINT_H

#include "core/engine/plan.h"

void plan_print_col(struct buf *out, const struct schema *schema, uint32_t col);
void plan_print_cols(struct buf *out, const struct schema *schema, const uint32_t *cols,
                     uint32_t len);
void plan_print_order(struct buf *out, const struct schema *schema,
                      const struct plan_order *order, uint32_t len);
void plan_print_agg(struct buf *out, const struct plan_agg *agg, const struct schema *input);
void plan_print_flat_map(struct buf *out, const struct plan_node *node,
                         const struct schema *input);
void plan_print_window(struct buf *out, const struct plan_node *node, const struct schema *input);

#endif
