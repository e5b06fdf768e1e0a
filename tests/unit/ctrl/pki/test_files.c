/* ctrl/pki: the authority on disk, issuing and renewal. */
#include "core/base/log.h"
#include "ctrl/pki/pki_internal.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static void (*body)(struct io_loop *loop);

static void run_body(struct io_loop *loop, void *arg)
{
    body(loop);
    io_loop_stop(loop);
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void in_loop(void (*test)(struct io_loop *loop))
{
    snprintf(dir, sizeof(dir), "/tmp/tailrace-pki-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    CU_ASSERT_EQUAL(chmod(dir, 0755), 0);
    size_t len = strlen(dir);
    snprintf(dir + len, sizeof(dir) - len, "/pki");
    body = test;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, run_body, NULL));
    io_env_free(env);
    *strrchr(dir, '/') = '\0';
    remove_dir();
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void read_file(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    size_t len = fread(out, 1, size - 1, f);
    out[len] = '\0';
    fclose(f);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}

static void init_body(struct io_loop *loop)
{
    struct pki *pki;
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env-1", &pki));
    char key[128];
    snprintf(key, sizeof(key), "%s/ca.key", dir);
    CU_ASSERT_EQUAL(mode_of(dir), 0700);
    CU_ASSERT_EQUAL(mode_of(key), 0600);
    char before[4096];
    char after[4096];
    read_file(pki_ca_path(pki), before, sizeof(before));
    pki_free(pki);
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env-1", &pki));
    read_file(pki_ca_path(pki), after, sizeof(after));
    CU_ASSERT_STRING_EQUAL(before, after); /* made once */
    pki_free(pki);
    err_t err = pki_init(loop, dir, "env-2", &pki);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "env-2"));
    err_free(err);
}

static void test_init(void)
{
    in_loop(init_body);
}

static void issue_body(struct io_loop *loop)
{
    struct pki *pki;
    struct pki_files files;
    struct pki_files again;
    char first[4096];
    char second[4096];
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env-1", &pki));
    CU_ASSERT_PTR_NULL_FATAL(pki_issue(pki, PKI_STORAGED, "s0", &files));
    CU_ASSERT_EQUAL(mode_of(files.key_path), 0600);
    read_file(files.certificate_path, first, sizeof(first));
    CU_ASSERT_PTR_NULL_FATAL(pki_issue(pki, PKI_STORAGED, "s0", &again));
    read_file(again.certificate_path, second, sizeof(second));
    CU_ASSERT_STRING_EQUAL(first, second); /* a good one is kept */
    pki_files_free(&again);
    write_file(files.certificate_path, "-----BEGIN CERTIFICATE-----\nAAAA\n");
    CU_ASSERT_PTR_NULL_FATAL(pki_issue(pki, PKI_STORAGED, "s0", &again));
    read_file(again.certificate_path, second, sizeof(second));
    CU_ASSERT_STRING_NOT_EQUAL(first, second); /* a broken one is healed */
    pki_files_free(&again);
    CU_ASSERT_EQUAL(unlink(files.key_path), 0);
    CU_ASSERT_PTR_NULL_FATAL(pki_issue(pki, PKI_STORAGED, "s0", &again));
    CU_ASSERT_EQUAL(mode_of(files.key_path), 0600);
    pki_files_free(&again);
    err_t err = pki_issue(pki, PKI_STORAGED, "../x", &again);
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    pki_files_free(&files);
    pki_free(pki);
}

static void test_issue(void)
{
    in_loop(issue_body);
}

static void mismatch_body(struct io_loop *loop)
{
    struct pki *pki;
    char other[160];
    char command[512];
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env-1", &pki));
    pki_free(pki);
    snprintf(other, sizeof(other), "%s/other", dir);
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, other, "env-1", &pki));
    pki_free(pki);
    snprintf(command, sizeof(command), "cp '%s/other/ca.key' '%s/ca.key'", dir, dir);
    CU_ASSERT_EQUAL(system(command), 0);
    err_t err = pki_init(loop, dir, "env-1", &pki);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_CORRUPT);
    err_free(err);
}

static void test_mismatch(void)
{
    in_loop(mismatch_body);
}

static void current_body(struct io_loop *loop)
{
    struct io_env *env = io_loop_env(loop);
    const char *uri = "tailrace://env-1/computed/c0";
    const uint64_t now = 1800000000;
    const uint64_t day = 86400;
    struct pki_pair ca;
    struct pki_pair other;
    struct pki_pair leaf;
    CU_ASSERT_PTR_NULL_FATAL(pki_make_ca(env, "env-1", now, &ca));
    CU_ASSERT_PTR_NULL_FATAL(pki_make_ca(env, "env-1", now, &other));
    CU_ASSERT_PTR_NULL_FATAL(pki_make_leaf(env, &ca, uri, now, 365 * day, &leaf));
    CU_ASSERT(pki_is_current(leaf.certificate, &ca, uri, now + 335 * day - 1));
    CU_ASSERT_FALSE(pki_is_current(leaf.certificate, &ca, uri, now + 366 * day));
    CU_ASSERT_FALSE(pki_is_current(leaf.certificate, &other, uri, now));
    CU_ASSERT_FALSE(pki_is_current(leaf.certificate, &ca, "tailrace://env-1/computed/c1", now));
    pki_pair_free(&leaf);
    err_t err = pki_make_leaf(env, &ca, "tailrace://env-1/ca/ca", now, 365 * day, &leaf);
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    pki_pair_free(&other);
    pki_pair_free(&ca);
}

static void test_current(void)
{
    in_loop(current_body);
}

static void bad_id_body(struct io_loop *loop)
{
    const char *bad[] = {"", "a/b", "a b", ".", "..", "\xc3\xa4"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct pki *pki;
        err_t err = pki_init(loop, dir, bad[i], &pki);
        CU_ASSERT_PTR_NOT_NULL(err);
        err_free(err);
    }
}

static void test_bad_id(void)
{
    in_loop(bad_id_body);
}

static const struct test_case cases[] = {
    {"the authority is made once", test_init},
    {"certificates are kept, healed, refused", test_issue},
    {"files that do not belong together", test_mismatch},
    {"when a certificate is current", test_current},
    {"malformed environment ids", test_bad_id},
};
TEST_SUITE("ctrl/pki/files", cases)
