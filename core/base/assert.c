/*
 * What happens when an invariant does not hold: say it and stop at once. The state is not to be
 * trusted any more, so nothing is flushed or freed; the supervisor starts the process again, and it
 * resumes from what is durable. The message goes out before the backtrace, which allocates nothing
 * but may itself fail on a broken stack.
 */
#include "core/base/assert.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void assert_failed(const char *file, int line, const char *function, const char *what)
{
    void *frames[64];
    int depth = backtrace(frames, 64);
    fprintf(stderr, "assertion failed: %s at %s:%d in %s\n", what, file, line, function);
    fflush(stderr);
    backtrace_symbols_fd(frames, depth, STDERR_FILENO);
    abort();
}
