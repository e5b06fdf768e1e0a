/*
 * A file source: follows the files of one collection and ingests their records. Module-private.
 * One file is worked on at a time; reading, parsing and committing take turns, each bounded.
 */
#ifndef TAILRACE_CORE_STORAGE_FILE_SOURCE_H
#define TAILRACE_CORE_STORAGE_FILE_SOURCE_H

#include "core/storage/storage.h"

struct storage_shard;
struct file_source;

/* Refuses descriptions that make no sense: ERR_INVALID, ERR_UNSUPPORTED. */
err_t file_source_check(const struct storage_collection *desc);
/* Starts work on the shard, from what it holds. */
struct file_source *file_source_new(struct storage_shard *shard);
/* What there was at first is ingested, or cannot be: a new source shows nothing before, so that
 * whoever reads right after creating it does not find it empty. */
bool file_source_looked(const struct file_source *source);
/* Stops timers, watches and reads; a log record under way goes on. NULL is allowed. */
void file_source_stop(struct file_source *source);
/* After file_source_stop, with no record under way. NULL is allowed. */
void file_source_free(struct file_source *source);

#endif
