/*
 * Lists of metadata, received or to be sent, in HTTP/2's form (names in lower case, binary values
 * in base64), with bounds against peers that send too much.
 */
#ifndef TAILRACE_CTRL_RPC_METADATA_H
#define TAILRACE_CTRL_RPC_METADATA_H

#include "ctrl/rpc/rpc.h"

/* Bytes and entries of all metadata of one call in one direction. */
enum { RPC_METADATA_BYTES_MAX = 16384, RPC_METADATA_ENTRIES_MAX = 128 };

struct rpc_entry {
    char *key;
    char *value; /* NUL-terminated behind value_len */
    size_t value_len;
};

struct rpc_metadata_list {
    struct rpc_entry *entries;
    size_t entries_len;
    size_t entries_cap;
    size_t bytes;
};

/*
 * A received field: binary values are decoded. ERR_LIMIT when the list is full, ERR_PROTOCOL when
 * a binary value is not base64.
 */
err_t rpc_metadata_receive(struct rpc_metadata_list *list, const char *key, size_t key_len,
                           const char *value, size_t value_len);
/* An entry to send, encoded. ERR_INVALID when key or value may not be sent. */
err_t rpc_metadata_add(struct rpc_metadata_list *list, struct rpc_metadata entry);
/* The first entry of that key, or NULL. */
const struct rpc_entry *rpc_metadata_find(const struct rpc_metadata_list *list, const char *key);
void rpc_metadata_free(struct rpc_metadata_list *list);

#endif
