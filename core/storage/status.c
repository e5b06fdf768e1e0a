/* What there is to say about a collection's status without its collection. */
#include "core/base/assert.h"
#include "core/storage/storage.h"

const char *storage_status_name(enum storage_status status)
{
    switch (status) {
    case STORAGE_STARTING: return "starting";
    case STORAGE_RUNNING: return "running";
    case STORAGE_PAUSED: return "paused";
    case STORAGE_STALLED: return "stalled";
    case STORAGE_DROPPED: return "dropped";
    }
    UNREACHABLE();
}

int storage_status_badness(enum storage_status status)
{
    switch (status) {
    case STORAGE_DROPPED: return 0;
    case STORAGE_RUNNING: return 1;
    case STORAGE_STARTING: return 2;
    case STORAGE_PAUSED: return 3;
    case STORAGE_STALLED: return 4;
    }
    UNREACHABLE();
}
