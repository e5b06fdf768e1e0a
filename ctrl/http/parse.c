/*
 * http: the head of a request (RFC 9112, 2.1). Pure function of bytes from anywhere; a fuzz target.
 *
 *     GET /metrics?x HTTP/1.1\r\n  -> method "GET", path "/metrics", keep_alive
 *     Connection: close\r\n        -> keep_alive false
 *     \r\n                         -> the length so far
 *
 * Strict where leniency has let requests be smuggled through proxies: no folded lines, no blanks
 * before a colon, no NUL. A line may end with LF alone (RFC 9112, 2.2).
 */
#include "ctrl/http/http.h"

#include "core/base/assert.h"

#include <string.h>
#include <strings.h>

/* The characters of a token (RFC 9110, section 5.6.2). */
static bool is_token(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Length of the line at data, without CRLF or LF; -1: not complete. *next: behind the break. */
static int line_length(const uint8_t *data, size_t len, size_t *next)
{
    ASSERT(next != NULL);
    const uint8_t *nl = memchr(data, '\n', len);
    if (nl == NULL) {
        return -1;
    }
    size_t n = (size_t)(nl - data);
    *next = n + 1;
    return (int)(n > 0 && data[n - 1] == '\r' ? n - 1 : n);
}

/*
 * "METHOD SP /path[?query] SP HTTP/1.x", with exactly one blank each; other versions are refused.
 */
static bool parse_line(const char *line, size_t len, struct http_request *out)
{
    size_t at = 0;
    ASSERT(line != NULL);
    while (at < len && is_token((uint8_t)line[at])) {
        at++;
    }
    out->method = line;
    out->method_len = at;
    if (at == 0 || at == len || line[at] != ' ') {
        return false;
    }
    at++;
    out->path = line + at;
    size_t end = at;
    while (end < len && line[end] > ' ' && line[end] < 0x7f) {
        end++;
    }
    if (end == at || line[at] != '/') {
        return false;
    }
    const char *query = memchr(out->path, '?', end - at);
    out->path_len = query != NULL ? (size_t)(query - out->path) : end - at;
    if (len - end != 9 || memcmp(line + end, " HTTP/1.", 8) != 0) {
        return false;
    }
    char minor = line[end + 8];
    out->keep_alive = minor == '1';
    return minor == '0' || minor == '1';
}

/* Without regard to case, as field names and these values are defined. */
static bool value_is(const char *value, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(value, word, len) == 0;
}

/* Only what changes how we go on: whether the connection stays, whether a body follows. */
static bool parse_header(const char *line, size_t len, struct http_request *out)
{
    size_t name = 0;
    ASSERT(line != NULL && len > 0);
    while (name < len && is_token((uint8_t)line[name])) {
        name++;
    }
    if (name == 0 || name == len || line[name] != ':') {
        return false; /* also folded lines, which RFC 9112 lets a server refuse */
    }
    const char *value = line + name + 1;
    size_t value_len = len - name - 1;
    while (value_len > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        value_len--;
    }
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t')) {
        value_len--;
    }
    if (value_is(line, name, "connection")) {
        if (value_is(value, value_len, "close")) {
            out->keep_alive = false;
        } else if (value_is(value, value_len, "keep-alive")) {
            out->keep_alive = true;
        }
    } else if (value_is(line, name, "content-length")) {
        out->has_body |= !value_is(value, value_len, "0");
    } else if (value_is(line, name, "transfer-encoding")) {
        out->has_body = true;
    }
    return memchr(value, '\0', value_len) == NULL;
}

/* From the start each time: the caller bounds len, and a head rarely comes in two pieces. */
int http_parse_request(const uint8_t *data, size_t len, struct http_request *out)
{
    size_t at = 0;
    size_t next;
    ASSERT(data != NULL || len == 0);
    memset(out, 0, sizeof(*out));
    int n = line_length(data, len, &next);
    if (n < 0) {
        return 0;
    }
    if (!parse_line((const char *)data, (size_t)n, out)) {
        return -1;
    }
    for (at = next; at < len; at += next) {
        n = line_length(data + at, len - at, &next);
        if (n < 0) {
            return 0;
        }
        if (n == 0) {
            ASSERT(at + next <= len);
            return (int)(at + next);
        }
        if (!parse_header((const char *)data + at, (size_t)n, out)) {
            return -1;
        }
    }
    return 0;
}
