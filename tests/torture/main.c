/* The command line of the torture cases: see torture.h and README.md. */
#include "tests/torture/torture.h"

#include "core/base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: torture kill-producer|kill-consumer|garbage|stress CYCLES [SEED]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        return usage();
    }
    struct torture_options options = {.cycles = strtoull(argv[2], NULL, 10),
                                      .seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 42};
    signal(SIGPIPE, SIG_IGN);
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT,
                  "torture");
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool right;
    if (options.cycles == 0) {
        return usage();
    } else if (strcmp(argv[1], "kill-producer") == 0) {
        right = torture_kill(&options, false);
    } else if (strcmp(argv[1], "kill-consumer") == 0) {
        right = torture_kill(&options, true);
    } else if (strcmp(argv[1], "garbage") == 0) {
        right = torture_garbage(&options);
    } else if (strcmp(argv[1], "stress") == 0) {
        right = torture_stress(&options);
    } else {
        return usage();
    }
    puts(right ? "right" : "WRONG");
    return right ? 0 : 1;
}
