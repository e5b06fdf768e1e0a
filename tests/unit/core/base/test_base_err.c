/* Errors as values: codes, SQLSTATEs, context. */
#include "core/base/err.h"
#include "tests/unit/harness.h"

#include <errno.h>
#include <string.h>

static void defaults(void)
{
    static const struct {
        enum err_code code;
        const char *sqlstate;
        const char *name;
    } expected[] = {
        {ERR_INTERNAL, "XX000", "internal"},       {ERR_INVALID, "22023", "invalid"},
        {ERR_NOT_FOUND, "42704", "not-found"},     {ERR_EXISTS, "42710", "exists"},
        {ERR_UNSUPPORTED, "0A000", "unsupported"}, {ERR_PERMISSION, "42501", "permission"},
        {ERR_FENCED, "57P01", "fenced"},           {ERR_UNAVAILABLE, "57P03", "unavailable"},
        {ERR_TIMEOUT, "57014", "timeout"},         {ERR_CANCELLED, "57014", "cancelled"},
        {ERR_CLOSED, "08003", "closed"},           {ERR_PROTOCOL, "08P01", "protocol"},
        {ERR_CORRUPT, "XX001", "corrupt"},         {ERR_LIMIT, "54000", "limit"},
        {ERR_NO_SPACE, "53100", "no-space"},       {ERR_IO, "58030", "io"},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        err_t err = err_new(expected[i].code, "number %zu", i);
        CU_ASSERT(err_code(err) == expected[i].code);
        CU_ASSERT(strcmp(err_sqlstate(err), expected[i].sqlstate) == 0);
        CU_ASSERT(strcmp(err_code_name(expected[i].code), expected[i].name) == 0);
        CU_ASSERT(strcmp(err_detail_get(err), "") == 0);
        CU_ASSERT(strcmp(err_hint_get(err), "") == 0);
        CU_ASSERT(err_position_get(err) == 0);
        err_free(err);
    }
}

static void parts(void)
{
    err_t err = err_sql(ERR_INVALID, "42601", "syntax error at \"%s\"", "selct");
    err_detail(err, "first %d", 1);
    err_detail(err, "second %d", 2); /* replaces */
    err_hint(err_position(err, 8), "Try %s.", "SELECT");
    CU_ASSERT(strcmp(err_sqlstate(err), "42601") == 0);
    CU_ASSERT(strcmp(err_message(err), "syntax error at \"selct\"") == 0);
    CU_ASSERT(strcmp(err_detail_get(err), "second 2") == 0);
    CU_ASSERT(strcmp(err_hint_get(err), "Try SELECT.") == 0);
    CU_ASSERT(err_position_get(err) == 8);
    err_free(err);
}

static void context(void)
{
    CU_ASSERT(err_wrap(ERR_OK, "nothing to wrap") == ERR_OK);
    err_t err = err_new(ERR_IO, "read failed");
    CU_ASSERT(strcmp(err_text(err), "read failed") == 0);
    CU_ASSERT(err_wrap(err, "segment %d", 3) == err);
    CU_ASSERT(strcmp(err_text(err), "segment 3: read failed") == 0);
    err_wrap(err, "opening shard %s", "u1");
    CU_ASSERT(strcmp(err_text(err), "opening shard u1: segment 3: read failed") == 0);
    CU_ASSERT(strcmp(err_message(err), "read failed") == 0);
    err_t copy = err_copy(err);
    err_free(err);
    CU_ASSERT(strcmp(err_text(copy), "opening shard u1: segment 3: read failed") == 0);
    CU_ASSERT(err_code(copy) == ERR_IO);
    err_free(copy);
    CU_ASSERT(err_copy(ERR_OK) == ERR_OK);
    err_free(ERR_OK);
    CU_ASSERT(strcmp(err_text(ERR_OK), "no error") == 0);
}

static void from_errno(void)
{
    static const struct {
        int number;
        enum err_code code;
    } expected[] = {
        {ENOENT, ERR_NOT_FOUND},   {EEXIST, ERR_EXISTS},       {EACCES, ERR_PERMISSION},
        {ENOSPC, ERR_NO_SPACE},    {EDQUOT, ERR_NO_SPACE},     {ETIMEDOUT, ERR_TIMEOUT},
        {ECANCELED, ERR_CANCELLED}, {ECONNREFUSED, ERR_UNAVAILABLE}, {EPIPE, ERR_CLOSED},
        {ECONNRESET, ERR_CLOSED},  {EINVAL, ERR_INVALID},      {ENOSYS, ERR_UNSUPPORTED},
        {EIO, ERR_IO},             {EMFILE, ERR_IO},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        err_t err = err_errno(expected[i].number, "doing %s", "it");
        CU_ASSERT(err_code(err) == expected[i].code);
        CU_ASSERT(strncmp(err_message(err), "doing it: ", 10) == 0);
        CU_ASSERT(strlen(err_message(err)) > 10);
        err_free(err);
    }
}

static err_t fails(int depth)
{
    if (depth == 0) {
        return err_new(ERR_LIMIT, "deep enough");
    }
    TRY(fails(depth - 1));
    return ERR_OK;
}

static void passed_on(void)
{
    err_t err = fails(5);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT(err_code(err) == ERR_LIMIT);
    err_free(err);
}

static const struct test_case cases[] = {
    {"defaults of every code", defaults},
    {"detail, hint, position", parts},
    {"context and copies", context},
    {"errno", from_errno},
    {"TRY", passed_on},
};
TEST_SUITE("core/base/err", cases)
