/* Whether a port can be listened on: by trying. */
#include "core/base/assert.h"
#include "orchestrator/process/process_internal.h"

#include <stdio.h>
#include <string.h>

static void accepted(void *arg, struct io_stream *stream)
{
    io_stream_close(stream); /* nobody was meant to connect */
}

/*
 * Nobody is promised that it stays so: whoever listens next takes it. A process that finds its port
 * taken ends and is started again by the supervisor.
 */
bool po_port_is_free(struct io_loop *loop, const char *host, uint16_t port)
{
    ASSERT(host != NULL && port > 0);
    char address[300];
    snprintf(address, sizeof(address), strchr(host, ':') == NULL ? "%s:%u" : "[%s]:%u", host, port);
    struct io_listener *listener;
    err_t err = io_listen(loop, address, accepted, NULL, &listener);
    if (err != ERR_OK) {
        err_free(err);
        return false;
    }
    io_listener_close(listener);
    return true;
}
