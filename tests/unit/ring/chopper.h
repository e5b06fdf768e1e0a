/*
 * A proxy that cuts connections at random bytes: what stood in the way when a connection died is
 * lost, as with a real network. Also used to write garbage at a server.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_CHOPPER_H
#define TAILRACE_TESTS_UNIT_RING_CHOPPER_H

#include "core/io/io.h"

struct chopper;
/* Listens on listen and forwards to target; each connection is cut after a random number of bytes
 * below max_bytes (0: never). */
err_t chopper_new(struct io_loop *loop, const char *listen, const char *target, size_t max_bytes,
                  struct chopper **out);
/* Instead: the first connection is cut after its first byte, the next after two, up to this many;
 * then none is any more. */
void chopper_every_byte(struct chopper *chopper, size_t upto);
const char *chopper_address(const struct chopper *chopper);
uint64_t chopper_cuts(const struct chopper *chopper);
/* Cuts every connection now. */
void chopper_cut(struct chopper *chopper);
/* From now on nothing is cut any more. */
void chopper_calm(struct chopper *chopper);
void chopper_free(struct chopper *chopper);

#endif
