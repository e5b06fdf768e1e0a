/* ctrl/pki: identities and who may talk to whom. */
#include "ctrl/pki/pki_internal.h"
#include "tests/unit/harness.h"

static void test_roles(void)
{
    for (unsigned i = 0; i < PKI_ROLES; i++) {
        enum pki_role role;
        CU_ASSERT_PTR_NULL(pki_role_parse(pki_role_name((enum pki_role)i), &role));
        CU_ASSERT_EQUAL(role, (enum pki_role)i);
    }
    enum pki_role role;
    err_t err = pki_role_parse("ca", &role); /* no process may call itself the authority */
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
}

static void test_parse(void)
{
    struct pki_identity identity;
    CU_ASSERT_PTR_NULL(pki_identity_parse("tailrace://prod-1/storaged/s.0", &identity));
    CU_ASSERT_STRING_EQUAL(identity.environment, "prod-1");
    CU_ASSERT_EQUAL(identity.role, PKI_STORAGED);
    CU_ASSERT_STRING_EQUAL(identity.name, "s.0");
}

static void test_parse_refuses(void)
{
    char longest[128] = "tailrace://e/storaged/";
    memset(longest + strlen(longest), 'x', 65);
    const char *bad[] = {
        "",
        "tailrace:",
        "tailrace://",
        "tailrace://e",
        "tailrace://e/storaged",
        "tailrace://e/storaged/",
        "tailrace:///storaged/x",
        "tailrace://e//x",
        "tailrace://e/storaged/x/y",
        "tailrace://e/root/x",
        "tailrace://e/Storaged/x",
        "tailrace://e/storaged/x y",
        "tailrace://e/storaged/..",
        "tailrace://e/ca/ca",
        "https://e/storaged/x",
        "storaged",
        longest,
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct pki_identity identity;
        err_t err = pki_identity_parse(bad[i], &identity);
        CU_ASSERT_PTR_NOT_NULL(err);
        if (err == ERR_OK) {
            printf("accepted: %s\n", bad[i]);
        }
        err_free(err);
    }
}

static void expect_refused(const char *peer, unsigned roles, const char *sqlstate,
                           const char *first, const char *second)
{
    err_t err = pki_check_peer(peer, "prod", roles);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_PERMISSION);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), sqlstate);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), first));
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), second));
    err_free(err);
}

static void test_check_peer(void)
{
    unsigned storage = PKI_ROLE_BIT(PKI_STORAGED);
    unsigned either = storage | PKI_ROLE_BIT(PKI_ENVIRONMENTD);
    CU_ASSERT_PTR_NULL(pki_check_peer("tailrace://prod/storaged/s0", "prod", storage));
    CU_ASSERT_PTR_NULL(pki_check_peer("tailrace://prod/environmentd/e", "prod", either));
    expect_refused("", storage, "28000", "without a certificate", "storaged");
    expect_refused("example.org", storage, "28000", "example.org", "\"prod\"");
    expect_refused("tailrace://test/storaged/s0", storage, "28000", "\"test\"", "\"prod\"");
    expect_refused("tailrace://prod/computed/c0", either, "42501", "computed \"c0\"",
                   "environmentd or storaged");
    expect_refused("tailrace://prod/ca/ca", either, "28000", "no identity", "storaged");
    expect_refused("tailrace://prod2/storaged/s0", storage, "28000", "prod2", "\"prod\"");
}

static const struct test_case cases[] = {
    {"roles", test_roles},
    {"identities are parsed", test_parse},
    {"malformed identities are refused", test_parse_refuses},
    {"peers are judged", test_check_peer},
};
TEST_SUITE("ctrl/pki/identity", cases)
