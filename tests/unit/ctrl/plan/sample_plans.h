/* Plans that together hold every operator, expression kind, literal type and export. */
#ifndef TAILRACE_TESTS_UNIT_CTRL_PLAN_SAMPLE_PLANS_H
#define TAILRACE_TESTS_UNIT_CTRL_PLAN_SAMPLE_PLANS_H

#include "core/engine/plan.h"

/* Every operator, the mfp with every kind of expression. Freed with plan_free. */
struct plan *sample_plan_operators(void);
/* A constant with a column of every storable kind (a row of values, one of NULLs). */
struct plan *sample_plan_constant(void);
/* An mfp that maps a literal of every storable kind, present and NULL. */
struct plan *sample_plan_literals(void);
/* No node, no export. */
struct plan *sample_plan_empty(void);
/* A value of a kind, with its variable bytes static. */
struct datum sample_value(enum type_kind kind);

#endif
