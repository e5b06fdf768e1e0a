/* Hashes against published values; both ways to compute CRC-32C against each other. */
#include "core/base/hash.c"
#include "tests/unit/harness.h"

#include <string.h>

/* RFC 3720, B.4, and the check value of the CRC catalogue. */
static void crc32c_known(void)
{
    uint8_t data[32];
    CU_ASSERT(hash_crc32c(0, "", 0) == 0);
    CU_ASSERT(hash_crc32c(0, "123456789", 9) == 0xE3069283U);
    memset(data, 0, sizeof(data));
    CU_ASSERT(hash_crc32c(0, data, sizeof(data)) == 0x8A9136AAU);
    memset(data, 0xFF, sizeof(data));
    CU_ASSERT(hash_crc32c(0, data, sizeof(data)) == 0x62A8AB43U);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)i;
    }
    CU_ASSERT(hash_crc32c(0, data, sizeof(data)) == 0x46DD794EU);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(31 - i);
    }
    CU_ASSERT(hash_crc32c(0, data, sizeof(data)) == 0x113FDB5CU);
}

static void crc32c_in_parts(void)
{
    uint8_t data[300];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 37 + 11);
    }
    uint32_t whole = hash_crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut++) {
        uint32_t crc = hash_crc32c(0, data, cut);
        CU_ASSERT(hash_crc32c(crc, data + cut, sizeof(data) - cut) == whole);
    }
    for (size_t i = 0; i < sizeof(data); i++) { /* any flipped bit is seen */
        data[i] ^= (uint8_t)(1U << (i % 8));
        CU_ASSERT(hash_crc32c(0, data, sizeof(data)) != whole);
        data[i] ^= (uint8_t)(1U << (i % 8));
    }
}

static void crc32c_software_agrees(void)
{
    uint8_t data[7000]; /* long enough for the three lanes of the instruction, twice */
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 101 + i / 256 + 3);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t len = 0; len <= sizeof(data) - from; len += len < 200 ? 1 : 61) {
            CU_ASSERT(~crc32c_software(~0U, data + from, len) ==
                      hash_crc32c(0, data + from, len));
        }
    }
}

/* Values on the wire and on disk depend on these: they must never change. */
static void xxh3_known(void)
{
    CU_ASSERT(hash_bytes("", 0) == 0x2D06800538D394C2ULL);
    CU_ASSERT(hash_bytes("a", 1) != hash_bytes("b", 1));
    CU_ASSERT(hash_bytes_seed("a", 1, 1) != hash_bytes("a", 1));
    CU_ASSERT(hash_bytes_seed("a", 1, 0) == hash_bytes("a", 1));
}

static void finaliser(void)
{
    CU_ASSERT(hash_u64(0) == 0);
    /* The first output of splitmix64 with seed 0. */
    CU_ASSERT(hash_u64(0x9E3779B97F4A7C15ULL) == 0xE220A8397B1DCDAFULL);
    for (int bit = 0; bit < 64; bit++) { /* each input bit flips about half of the output */
        int flipped = __builtin_popcountll(hash_u64(12345) ^ hash_u64(12345 ^ (1ULL << bit)));
        CU_ASSERT(flipped > 12 && flipped < 52);
    }
    CU_ASSERT(hash_combine(1, 2) != hash_combine(2, 1));
}

static const struct test_case cases[] = {
    {"crc32c of known inputs", crc32c_known},
    {"crc32c in parts, and with a flipped bit", crc32c_in_parts},
    {"crc32c in software", crc32c_software_agrees},
    {"xxh3", xxh3_known},
    {"finaliser", finaliser},
};
TEST_SUITE("core/base/hash", cases)
