/*
 * A test double of the controllers: controller.h implemented by one engine in this process, fed
 * from tables in memory. No processes, no protocol, nothing durable; real plans on a real engine.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_COORD_LOCAL_CONTROLLER_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_COORD_LOCAL_CONTROLLER_H

#include "ctrl/controller/controller.h"

struct controller *local_controller_new(struct io_loop *loop);
/* The next so many appends are refused as too early; then all with the SQLSTATE, unless NULL. */
void local_controller_refuse(struct controller *c, uint32_t too_early, const char *sqlstate);
/* Appends done so far. */
uint32_t local_controller_appends(const struct controller *c);
/* How often all tables were advanced. */
uint32_t local_controller_advances(const struct controller *c);
/* Sources are readable, empty, from now on; before, their upper is 0. */
void local_controller_publish(struct controller *c);
/* Appends of more bytes are refused: 54000. */
void local_controller_limit(struct controller *c, size_t bytes);
/* Read holds that are taken. */
size_t local_controller_holds(const struct controller *c);
/* No hold on this object is given any more. */
void local_controller_compacted(struct controller *c, uint64_t id);
/* Dataflows that exist. */
size_t local_controller_dataflows(const struct controller *c);

#endif
