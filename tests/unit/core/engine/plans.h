/* Building plans in tests. */
#ifndef TAILRACE_TESTS_UNIT_CORE_ENGINE_PLANS_H
#define TAILRACE_TESTS_UNIT_CORE_ENGINE_PLANS_H

#include "tests/unit/core/engine/host.h"

struct schema plan_schema(struct plan *p, const uint8_t *kinds, uint32_t cols);
uint32_t plan_source(struct plan *p, uint64_t id, const uint8_t *kinds, uint32_t cols);
uint32_t plan_index(struct plan *p, uint64_t id, const uint8_t *kinds, uint32_t cols);
/* Same columns as the input. */
uint32_t plan_unary(struct plan *p, enum plan_op op, uint32_t input);
uint32_t plan_union(struct plan *p, uint32_t a, uint32_t b);
uint32_t plan_join(struct plan *p, enum plan_join_kind kind, uint32_t left, uint32_t right,
                   const uint32_t *left_keys, const uint32_t *right_keys, uint32_t keys_len,
                   bool null_equal);
uint32_t plan_arrange(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                      bool null_equal);
/* Of rows in an arrangement, or an index whose keys are said then. */
uint32_t plan_lookup(struct plan *p, uint32_t rows, uint32_t of, const uint32_t *keys,
                     uint32_t keys_len, bool null_equal);
void plan_index_keys(struct plan *p, uint32_t index, const uint32_t *keys, uint32_t keys_len);
/* Some columns, all rows. */
uint32_t plan_project(struct plan *p, uint32_t input, const uint32_t *project,
                      uint32_t project_len);
/* The aggregates' types are filled in. */
uint32_t plan_reduce(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_agg *aggs, uint32_t aggs_len);
uint32_t plan_topk(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                   const struct plan_order *order, uint32_t order_len, int64_t offset,
                   int64_t limit);
/* Keeps rows where (col is not null), projects the given columns. */
uint32_t plan_filter(struct plan *p, uint32_t input, uint32_t col, const uint32_t *project,
                     uint32_t project_len);
/* Appends 10 / col (INT8), which fails where col is 0. */
uint32_t plan_divide(struct plan *p, uint32_t input, uint32_t col);
/* Appends col + addend (INT8). */
uint32_t plan_plus(struct plan *p, uint32_t input, uint32_t col, int64_t addend);
/* The calls are complete, with their types. */
uint32_t plan_window(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_order *order, uint32_t order_len,
                     const struct plan_window_call *calls, uint32_t calls_len);
uint32_t plan_variable(struct plan *p, const uint8_t *kinds, uint32_t cols);
/* bodies and variables: as many of each. */
uint32_t plan_fixpoint(struct plan *p, const uint32_t *variables, const uint32_t *bodies,
                       uint32_t len, uint64_t limit, bool limit_error);
uint32_t plan_leave(struct plan *p, uint32_t fixpoint, uint32_t binding);
/* Keeps all columns; the call is complete. element: what unnest gives. */
uint32_t plan_flat_map(struct plan *p, uint32_t input, const struct plan_table_call *calls,
                       uint32_t calls_len, bool ordinality, bool outer, uint8_t element);
/* Temporal filter; output: the first cols columns. */
uint32_t plan_temporal(struct plan *p, uint32_t input, const struct plan_temporal_bound *bounds,
                       uint32_t bounds_len, uint32_t cols);
void plan_export_index(struct plan *p, uint64_t id, uint32_t node, const uint32_t *keys,
                       uint32_t keys_len);
void plan_export_subscribe(struct plan *p, uint64_t id, uint32_t node, bool snapshot,
                           uint64_t until);
/* Of a node; the caller frees. */
uint8_t *plan_kinds(const struct plan *p, uint32_t node);

#endif
