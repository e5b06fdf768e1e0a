/*
 * Certificates and keys with OpenSSL: EC P-256, SHA-256, X.509 v3. No files, no state; any thread.
 *
 * Two kinds are made (RFC 5280):
 *
 *     CA     self-signed, signs certificates and nothing else, no further CA below it (pathlen 0)
 *     leaf   one process; signs nothing; may be server and client, as our processes are both
 *
 * Who a leaf is stands in its URI (subject alternative name); tls.c gives that URI to those who
 * judge (pki_check_peer). Subject and host name are for people and for clients we did not write.
 *
 * Every function leaves OpenSSL's queue of errors of this thread empty: what stays in it would be
 * reported by the next TLS operation as its own.
 */
#include "ctrl/pki/pki_internal.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* Seconds, but for the years. A peer's clock may be this much behind ours. */
enum { CA_YEARS = 10, DAY_S = 86400, CLOCK_SKEW_S = 300 };

/* Either may be NULL; the pair is empty afterwards. */
void pki_pair_free(struct pki_pair *pair)
{
    ASSERT(pair != NULL);
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
    *pair = (struct pki_pair){0};
}

/* The oldest reason in the queue is the cause; what lies on top are its consequences. */
err_t pki_openssl_error(enum err_code code, const char *what)
{
    ASSERT(what != NULL);
    unsigned long number = ERR_get_error();
    const char *reason = number == 0 ? NULL : ERR_reason_error_string(number);
    ERR_clear_error();
    return err_new(code, "%s: %s", what, reason == NULL ? "unknown reason" : reason);
}

/* ---- making ---------------------------------------------------------------------------------- */

static bool set_serial(struct io_env *env, X509 *certificate)
{
    ASSERT(certificate != NULL);
    /* 20 bytes at most, positive, unpredictable (RFC 5280, 4.1.2.2; CA/B forum: 64 random bits). */
    uint8_t bytes[16];
    io_random(env, bytes, sizeof(bytes));
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and of the same length always */
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

/* For people who look at it; nothing of ours decides by the subject. */
static bool set_subject(X509 *certificate, const char *organization, const char *common_name)
{
    ASSERT(organization != NULL && common_name != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)organization, -1,
                                      -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
                                      -1, 0) == 1;
}

/* From a little in the past, for peers whose clock is behind. */
static bool set_validity(X509 *certificate, uint64_t now_s, uint64_t seconds)
{
    ASSERT(seconds > 0);
    return ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(now_s - CLOCK_SKEW_S)) !=
               NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)(now_s + seconds)) != NULL;
}

/* An extension in the text form of OpenSSL's configuration files. */
struct extension {
    int nid;
    const char *value;
};

/*
 * The values are our own or were checked by pki_word_ok: no comma, which would begin another value.
 * The order matters: the authority's key identifier is taken from the issuer, whose own is made
 * first.
 */
static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *extensions,
                           size_t len)
{
    ASSERT(issuer != NULL && len > 0);
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    for (size_t i = 0; i < len; i++) {
        X509_EXTENSION *extension =
            X509V3_EXT_conf_nid(NULL, &ctx, extensions[i].nid, extensions[i].value);
        if (extension == NULL) {
            return false;
        }
        int added = X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
        if (added != 1) {
            return false;
        }
    }
    return true;
}

/* What CA and process have in common: key, version, serial number. */
static err_t begin(struct io_env *env, struct pki_pair *pair)
{
    ASSERT(pair->certificate == NULL && pair->key == NULL);
    ERR_clear_error();
    pair->certificate = X509_new();
    pair->key = EVP_EC_gen("P-256");
    if (pair->certificate == NULL || pair->key == NULL ||
        X509_set_version(pair->certificate, X509_VERSION_3) != 1 ||
        !set_serial(env, pair->certificate) || X509_set_pubkey(pair->certificate, pair->key) != 1) {
        return pki_openssl_error(ERR_INTERNAL, "making a certificate");
    }
    return ERR_OK;
}

/* May leave a half-made pair; pki_make_ca frees it. */
static err_t try_make_ca(struct io_env *env, const char *environment_id, uint64_t now_s,
                         struct pki_pair *pair)
{
    ASSERT(environment_id != NULL);
    TRY(begin(env, pair));
    X509 *certificate = pair->certificate;
    char *uri = pki_identity_uri(environment_id, "ca", "ca");
    struct buf name = {0};
    buf_printf(&name, "URI:%s", uri);
    free(uri);
    const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
        {NID_subject_key_identifier, "hash"},
        {NID_subject_alt_name, buf_cstr(&name)},
    };
    bool ok = set_subject(certificate, environment_id, "Tailrace environment CA") &&
              X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
              set_validity(certificate, now_s, (uint64_t)CA_YEARS * 365 * DAY_S) &&
              add_extensions(certificate, certificate, extensions, ARRAY_LEN(extensions)) &&
              X509_sign(certificate, pair->key, EVP_sha256()) != 0;
    buf_free(&name);
    return ok ? ERR_OK : pki_openssl_error(ERR_INTERNAL, "making a CA certificate");
}

err_t pki_make_ca(struct io_env *env, const char *environment_id, uint64_t now_s,
                  struct pki_pair *out)
{
    ASSERT(now_s > CLOCK_SKEW_S);
    *out = (struct pki_pair){0};
    err_t err = try_make_ca(env, environment_id, now_s, out);
    if (err != ERR_OK) {
        pki_pair_free(out);
    }
    return err;
}

/* The extensions keep it from signing anything, and let it be server and client. */
static err_t try_make_leaf(struct io_env *env, const struct pki_pair *ca, const char *uri,
                           uint64_t now_s, uint64_t lifetime_s, struct pki_pair *pair)
{
    ASSERT(uri != NULL && lifetime_s > 0);
    struct pki_identity identity;
    TRY(pki_identity_parse(uri, &identity));
    TRY(begin(env, pair));
    X509 *certificate = pair->certificate;
    struct buf name = {0};
    /* Clients we did not write check host names: they can ask for "<role>.tailrace.internal". */
    buf_printf(&name, "URI:%s,DNS:%s.tailrace.internal", uri, pki_role_name(identity.role));
    const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature"},
        {NID_ext_key_usage, "serverAuth,clientAuth"},
        {NID_subject_key_identifier, "hash"},
        {NID_authority_key_identifier, "keyid:always"},
        {NID_subject_alt_name, buf_cstr(&name)},
    };
    struct buf common_name = {0};
    buf_printf(&common_name, "%s %.40s", pki_role_name(identity.role), identity.name);
    bool ok = set_subject(certificate, identity.environment, buf_cstr(&common_name)) &&
              X509_set_issuer_name(certificate, X509_get_subject_name(ca->certificate)) == 1 &&
              set_validity(certificate, now_s, lifetime_s) &&
              add_extensions(certificate, ca->certificate, extensions, ARRAY_LEN(extensions)) &&
              X509_sign(certificate, ca->key, EVP_sha256()) != 0;
    buf_free(&name);
    buf_free(&common_name);
    return ok ? ERR_OK : pki_openssl_error(ERR_INTERNAL, "issuing a certificate");
}

err_t pki_make_leaf(struct io_env *env, const struct pki_pair *ca, const char *uri, uint64_t now_s,
                    uint64_t lifetime_s, struct pki_pair *out)
{
    ASSERT(ca->certificate != NULL && ca->key != NULL && now_s > CLOCK_SKEW_S);
    *out = (struct pki_pair){0};
    err_t err = try_make_leaf(env, ca, uri, now_s, lifetime_s, out);
    if (err != ERR_OK) {
        pki_pair_free(out);
    }
    return err;
}

/* ---- PEM ------------------------------------------------------------------------------------- */

/* Appends what was written to a BIO in memory. */
static void take(BIO *bio, struct buf *out)
{
    ASSERT(out != NULL);
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    buf_append(out, data, (size_t)len);
}

err_t pki_write_pem(const struct pki_pair *pair, struct buf *certificate, struct buf *key)
{
    ASSERT(pair->certificate != NULL && pair->key != NULL);
    ERR_clear_error();
    BIO *certificate_bio = BIO_new(BIO_s_mem());
    BIO *key_bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    err_t err = ERR_OK;
    if (certificate_bio == NULL || key_bio == NULL ||
        PEM_write_bio_X509(certificate_bio, pair->certificate) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_bio, pair->key, NULL, NULL, 0, NULL, NULL) != 1) {
        err = pki_openssl_error(ERR_INTERNAL, "encoding a certificate");
    } else {
        take(certificate_bio, certificate);
        take(key_bio, key);
    }
    BIO_free(certificate_bio);
    BIO_free(key_bio);
    return err;
}

/* Never asks for a passphrase on the terminal. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
    return -1;
}

/*
 * The first certificate and the first key of the two texts, which must belong together. Files may
 * have been damaged or exchanged: everything that is wrong is ERR_CORRUPT.
 */
err_t pki_read_pem(const uint8_t *certificate, size_t certificate_len, const uint8_t *key,
                   size_t key_len, struct pki_pair *out)
{
    ASSERT(certificate_len <= INT32_MAX && key_len <= INT32_MAX);
    ERR_clear_error();
    BIO *certificate_bio = BIO_new_mem_buf(certificate, (int)certificate_len);
    BIO *key_bio = BIO_new_mem_buf(key, (int)key_len);
    *out = (struct pki_pair){0};
    err_t err = ERR_OK;
    if (certificate_bio == NULL || key_bio == NULL) {
        err = pki_openssl_error(ERR_INTERNAL, "reading PEM");
    } else {
        out->certificate = PEM_read_bio_X509(certificate_bio, NULL, no_passphrase, NULL);
        out->key = PEM_read_bio_PrivateKey(key_bio, NULL, no_passphrase, NULL);
        if (out->certificate == NULL) {
            err = pki_openssl_error(ERR_CORRUPT, "the certificate cannot be read");
        } else if (out->key == NULL) {
            err = pki_openssl_error(ERR_CORRUPT, "the key cannot be read");
        } else if (X509_check_private_key(out->certificate, out->key) != 1) {
            err = pki_openssl_error(ERR_CORRUPT, "certificate and key do not belong together");
        }
    }
    BIO_free(certificate_bio);
    BIO_free(key_bio);
    if (err != ERR_OK) {
        pki_pair_free(out);
    }
    return err;
}

void pki_wipe(struct buf *secret)
{
    ASSERT(secret != NULL);
    if (secret->data != NULL) {
        OPENSSL_cleanse(secret->data, secret->cap);
    }
    buf_free(secret);
}

/* ---- looking --------------------------------------------------------------------------------- */

/* A NUL in the name would let it look like another one: such a name is none. */
char *pki_uri_of(X509 *certificate)
{
    ASSERT(certificate != NULL);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    char *uri = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && uri == NULL; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            const ASN1_STRING *text = name->d.uniformResourceIdentifier;
            size_t len = (size_t)ASN1_STRING_length(text);
            const unsigned char *data = ASN1_STRING_get0_data(text);
            uri = memchr(data, '\0', len) == NULL ? mem_strndup((const char *)data, len) : NULL;
        }
    }
    GENERAL_NAMES_free(names);
    return uri;
}

/* By signature and not by issuer name: two CAs of one environment have the same name. */
bool pki_is_current(X509 *certificate, const struct pki_pair *ca, const char *uri, uint64_t until_s)
{
    ASSERT(certificate != NULL && ca->key != NULL);
    time_t until = (time_t)until_s;
    char *named = pki_uri_of(certificate);
    bool ok = named != NULL && strcmp(named, uri) == 0 && X509_verify(certificate, ca->key) == 1 &&
              X509_cmp_time(X509_get0_notAfter(certificate), &until) > 0;
    free(named);
    ERR_clear_error();
    return ok;
}
