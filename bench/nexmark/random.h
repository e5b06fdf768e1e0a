/*
 * Module-private: the random numbers of the Nexmark stream, exactly as the Rust crates rand 0.8 and
 * rand_xoshiro draw them: which bits are used and which draws are rejected is part of the format.
 */
#ifndef TAILRACE_BENCH_NEXMARK_RANDOM_H
#define TAILRACE_BENCH_NEXMARK_RANDOM_H

#include "core/base/assert.h"

#include <stdint.h>

/* xoshiro256++ */
struct nexmark_random {
    uint64_t s[4];
};

/* The state is 32 bytes of PCG32's output. */
static inline void nexmark_random_seed(struct nexmark_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t word = 0;
        for (int half = 0; half < 2; half++) {
            seed = seed * 0x5851F42D4C957F2Du + 0xA17654E46FBE17F3u;
            uint32_t mixed = (uint32_t)((seed ^ seed >> 18) >> 27);
            uint32_t turn = (uint32_t)(seed >> 59);
            uint32_t out = mixed >> turn | mixed << (-turn & 31);
            word |= (uint64_t)out << 32 * half;
        }
        random->s[i] = word;
    }
}

static inline uint64_t nexmark_turn_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline uint64_t nexmark_random_u64(struct nexmark_random *random)
{
    uint64_t *s = random->s;
    uint64_t out = nexmark_turn_left(s[0] + s[3], 23) + s[0];
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = nexmark_turn_left(s[3], 45);
    return out;
}

/* The better half of the bits. */
static inline uint32_t nexmark_random_u32(struct nexmark_random *random)
{
    return (uint32_t)(nexmark_random_u64(random) >> 32);
}

/* Below n, by the high half of a product. A draw is rejected when the low half lies beyond the
 * largest multiple n * 2^k of the word: fewer draws would do, but these are the crate's. */
static inline uint64_t nexmark_below64(struct nexmark_random *random, uint64_t n)
{
    ASSERT(n > 0);
    uint64_t zone = (n << __builtin_clzll(n)) - 1;
    unsigned __int128 product;
    do {
        product = (unsigned __int128)nexmark_random_u64(random) * n;
    } while ((uint64_t)product > zone);
    return (uint64_t)(product >> 64);
}

/* The same in 32 bits: the crate draws these where the bound has 32 bits in its source. */
static inline uint32_t nexmark_below32(struct nexmark_random *random, uint32_t n)
{
    ASSERT(n > 0);
    uint32_t zone = (n << __builtin_clz(n)) - 1;
    uint64_t product;
    do {
        product = (uint64_t)nexmark_random_u32(random) * n;
    } while ((uint32_t)product > zone);
    return (uint32_t)(product >> 32);
}

/* 'a' to 'z': bounds of 8 bits are drawn with the exact zone. */
static inline char nexmark_letter(struct nexmark_random *random)
{
    const uint32_t n = 26;
    const uint32_t zone = UINT32_MAX - (UINT32_MAX - n + 1) % n;
    uint64_t product;
    do {
        product = (uint64_t)nexmark_random_u32(random) * n;
    } while ((uint32_t)product > zone);
    return (char)('a' + (product >> 32));
}

/* In [0, 1), 24 bits of it. */
static inline float nexmark_unit(struct nexmark_random *random)
{
    return (float)(nexmark_random_u32(random) >> 8) * 0x1p-24f;
}

#endif
