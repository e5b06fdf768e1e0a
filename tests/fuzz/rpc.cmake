tr_fuzz(fuzz_rpc_frame SOURCES fuzz_rpc_frame.c DEPS rpc)
tr_fuzz(fuzz_rpc_pb SOURCES fuzz_rpc_pb.c DEPS rpc)
