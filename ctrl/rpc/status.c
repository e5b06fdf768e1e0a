/* gRPC status codes, their names, and how they map to our errors and to HTTP/2's. */
#include "ctrl/rpc/rpc_internal.h"

#include <nghttp2/nghttp2.h>

static const char *const status_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};
STATIC_ASSERT(ARRAY_LEN(status_names) == RPC_UNAUTHENTICATED + 1, "one name a status");

const char *rpc_status_name(enum rpc_status status)
{
    if ((unsigned)status >= ARRAY_LEN(status_names)) {
        return "UNKNOWN";
    }
    return status_names[status];
}

/* One row an error code; statuses without a row of their own follow in from_status. */
static const struct {
    enum err_code code;
    enum rpc_status status;
} pairs[] = {
    {ERR_INTERNAL, RPC_INTERNAL},           {ERR_INVALID, RPC_INVALID_ARGUMENT},
    {ERR_NOT_FOUND, RPC_NOT_FOUND},         {ERR_EXISTS, RPC_ALREADY_EXISTS},
    {ERR_UNSUPPORTED, RPC_UNIMPLEMENTED},   {ERR_PERMISSION, RPC_PERMISSION_DENIED},
    {ERR_FENCED, RPC_FAILED_PRECONDITION},  {ERR_UNAVAILABLE, RPC_UNAVAILABLE},
    {ERR_TIMEOUT, RPC_DEADLINE_EXCEEDED},   {ERR_CANCELLED, RPC_CANCELLED},
    {ERR_CORRUPT, RPC_DATA_LOSS},           {ERR_LIMIT, RPC_RESOURCE_EXHAUSTED},
    {ERR_CLOSED, RPC_UNAVAILABLE},          {ERR_PROTOCOL, RPC_INVALID_ARGUMENT},
    {ERR_NO_SPACE, RPC_RESOURCE_EXHAUSTED}, {ERR_IO, RPC_UNKNOWN},
};

enum rpc_status rpc_status_of(const struct err *err)
{
    if (err == NULL) {
        return RPC_OK;
    }
    if (strcmp(err_sqlstate(err), RPC_SQLSTATE_UNAUTHENTICATED) == 0) {
        return RPC_UNAUTHENTICATED;
    }
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (pairs[i].code == err_code(err)) {
            return pairs[i].status;
        }
    }
    return RPC_UNKNOWN;
}

err_t rpc_status_err(enum rpc_status status, const char *message)
{
    ASSERT(message != NULL);
    const char *name = rpc_status_name(status);
    if (status == RPC_OK) {
        return ERR_OK;
    }
    if (status == RPC_UNAUTHENTICATED) {
        return err_sql(ERR_PERMISSION, RPC_SQLSTATE_UNAUTHENTICATED, "%s: %s", name, message);
    }
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (pairs[i].status == status) {
            return err_new(pairs[i].code, "%s: %s", name, message);
        }
    }
    return err_new(ERR_INTERNAL, "%s: %s", name, message);
}

/* gRPC's document "HTTP to gRPC status code mapping". */
enum rpc_status rpc_status_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return RPC_INTERNAL;
    case 401:
        return RPC_UNAUTHENTICATED;
    case 403:
        return RPC_PERMISSION_DENIED;
    case 404:
        return RPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RPC_UNAVAILABLE;
    default:
        return RPC_UNKNOWN;
    }
}

/* gRPC's "PROTOCOL-HTTP2", errors: a stream that was reset without a status. */
enum rpc_status rpc_status_of_reset(uint32_t error_code)
{
    switch (error_code) {
    case NGHTTP2_REFUSED_STREAM:
        return RPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return RPC_PERMISSION_DENIED;
    default:
        return RPC_INTERNAL;
    }
}
