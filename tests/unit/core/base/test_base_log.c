/* Log lines in both formats; hostile values cannot forge lines or fields. */
#include "core/base/buf.h"
#include "core/base/log.h"
#include "tests/unit/harness.h"

#include <string.h>

static void keep(void *ctx, const char *line, size_t len)
{
    buf_append(ctx, line, len);
}

static void start(struct buf *lines, enum log_level level, enum log_format format)
{
    log_set_sink(keep, lines);
    log_configure(level, format, "test");
}

static void stop(struct buf *lines)
{
    log_set_sink(NULL, NULL);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, "tailrace");
    buf_free(lines);
}

/* What follows the time stamp, which is checked for its form. */
static const char *after_stamp(struct buf *lines, const char *prefix)
{
    const char *text = buf_cstr(lines);
    CU_ASSERT(strncmp(text, prefix, strlen(prefix)) == 0);
    const char *form = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    const char *at = text + strlen(prefix);
    for (const char *f = form; *f != '\0'; f++, at++) {
        CU_ASSERT(*f == 'd' ? *at >= '0' && *at <= '9' : *at == *f);
    }
    return at;
}

static void logfmt(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    LOG_INFO("io", "shard opened", LOG_U64("shard", 7), LOG_I64("offset", -1),
             LOG_F64("ratio", 0.5), LOG_STR("path", "/a b"), LOG_STR("none", NULL),
             LOG_STR("plain", "x"));
    const char *rest = after_stamp(&lines, "ts=");
    CU_ASSERT(strcmp(rest, " level=info process=test module=io msg=\"shard opened\" shard=7 "
                           "offset=-1 ratio=0.5 path=\"/a b\" none=\"\" plain=x\n") == 0);
    stop(&lines);
}

static void json(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    LOG_WARN("io", "say \"hi\"", LOG_STR("path", "a\\b\n\x01"), LOG_U64("n", 1));
    const char *rest = after_stamp(&lines, "{\"ts\":\"");
    CU_ASSERT(strcmp(rest, "\",\"level\":\"warn\",\"process\":\"test\",\"module\":\"io\","
                           "\"msg\":\"say \\\"hi\\\"\",\"path\":\"a\\\\b\\n\\u0001\",\"n\":1}\n") ==
              0);
    stop(&lines);
}

static void forged(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    LOG_INFO("io", "peer", LOG_STR("name", "x\nts=now level=error"), LOG_STR("b", "a=b"),
             LOG_STR("c", "\""));
    const char *text = buf_cstr(&lines);
    CU_ASSERT(strchr(text, '\n') == text + lines.len - 1); /* one line */
    CU_ASSERT(strstr(text, "name=\"x\\nts=now level=error\" b=\"a=b\" c=\"\\\"\"\n") != NULL);
    stop(&lines);
}

/* Terminals obey escape sequences; readers of logs refuse what is not UTF-8. */
static void control_bytes(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    LOG_INFO("io", "peer", LOG_STR("a", "\x1b[2J"), LOG_STR("b", "x\ry"), LOG_STR("c", "\x7f"),
             LOG_STR("d", "\xff\xc3\xa9"), LOG_STR("e", "\xc3\xa9"));
    CU_ASSERT(strstr(buf_cstr(&lines), "a=\"\\u001b[2J\" b=\"x\\u000dy\" c=\"\\u007f\" "
                                       "d=\"\\ufffd\xc3\xa9\" e=\xc3\xa9\n") != NULL);
    buf_clear(&lines);
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    LOG_INFO("io", "peer", LOG_STR("a", "\xed\xa0\x80"), LOG_F64("b", 0.0 / 0.0),
             LOG_F64("c", 1.0 / 0.0));
    const char *text = buf_cstr(&lines);
    CU_ASSERT(strstr(text, "\"a\":\"\\ufffd\\ufffd\\ufffd\"") != NULL);
    CU_ASSERT(strstr(text, "nan\"") != NULL && strstr(text, "\"c\":\"inf\"}") != NULL);
    stop(&lines);
}

/* A burst passes, the flood behind it does not, and how much was withheld is said. */
static void limited(void)
{
    struct log_limit limit = LOG_LIMIT_INIT;
    uint64_t suppressed;
    for (int i = 0; i < LOG_LIMIT_LINES - 1; i++) {
        CU_ASSERT_EQUAL(log_limit_admit(&limit, 5, &suppressed), LOG_ADMITTED);
        CU_ASSERT_EQUAL(suppressed, 0);
    }
    CU_ASSERT_EQUAL(log_limit_admit(&limit, 6, &suppressed), LOG_ADMITTED_LAST);
    for (int i = 0; i < 1000; i++) {
        CU_ASSERT_EQUAL(log_limit_admit(&limit, 5 + LOG_LIMIT_MS - 1, &suppressed), LOG_WITHHELD);
    }
    CU_ASSERT_EQUAL(log_limit_admit(&limit, 4, &suppressed), LOG_WITHHELD); /* a late thread */
    CU_ASSERT_EQUAL(log_limit_admit(&limit, 5 + LOG_LIMIT_MS, &suppressed), LOG_ADMITTED);
    CU_ASSERT_EQUAL(suppressed, 1001);
    CU_ASSERT_EQUAL(log_limit_admit(&limit, 6 + LOG_LIMIT_MS, &suppressed), LOG_ADMITTED);
    CU_ASSERT_EQUAL(suppressed, 0);
}

static void limited_lines(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    for (int i = 0; i < 1000; i++) {
        LOG_LIMITED(LOG_LEVEL_WARN, "io", "refused", LOG_I64("n", i));
    }
    const char *text = buf_cstr(&lines);
    size_t count = 0;
    for (const char *at = text; *at != '\0'; at++) {
        count += *at == '\n';
    }
    /* The thousand may fall into two windows on a slow machine. */
    CU_ASSERT(count >= LOG_LIMIT_LINES && count <= 2 * LOG_LIMIT_LINES);
    CU_ASSERT(strstr(text, "n=0 suppressed=0\n") != NULL);
    CU_ASSERT(strstr(text, "suppressed=0 further=\"withheld for a while\"\n") != NULL);
    buf_clear(&lines);
    start(&lines, LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    LOG_LIMITED(LOG_LEVEL_WARN, "io", "below the threshold");
    CU_ASSERT_EQUAL(lines.len, 0);
    stop(&lines);
}

static void levels(void)
{
    struct buf lines = {0};
    start(&lines, LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT);
    LOG_DEBUG("io", "no");
    LOG_INFO("io", "no");
    CU_ASSERT(lines.len == 0);
    LOG_WARN("io", "yes");
    LOG_ERROR("io", "yes");
    CU_ASSERT(strstr(buf_cstr(&lines), "level=warn") != NULL);
    CU_ASSERT(strstr(buf_cstr(&lines), "level=error") != NULL);
    buf_clear(&lines);
    start(&lines, LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT);
    LOG_ERROR("io", "no");
    CU_ASSERT(lines.len == 0);
    stop(&lines);
    enum log_level level;
    CU_ASSERT(log_level_parse("debug", &level) == ERR_OK && level == LOG_LEVEL_DEBUG);
    CU_ASSERT(log_level_parse("off", &level) == ERR_OK && level == LOG_LEVEL_OFF);
    err_t err = log_level_parse("loud", &level);
    CU_ASSERT(err_code(err) == ERR_INVALID);
    err_free(err);
}

static const struct test_case cases[] = {
    {"logfmt", logfmt},
    {"json", json},
    {"hostile values", forged},
    {"control bytes", control_bytes},
    {"limited", limited},
    {"limited lines", limited_lines},
    {"levels", levels},
};
TEST_SUITE("core/base/log", cases)
