/*
 * Two real processes over the real rings: killed, lied to, and kept busy. One program, one case a
 * run; each prints what it did and returns false when anything was wrong.
 */
#ifndef TAILRACE_TESTS_TORTURE_TORTURE_H
#define TAILRACE_TESTS_TORTURE_TORTURE_H

#include <stdbool.h>
#include <stdint.h>

struct torture_options {
    uint64_t cycles; /* kills, rounds or messages */
    uint64_t seed;
};

/* kill -9 of the one who serves (or, reading, of the one who reads), again and again. */
bool torture_kill(const struct torture_options *options, bool reading);
/* A process that writes garbage into all it may write: the other only disconnects. */
bool torture_garbage(const struct torture_options *options);
/* So many messages with checksums, as fast as they go. */
bool torture_stress(const struct torture_options *options);

#endif
