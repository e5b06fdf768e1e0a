/*
 * Hash functions: see hash.h. CRC-32C uses the processor's instruction where there is one (SSE
 * 4.2), else tables of eight bytes a step; both give the same values, which are on disks and wires.
 * The tables are filled before main, so that every thread only reads them.
 */
#include "core/base/hash.h"

#include "core/base/assert.h"

#include <stdbool.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_bytes(const void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    return XXH3_64bits(data, len);
}

uint64_t hash_bytes_seed(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

static uint32_t crc32c_table[8][256];
/* What CRC32C_LANE zero bytes make of a state whose k-th byte is the index and the others zero. */
static uint32_t crc32c_skip[4][256];
enum { CRC32C_LANE = 1024 };

/*
 * Slicing by 8: Kounavis and Berry, Intel, 2005. Table k gives the effect of a byte that stands k
 * bytes before the end of the step; 0x82F63B78 is Castagnoli's polynomial, bits reflected.
 */
static uint32_t crc32c_zeros(uint32_t crc, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc = (crc >> 8) ^ crc32c_table[0][crc & 0xFF];
    }
    return crc;
}

/* Zeros act linearly on a state: the 32 single bits give every entry. */
static void crc32c_skip_init(void)
{
    ASSERT(crc32c_table[0][1] != 0);
    for (int bit = 0; bit < 32; bit++) {
        uint32_t effect = crc32c_zeros(1U << bit, CRC32C_LANE);
        for (int byte = 0; byte < 256; byte++) {
            if ((byte >> (bit % 8) & 1) != 0) {
                crc32c_skip[bit / 8][byte] ^= effect;
            }
        }
    }
}

/* Before main, in one thread. */
__attribute__((constructor)) static void crc32c_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
        }
        crc32c_table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int slice = 1; slice < 8; slice++) {
            uint32_t crc = crc32c_table[slice - 1][i];
            crc32c_table[slice][i] = (crc >> 8) ^ crc32c_table[0][crc & 0xFF];
        }
    }
    crc32c_skip_init();
}

static uint32_t crc32c_software(uint32_t crc, const uint8_t *p, size_t len)
{
    ASSERT(crc32c_table[0][1] != 0); /* filled: we are not before main */
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = 0;
        for (int i = 0; i < 8; i++) {
            crc ^= crc32c_table[7 - i][(word >> (8 * i)) & 0xFF];
        }
        p += 8;
        len -= 8;
    }
    while (len-- > 0) {
        crc = (crc >> 8) ^ crc32c_table[0][(crc ^ *p++) & 0xFF];
    }
    return crc;
}

#if defined(__x86_64__)
static inline uint32_t crc32c_skipped(uint32_t crc)
{
    return crc32c_skip[0][crc & 0xFF] ^ crc32c_skip[1][crc >> 8 & 0xFF] ^
           crc32c_skip[2][crc >> 16 & 0xFF] ^ crc32c_skip[3][crc >> 24];
}

/*
 * The instruction takes three cycles, but a new one can begin in each: so three neighbouring lanes
 * at once, joined afterwards (Gopal et al., Fast CRC Computation for iSCSI Polynomial, 2011).
 */
__attribute__((target("sse4.2"))) static uint32_t crc32c_three(uint32_t crc, const uint8_t *p)
{
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < CRC32C_LANE; i += 8) {
        uint64_t word[3];
        memcpy(&word[0], p + i, 8);
        memcpy(&word[1], p + CRC32C_LANE + i, 8);
        memcpy(&word[2], p + 2 * CRC32C_LANE + i, 8);
        a = __builtin_ia32_crc32di(a, word[0]);
        b = __builtin_ia32_crc32di(b, word[1]);
        c = __builtin_ia32_crc32di(c, word[2]);
    }
    uint32_t ab = crc32c_skipped((uint32_t)a) ^ (uint32_t)b;
    return crc32c_skipped(ab) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *p,
                                                                  size_t len)
{
    /* Three lanes at a time while there is enough, then eight bytes, then one. */
    while (len >= (size_t)3 * CRC32C_LANE) {
        crc = crc32c_three(crc, p);
        p += (size_t)3 * CRC32C_LANE;
        len -= (size_t)3 * CRC32C_LANE;
    }
    uint64_t wide = crc;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
        p += 8;
        len -= 8;
    }
    crc = (uint32_t)wide;
    while (len-- > 0) {
        crc = __builtin_ia32_crc32qi(crc, *p++);
    }
    return crc;
}
#endif

/* The complement on both sides lets a checksum be continued: crc(ab) = crc(crc(a), b). */
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc32c_hardware(crc, data, len);
    }
#endif
    return ~crc32c_software(crc, data, len);
}
