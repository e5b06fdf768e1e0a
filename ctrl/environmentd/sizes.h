/*
 * The sizes a cluster may have, from the JSON an operator gives (--cluster-replica-sizes). Pure
 * function.
 */
#ifndef TAILRACE_CTRL_ENVIRONMENTD_SIZES_H
#define TAILRACE_CTRL_ENVIRONMENTD_SIZES_H

#include "core/base/arena.h"
#include "ctrl/adapter/coord/coord.h"

/*
 * {"name": {"scale": processes, "workers": threads each}, ...}; scale and workers default to 1.
 * NULL: "1" to "32" (one process) and "2-1", "2-2", "2-4". Everything is allocated from the arena.
 */
err_t sizes_parse(const char *json, struct arena *arena, struct coord_size **out, size_t *len);

#endif
