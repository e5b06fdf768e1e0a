/*
 * Addresses as text: see io.h. Three forms, told apart by their beginning:
 *
 *     unix:/path           a byte stream of the local machine
 *     unixpacket:/path     messages with descriptors (SOCK_SEQPACKET)
 *     host:port            TCP; "", "*" and "localhost" are this machine, [::1]:80 is IPv6
 *
 * Text comes from options and statements: everything that does not fit is an error that names it.
 */
#include "core/io/uring/stream.h"

#include <arpa/inet.h>
#include <stdio.h>

/* A path, which must fit into sockaddr_un. */
static err_t local_parse(const char *path, enum uring_socket kind, struct uring_address *out)
{
    ASSERT(kind != URING_TCP);
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(out->local.sun_path)) {
        return err_new(ERR_INVALID, "socket path \"%s\" must have 1 to %zu bytes", path,
                       sizeof(out->local.sun_path) - 1);
    }
    out->kind = kind;
    out->local.sun_family = AF_UNIX;
    memcpy(out->local.sun_path, path, len + 1);
    out->len = sizeof(out->local);
    return ERR_OK;
}

/* 0 to 65535, digits only. */
static bool port_parse(const char *text, uint16_t *out)
{
    unsigned value = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *out = (uint16_t)value;
    return value <= 65535;
}

/* Numeric addresses and the usual names for one's own host; other names are for later. */
static err_t host_set(const char *text, const char *host, bool listening, uint16_t port,
                      struct uring_address *out)
{
    if (host[0] == '\0' || strcmp(host, "*") == 0) {
        host = listening ? "0.0.0.0" : "127.0.0.1";
    } else if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        out->len = sizeof(out->v4);
        return ERR_OK;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        out->len = sizeof(out->v6);
        return ERR_OK;
    }
    if (listening) {
        return err_new(ERR_INVALID, "cannot listen on \"%s\": give a numeric address", text);
    }
    memcpy(out->host, host, strlen(host) + 1);
    snprintf(out->port, sizeof(out->port), "%u", port);
    return ERR_OK;
}

/* Brackets around a numeric IPv6 address are optional here: the last colon counts. */
err_t uring_address_parse(const char *text, bool listening, struct uring_address *out)
{
    ASSERT(text != NULL && out != NULL);
    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0) {
        return local_parse(text + 5, URING_UNIX, out);
    }
    if (strncmp(text, "unixpacket:", 11) == 0) {
        return local_parse(text + 11, URING_PACKET, out);
    }
    const char *colon = strrchr(text, ':');
    uint16_t port;
    if (colon == NULL || !port_parse(colon + 1, &port)) {
        return err_new(ERR_INVALID, "address \"%s\" is not of the form host:port", text);
    }
    const char *host = text;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    char name[sizeof(out->host)];
    if (len >= sizeof(name)) {
        return err_new(ERR_INVALID, "the host name in \"%s\" is too long", text);
    }
    memcpy(name, host, len);
    name[len] = '\0';
    out->kind = URING_TCP;
    return host_set(text, name, listening, port, out);
}

/* The way back, in the form uring_address_parse takes; cut short when cap is. */
void uring_address_format(const struct uring_address *address, char *out, size_t cap)
{
    ASSERT(cap > 0);
    char host[INET6_ADDRSTRLEN] = "";
    if (address->any.sa_family == AF_UNIX) {
        snprintf(out, cap, "%s:%s", address->kind == URING_PACKET ? "unixpacket" : "unix",
                 address->local.sun_path);
    } else if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        snprintf(out, cap, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
        snprintf(out, cap, "%s:%u", host, ntohs(address->v4.sin_port));
    }
}
