/*
 * Which rows of a plan's nodes are on one worker, and whose inputs need no exchange therefore. A
 * pure function of the plan and of the indexes it imports, so all workers come to the same.
 */
#ifndef TAILRACE_CORE_ENGINE_PLACE_H
#define TAILRACE_CORE_ENGINE_PLACE_H

#include "core/engine/engine_internal.h"

/* Of all nodes of a plan, when its dataflow is created: an index it imports may have gone when it
 * begins anew. NULL with one worker. */
struct places *places_new(const struct dataflow *dataflow);
void places_free(struct places *places);

/* Are the ok rows for this port where an exchange by these keys (ROUTE_ROW: by row) would bring
 * them, or where the operator may as well take them? */
bool places_stay(struct places *places, const struct op *op, uint32_t port, enum route route,
                 const uint32_t *keys, uint32_t keys_len);

#endif
