/*
 * Module-private: the memory itself. The only file besides core/io that calls the operating system,
 * since nothing of this exists in the simulator: sealed memfds and their mapping.
 */
#ifndef TAILRACE_RING_SHM_MEMORY_H
#define TAILRACE_RING_SHM_MEMORY_H

#include "core/base/err.h"
#include "ring/shm/layout.h"

/* Our own memory: made, mapped writable and pre-faulted, then sealed against shrinking, growing,
 * further writers and further seals. *fd is to be passed to the peer, then closed. */
err_t shm_memory_make(const struct shm_shape *shape, void **base, int *fd);
/* The peer's memory: checked (a sealed memfd of exactly that shape) and mapped read-only. The
 * descriptor stays the caller's. */
err_t shm_memory_attach(int fd, const struct shm_shape *shape, void **base);
void shm_memory_unmap(void *base, const struct shm_shape *shape);
void shm_close(int fd);
/* Rings an eventfd of the peer. */
void shm_ring(int fd);
/* Is it an eventfd? (So that ringing it writes nowhere else.) */
err_t shm_check_bell(int fd);

#endif
