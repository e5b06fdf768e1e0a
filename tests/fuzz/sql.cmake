tr_fuzz(fuzz_sql SOURCES fuzz_sql.c DEPS sql)
