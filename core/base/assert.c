/* What happens when an invariant does not hold: say it and stop at once. */
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
