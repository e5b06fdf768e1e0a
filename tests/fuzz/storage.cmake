tr_fuzz(fuzz_csv SOURCES fuzz_csv.c DEPS storage)
tr_fuzz(fuzz_json_lines SOURCES fuzz_json_lines.c DEPS storage)
tr_fuzz(fuzz_shard SOURCES fuzz_shard.c DEPS storage)
