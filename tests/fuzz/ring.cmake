tr_fuzz(fuzz_frame SOURCES fuzz_frame.c DEPS boundary)
tr_fuzz(fuzz_handshake SOURCES fuzz_handshake.c DEPS ring_frame)
