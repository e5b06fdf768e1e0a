tr_fuzz(fuzz_batch SOURCES fuzz_batch.c DEPS data)
tr_fuzz(fuzz_datum SOURCES fuzz_datum.c DEPS data)
