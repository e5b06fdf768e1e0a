/* tailrace-bench: one subcommand per family of workloads. */
#include <stdio.h>
#include <string.h>

int bench_engine(int argc, char **argv);

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "engine") == 0) {
        return bench_engine(argc - 1, argv + 1);
    }
    fprintf(stderr, "usage: tailrace-bench engine [count|join]\n");
    return 2;
}
