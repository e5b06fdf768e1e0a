/* See metadata.h. */
#include "ctrl/rpc/metadata.h"

#include "ctrl/rpc/text.h"

static bool is_binary_key(const char *key, size_t len)
{
    return len >= 4 && memcmp(key + len - 4, "-bin", 4) == 0;
}

/* Copies one entry, in wire form when it is to be sent, decoded when it was received. */
static err_t append(struct rpc_metadata_list *list, const char *key, size_t key_len,
                    const char *value, size_t value_len)
{
    ASSERT(list->entries_len <= RPC_METADATA_ENTRIES_MAX);
    /* 32 is what HTTP/2 counts for each field of a header list (RFC 9113, 6.5.2). */
    size_t bytes = key_len + value_len + 32;
    if (list->entries_len == RPC_METADATA_ENTRIES_MAX ||
        list->bytes + bytes > RPC_METADATA_BYTES_MAX) {
        return err_new(ERR_LIMIT, "metadata of more than %d entries or %d bytes",
                       (int)RPC_METADATA_ENTRIES_MAX, (int)RPC_METADATA_BYTES_MAX);
    }
    list->bytes += bytes;
    struct rpc_entry *entry = VEC_PUSH(list, entries);
    entry->key = mem_strndup(key, key_len);
    entry->value = mem_strndup(value, value_len);
    entry->value_len = value_len;
    return ERR_OK;
}

err_t rpc_metadata_receive(struct rpc_metadata_list *list, const char *key, size_t key_len,
                           const char *value, size_t value_len)
{
    ASSERT(list != NULL && key != NULL && value != NULL);
    if (!is_binary_key(key, key_len)) {
        return append(list, key, key_len, value, value_len);
    }
    /* Checked before decoding, so that the work is bounded too. */
    if (value_len > RPC_METADATA_BYTES_MAX) {
        return err_new(ERR_LIMIT, "binary metadata of %zu bytes", value_len);
    }
    struct buf decoded = {0};
    err_t err = ERR_OK;
    if (!rpc_base64_decode(&decoded, value, value_len)) {
        err = err_new(ERR_PROTOCOL, "binary metadata that is not base64");
    } else {
        err = append(list, key, key_len, buf_cstr(&decoded), decoded.len);
    }
    buf_free(&decoded);
    return err;
}

static bool key_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* What HTTP/2 allows, without what gRPC keeps for itself. */
static err_t check_key(const char *key)
{
    ASSERT(key != NULL);
    size_t len = strlen(key);
    bool ok = len > 0 && strncmp(key, "grpc-", 5) != 0;
    for (size_t i = 0; i < len; i++) {
        ok = ok && key_char_ok(key[i]);
    }
    if (!ok) {
        return err_new(ERR_INVALID, "\"%s\" cannot be a metadata key", key);
    }
    return ERR_OK;
}

/* Printable ASCII: a line break here would be a new field to an HTTP/1 proxy. */
static err_t check_text(const struct rpc_metadata *entry)
{
    ASSERT(entry->value != NULL || entry->value_len == 0);
    const char *text = entry->value;
    for (size_t i = 0; i < entry->value_len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e) {
            return err_new(ERR_INVALID, "metadata \"%s\" is not printable ASCII", entry->key);
        }
    }
    return ERR_OK;
}

err_t rpc_metadata_add(struct rpc_metadata_list *list, struct rpc_metadata entry)
{
    ASSERT(list != NULL && entry.key != NULL);
    ASSERT(entry.value != NULL || entry.value_len == 0);
    TRY(check_key(entry.key));
    size_t key_len = strlen(entry.key);
    if (!is_binary_key(entry.key, key_len)) {
        TRY(check_text(&entry));
        return append(list, entry.key, key_len, entry.value_len == 0 ? "" : entry.value,
                      entry.value_len);
    }
    struct buf encoded = {0};
    rpc_base64_encode(&encoded, entry.value, entry.value_len);
    err_t err = append(list, entry.key, key_len, buf_cstr(&encoded), encoded.len);
    buf_free(&encoded);
    return err;
}

const struct rpc_entry *rpc_metadata_find(const struct rpc_metadata_list *list, const char *key)
{
    ASSERT(list != NULL && key != NULL);
    for (size_t i = 0; i < list->entries_len; i++) {
        if (strcmp(list->entries[i].key, key) == 0) {
            return &list->entries[i];
        }
    }
    return NULL;
}

void rpc_metadata_free(struct rpc_metadata_list *list)
{
    ASSERT(list != NULL);
    for (size_t i = 0; i < list->entries_len; i++) {
        free(list->entries[i].key);
        free(list->entries[i].value);
    }
    free(list->entries);
    *list = (struct rpc_metadata_list){0};
}
