/* File sources: see file_source.h. */
#include "core/storage/file_source.h"

err_t file_source_check(const struct storage_collection *desc)
{
    return err_new(ERR_UNSUPPORTED, "collection %llu: file sources",
                   (unsigned long long)desc->id);
}

struct file_source *file_source_new(struct storage_shard *shard)
{
    return NULL;
}

void file_source_stop(struct file_source *source)
{
}

void file_source_free(struct file_source *source)
{
}
