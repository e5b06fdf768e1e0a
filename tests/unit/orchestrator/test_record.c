/* orchestrator/process: records on disk, hostile ones too, and the interface's own checks. */
#include "core/base/buf.h"
#include "orchestrator/process/process_internal.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <unistd.h>

static char path[64];
static void (*body)(struct io_loop *loop);

static void run_body(struct io_loop *loop, void *arg)
{
    body(loop);
    io_loop_stop(loop);
}

static void in_loop(void (*test)(struct io_loop *loop))
{
    snprintf(path, sizeof(path), "/tmp/tailrace-record-%d", (int)getpid());
    body = test;
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, run_body, NULL));
    io_env_free(env);
    unlink(path);
}

static void round_trip_body(struct io_loop *loop)
{
    struct po_port ports[] = {{.name = "controller", .number = 2100},
                              {.name = "storage", .number = 65535}};
    struct po_record record = {.pid = 4711,
                               .start_ticks = UINT64_MAX,
                               .executable = "/usr/lib/a b/storaged",
                               .arguments = 0xfedcba9876543210ULL,
                               .ports = ports,
                               .ports_len = 2};
    CU_ASSERT_PTR_NULL_FATAL(po_record_write(loop, path, &record));
    struct po_record back;
    CU_ASSERT_PTR_NULL_FATAL(po_record_read(loop, path, &back));
    CU_ASSERT_EQUAL(back.pid, 4711);
    CU_ASSERT_EQUAL(back.start_ticks, UINT64_MAX);
    CU_ASSERT_STRING_EQUAL(back.executable, "/usr/lib/a b/storaged");
    CU_ASSERT_EQUAL(back.arguments, 0xfedcba9876543210ULL);
    CU_ASSERT_EQUAL_FATAL(back.ports_len, 2);
    CU_ASSERT_STRING_EQUAL(back.ports[1].name, "storage");
    CU_ASSERT_EQUAL(back.ports[1].number, 65535);
    po_record_free(&back);
}

static void test_round_trip(void)
{
    in_loop(round_trip_body);
}

static void expect_corrupt(struct io_loop *loop, const char *text, size_t len)
{
    CU_ASSERT_PTR_NULL_FATAL(io_write_whole_sync(loop, path, text, len, 0600));
    struct po_record back;
    err_t err = po_record_read(loop, path, &back);
    CU_ASSERT_PTR_NOT_NULL(err);
    if (err == ERR_OK) {
        printf("accepted: %.*s\n", (int)len, text);
        po_record_free(&back);
    }
    err_free(err);
}

static const char good[] = "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\n"
                           "arguments 0000000000000003\nport a 1\n";

static void corrupt_body(struct io_loop *loop)
{
    const char *bad[] = {
        "",
        "tailrace-process 2\n",
        "tailrace-process 1\npid -1\nstart_ticks 2\nexecutable /x\narguments 3\n",
        "tailrace-process 1\npid 99999999999\nstart_ticks 2\nexecutable /x\narguments 3\n",
        "tailrace-process 1\npid 1\nstart_ticks x\nexecutable /x\narguments 3\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable \narguments 3\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\narguments zz\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\narguments 3\nport a\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\narguments 3\nport a 0\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\narguments 3\nport a 65536\n",
        "tailrace-process 1\npid 1\nstart_ticks 2\nexecutable /x\narguments 3\nmore\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        expect_corrupt(loop, bad[i], strlen(bad[i]));
    }
    for (size_t len = 0; len < sizeof(good) - 1; len++) {
        if (good[len] == 'p' && strncmp(good + len, "port", 4) == 0) {
            continue; /* cut after a whole line it is a record without ports */
        }
        expect_corrupt(loop, good, len);
    }
    expect_corrupt(loop, good, sizeof(good)); /* with the NUL */
}

static void test_corrupt(void)
{
    in_loop(corrupt_body);
}

static void test_file_names(void)
{
    char service[65];
    uint32_t process;
    CU_ASSERT(po_record_name_parse("cluster-u1-12.process", service, &process));
    CU_ASSERT_STRING_EQUAL(service, "cluster-u1");
    CU_ASSERT_EQUAL(process, 12);
    const char *bad[] = {"logs",       "a-1.process.tmp",  "-1.process",
                         "a-.process", "a-x.process",      "a.process",
                         ".process",   "a-999999.process", "a-01.process"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CU_ASSERT_FALSE(po_record_name_parse(bad[i], service, &process));
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static err_t accept_service(struct orchestrator *o, const char *service,
                            const struct orchestrator_service_config *config)
{
    return ERR_OK;
}

static void no_args(void *arg, const struct orchestrator_assignment *assignment,
                    struct orchestrator_args *args)
{
}

static void expect_invalid(struct orchestrator *o, const char *name,
                           struct orchestrator_service_config config)
{
    err_t err = orchestrator_ensure_service(o, name, &config);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
}

static void test_interface_checks(void)
{
    const struct orchestrator_ops ops = {.ensure_service = accept_service};
    struct orchestrator o = {.ops = &ops};
    struct orchestrator_port ports[] = {{"a", 0}, {"a", 0}};
    struct orchestrator_service_config config = {
        .image = "/x", .scale = 1, .make_args = no_args, .ports = ports, .ports_len = 1};
    CU_ASSERT_PTR_NULL(orchestrator_ensure_service(&o, "ok-1", &config));
    expect_invalid(&o, "", config);
    expect_invalid(&o, "a/b", config);
    expect_invalid(&o, "..", config);
    config.scale = 0;
    expect_invalid(&o, "x", config);
    config.scale = 257;
    expect_invalid(&o, "x", config);
    config.scale = 1;
    config.ports_len = 2;
    expect_invalid(&o, "x", config);
    config.ports_len = 1;
    config.image = "";
    expect_invalid(&o, "x", config);
}

static const struct test_case cases[] = {
    {"a record is read as it was written", test_round_trip},
    {"broken records are refused", test_corrupt},
    {"names of record files", test_file_names},
    {"the interface checks its input", test_interface_checks},
};
TEST_SUITE("orchestrator/record", cases)
