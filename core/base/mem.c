/* The allocator's settings. See mem.h. */
#include "core/base/mem.h"

#include <limits.h>
#include <malloc.h>

/* glibc takes no larger one: half of an arena's largest heap on 64 bits. */
enum { MAP_AT_MOST = 32 * 1024 * 1024 };

/* Each thread's cache of small pieces stays: it is of bounded length, and never merged. */
void mem_steady(void)
{
    (void)mallopt(M_MXFAST, 0); /* advice, as below */
}

/*
 * Two settings belong together: allocations below the first come from the heap, whose free end is
 * given back when it is longer than the second. Setting either also ends glibc's own adjusting of
 * both. They are advice: the allocator of a sanitizer knows no settings, and refuses them.
 */
void mem_keep(size_t bytes)
{
    ASSERT(bytes > 0 && bytes <= INT_MAX);
    int map_at = bytes < MAP_AT_MOST ? (int)bytes : MAP_AT_MOST;
    if (mallopt(M_MMAP_THRESHOLD, map_at) == 1) {
        int ok = mallopt(M_TRIM_THRESHOLD, (int)bytes);
        ASSERT(ok == 1);
    }
}
