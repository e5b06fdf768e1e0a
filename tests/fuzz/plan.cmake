tr_fuzz(fuzz_plan SOURCES fuzz_plan.c DEPS plan_codec)
