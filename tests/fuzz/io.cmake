tr_fuzz(fuzz_io_address SOURCES fuzz_io_address.c DEPS io)
