tr_fuzz(fuzz_pgwire SOURCES fuzz_pgwire.c DEPS pgwire adapter_test)
tr_fuzz(fuzz_copy SOURCES fuzz_copy.c DEPS pgwire)
tr_fuzz(fuzz_http SOURCES fuzz_http.c DEPS http)
