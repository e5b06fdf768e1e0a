/* Hash functions: xxHash (XXH3) for bytes, a finaliser for integers, CRC-32C for durable data. */
#ifndef TAILRACE_CORE_BASE_HASH_H
#define TAILRACE_CORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3 64 of bytes. The same bytes hash alike on every node: exchange routing depends on it.
 * No secret is in it: keys which a peer chooses may be made to collide. */
uint64_t hash_bytes(const void *data, size_t len);
uint64_t hash_bytes_seed(const void *data, size_t len, uint64_t seed);

/* CRC-32C (Castagnoli), as stored beside durable and network bytes. crc: 0 to start. */
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t len);

/* splitmix64's finaliser: a bijection that spreads every bit. See Steele et al., OOPSLA 2014. */
static inline uint64_t hash_u64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

/* Depends on the order: (a, b) and (b, a) differ, as fields of a key must. */
static inline uint64_t hash_combine(uint64_t a, uint64_t b)
{
    return hash_u64(hash_u64(a + 0x9E3779B97F4A7C15ULL) + b);
}

#endif
