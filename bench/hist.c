/*
 * Log-linear histograms. See hist.h.
 *
 * A bucket is found by the position of the leading one bit and the six bits after it: two shifts
 * and an addition, no division and no search, so that counting does not disturb what is counted. A
 * quantile walks over all buckets, once at the end.
 */
#include "bench/hist.h"

#include "core/base/assert.h"

#include <string.h>

/* Values below HIST_SUB have a bucket each; above, the six bits after the leading one choose. */
static uint32_t bucket_of(uint64_t ns)
{
    if (ns < HIST_SUB) {
        return (uint32_t)ns;
    }
    uint32_t log = 63 - (uint32_t)__builtin_clzll(ns);
    uint32_t shift = log - 6;
    return HIST_SUB * (shift + 1) + (uint32_t)((ns >> shift) - HIST_SUB);
}

/* The middle of a bucket. */
static uint64_t value_of(uint32_t bucket)
{
    if (bucket < HIST_SUB) {
        return bucket;
    }
    uint32_t shift = bucket / HIST_SUB - 1;
    uint64_t low = (uint64_t)(HIST_SUB + bucket % HIST_SUB) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

void hist_clear(struct hist *hist)
{
    ASSERT(hist != NULL);
    memset(hist, 0, sizeof(*hist));
}

void hist_add(struct hist *hist, uint64_t ns)
{
    uint32_t bucket = bucket_of(ns);
    ASSERT(bucket < HIST_BUCKETS);
    hist->buckets[bucket]++;
    hist->count++;
    hist->sum += ns;
    hist->max = ns > hist->max ? ns : hist->max;
}

/* Buckets are the same in every histogram, so merging is adding. */
void hist_merge(struct hist *hist, const struct hist *other)
{
    ASSERT(hist != other);
    for (uint32_t b = 0; b < HIST_BUCKETS; b++) {
        hist->buckets[b] += other->buckets[b];
    }
    hist->count += other->count;
    hist->sum += other->sum;
    hist->max = other->max > hist->max ? other->max : hist->max;
}

uint64_t hist_quantile(const struct hist *hist, double share)
{
    ASSERT(share >= 0 && share <= 1);
    uint64_t rank = (uint64_t)(share * (double)hist->count);
    uint64_t seen = 0;
    for (uint32_t b = 0; b < HIST_BUCKETS; b++) {
        seen += hist->buckets[b];
        if (seen > rank) {
            uint64_t value = value_of(b);
            return value < hist->max ? value : hist->max;
        }
    }
    return hist->max;
}
