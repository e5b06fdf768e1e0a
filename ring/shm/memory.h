/*
 * Module-private: the memory itself. The only file besides core/io that calls the operating system,
 * since nothing of this exists in the simulator: sealed memfds, their mapping, and the lock whose
 * owner's death the kernel tells.
 */
#ifndef TAILRACE_RING_SHM_MEMORY_H
#define TAILRACE_RING_SHM_MEMORY_H

#include "core/base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Our own memory: made of huge pages if wanted and there are any, mapped writable and pre-faulted,
 * then sealed against shrinking, growing, further writers and further seals. *fd is to be passed to
 * peers, then closed. *huge: what pages it got. */
err_t shm_memory_make(const char *name, size_t size, bool *huge, void **base, int *fd);
/* Memory nobody else maps, of large pages where the system has them: it is not touched ahead, since
 * many never use most of it, but then 2 MiB at a time. free() frees it. */
void *shm_memory_private(size_t size);
/* The peer's memory: checked (a sealed memfd of exactly that size) and mapped read-only. The
 * descriptor stays the caller's. */
err_t shm_memory_attach(int fd, size_t size, void **base);
void shm_memory_unmap(void *base, size_t size);
void shm_close(int fd);
/* Rings an eventfd of the peer. */
void shm_ring_eventfd(int fd);
/* Is it an eventfd? (So that ringing it writes nowhere else.) */
err_t shm_check_bell(int fd);

/* Makes the lock and takes it, for the calling thread; the same thread gives it back before the
 * memory goes. Whoever waits for the word that tells of the owner's death is woken by either. */
void shm_alive_begin(pthread_mutex_t *alive);
void shm_alive_end(pthread_mutex_t *alive);
const _Atomic uint32_t *shm_alive_word(const pthread_mutex_t *alive);
/* Does this value of the word say that its owner died? */
bool shm_alive_died(uint32_t word);

#endif
