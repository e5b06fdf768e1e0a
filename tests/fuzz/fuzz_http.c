/* The head of an HTTP request: any bytes are complete, incomplete or malformed, never more. */
#include "core/base/assert.h"
#include "ctrl/http/http.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_request request;
    int n = http_parse_request(data, size, &request);
    ASSERT(n >= -1 && n <= (int)size);
    if (n > 0) {
        const char *end = (const char *)data + n;
        ASSERT(request.method_len > 0 && request.method + request.method_len <= end);
        ASSERT(request.path_len > 0 && request.path + request.path_len <= end);
        ASSERT(request.path[0] == '/');
        /* The verdict does not depend on what follows, and not on a part of it. */
        struct http_request part;
        ASSERT(http_parse_request(data, (size_t)n, &part) == n);
        ASSERT(http_parse_request(data, (size_t)n - 1, &part) == 0);
    }
    return 0;
}
