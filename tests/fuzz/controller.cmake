tr_fuzz(fuzz_stats SOURCES fuzz_stats.c DEPS controller)
