/*
 * An io_stream in memory, for tests: what the code under test writes is collected, what the peer
 * says is fed by the test. And a way to run a function inside the simulator, with a loop.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_MEMORY_STREAM_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_MEMORY_STREAM_H

#include "core/base/buf.h"
#include "core/io/io.h"
#include "core/io/sim.h"

struct memory_stream {
    struct io_stream base;
    struct buf out;
    size_t pending; /* what io_stream_pending says */
    const char *peer;
    bool paused;
    bool closed;   /* by the code under test, at once or after flushing */
    bool finished; /* after flushing */
};

/* The test owns the memory, also after the code under test closed the stream. */
struct memory_stream *memory_stream_new(struct io_loop *loop);
void memory_stream_free(struct memory_stream *s);
/* Bytes from the peer; ignored once closed. */
void memory_stream_feed(struct memory_stream *s, const void *data, size_t len);
/* The peer hangs up. */
void memory_stream_hang_up(struct memory_stream *s);

/* Runs fn(loop, arg) as a simulated process, then virtual time for run_us, then after(arg) (may be
 * NULL) while the loop still stands. */
void run_in_sim(void (*fn)(struct io_loop *loop, void *arg), void (*after)(void *arg), void *arg,
                uint64_t run_us);

#endif
