/*
 * Hash maps for control structures (not for the data path): u64 -> pointer, and string -> pointer.
 * Open addressing with linear probing and backward-shift deletion (Knuth 6.4, algorithm R).
 * Zero-initialised is empty. Iteration order is a function of the calls made so far only (keys, and
 * the order in which they came and went), never of addresses: the same in every run of a
 * simulation. One thread at a time. Keys of strmap are copied; values belong to the caller.
 */
#ifndef TAILRACE_CORE_BASE_MAP_H
#define TAILRACE_CORE_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct u64map_slot {
    uint64_t key;
    void *value; /* NULL: empty */
};

struct u64map {
    struct u64map_slot *slots;
    size_t len; /* keys; at most three quarters of cap, so that a search ends at an empty slot */
    size_t cap; /* power of two, or 0 */
};

/* The value of key, or NULL. */
void *u64map_get(const struct u64map *map, uint64_t key);
/* Sets key to value (not NULL); returns the old value or NULL. */
void *u64map_put(struct u64map *map, uint64_t key, void *value);
/* Removes key; returns its value or NULL. */
void *u64map_remove(struct u64map *map, uint64_t key);
/* Iterates: start with *at = 0; false at the end. No change during iteration. */
bool u64map_next(const struct u64map *map, size_t *at, uint64_t *key, void **value);
/* The map is empty again; values are the caller's business. */
void u64map_free(struct u64map *map);

struct strmap_slot {
    char *key; /* ours; NULL: empty */
    uint64_t hash; /* of key: growing does not hash again, most comparisons end here */
    void *value;
};

struct strmap {
    struct strmap_slot *slots;
    size_t len; /* as above */
    size_t cap;
};

/* As of u64map; a key given in is copied when it is new. */
void *strmap_get(const struct strmap *map, const char *key);
void *strmap_put(struct strmap *map, const char *key, void *value);
void *strmap_remove(struct strmap *map, const char *key);
bool strmap_next(const struct strmap *map, size_t *at, const char **key, void **value);
void strmap_free(struct strmap *map);

#endif
