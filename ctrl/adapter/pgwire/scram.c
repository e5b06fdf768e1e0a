/*
 * SCRAM-SHA-256 over OpenSSL's primitives: see scram.h for the contract.
 *
 *     client: n,,n=user,r=CN            -> server: r=CN SN,s=SALT,i=4096
 *     client: c=biws,r=CN SN,p=PROOF    -> server: v=SIGNATURE
 *
 * What both sign (AuthMessage) is the three messages' contents joined by commas; it is gathered in
 * auth_message as they pass. The password itself never crosses the wire, nor is it kept.
 */
#include "ctrl/adapter/pgwire/scram.h"

#include "core/base/assert.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>

/* A peer that does not speak SCRAM: nothing to do with the password. */
static err_t malformed(const char *what)
{
    return err_sql(ERR_PROTOCOL, "08P01", "malformed SCRAM message: %s", what);
}

/* HMAC-SHA-256; false only when OpenSSL itself fails. Keys are digests or a salted password: never
 * longer than a block of SHA-256. */
static bool hmac(const uint8_t *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[SCRAM_KEY_LEN])
{
    unsigned out_len = 0;
    ASSERT(key_len <= 64);
    bool ok = HMAC(EVP_sha256(), key, (int)key_len, data, len, out, &out_len) != NULL;
    ASSERT(!ok || out_len == SCRAM_KEY_LEN);
    return ok;
}

/*
 * RFC 5802, section 3:
 *  SaltedPassword = PBKDF2(password, salt, i)
 *  StoredKey = H(HMAC(SaltedPassword, "Client Key"))
 *  ServerKey = HMAC(SaltedPassword, "Server Key")
 * Who steals StoredKey and ServerKey can check a password but not log in with them.
 */
err_t scram_verifier_make(const char *password, const uint8_t salt[SCRAM_SALT_LEN],
                          uint32_t iterations, struct scram_verifier *out)
{
    ASSERT(password != NULL && out != NULL);
    ASSERT(iterations >= SCRAM_ITERATIONS);
    uint8_t salted[SCRAM_KEY_LEN];
    uint8_t client_key[SCRAM_KEY_LEN];
    out->iterations = iterations;
    memcpy(out->salt, salt, SCRAM_SALT_LEN);
    bool ok = PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, SCRAM_SALT_LEN,
                                (int)iterations, EVP_sha256(), SCRAM_KEY_LEN, salted) == 1 &&
              hmac(salted, SCRAM_KEY_LEN, "Client Key", 10, client_key) &&
              hmac(salted, SCRAM_KEY_LEN, "Server Key", 10, out->server_key);
    if (ok) {
        SHA256(client_key, SCRAM_KEY_LEN, out->stored_key);
    }
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return ok ? ERR_OK : err_new(ERR_INTERNAL, "OpenSSL cannot derive a SCRAM key");
}

/* Salts and signatures: short enough for the buffer. */
static void append_base64(struct buf *out, const uint8_t *data, size_t len)
{
    char text[128];
    ASSERT(len <= 64);
    int n = EVP_EncodeBlock((uint8_t *)text, data, (int)len);
    ASSERT(n > 0 && (size_t)n < sizeof(text));
    buf_append(out, text, (size_t)n);
}

/* A message is "a=...,b=..."; the text of the attribute at *at, which moves behind its comma.
 * Attributes come in a fixed order, so asking for the next by name is all the parsing there is. */
static bool next_attribute(const char **at, char name, const char **value, size_t *len)
{
    const char *p = *at;
    ASSERT(value != NULL && len != NULL);
    if (p[0] != name || p[1] != '=') {
        return false;
    }
    *value = p + 2;
    *len = strcspn(*value, ",");
    p = *value + *len;
    *at = *p == ',' ? p + 1 : p;
    return true;
}

/* Nonces are printable ASCII without comma (RFC 5802, section 5.1). */
static bool nonce_valid(const char *nonce, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (nonce[i] < 0x21 || nonce[i] > 0x7e) {
            return false;
        }
    }
    return len > 0;
}

/* "n,,n=user,r=nonce": the gs2 header (n, y or p), an authorization identity (none), then the part
 * that both sides sign, from "n=" on. */
static err_t take_first(struct scram_exchange *x, const char *text, const char **nonce,
                        size_t *nonce_len)
{
    const char *at = text;
    ASSERT(x->auth_message.len == 0);
    if (at[0] == 'p') {
        return err_sql(ERR_PROTOCOL, "08P01",
                       "client requires SCRAM channel binding, but it is not supported");
    }
    /* 'y': the client could bind channels and believes we can not, which is true. */
    if ((at[0] != 'n' && at[0] != 'y') || at[1] != ',') {
        return malformed("bad gs2 header");
    }
    at += 2;
    if (*at != ',') {
        return err_sql(ERR_UNSUPPORTED, "0A000", "SCRAM authorization identity is not supported");
    }
    at++;
    const char *bare = at;
    const char *user;
    size_t user_len;
    if (at[0] == 'm') {
        return err_sql(ERR_UNSUPPORTED, "0A000",
                       "client requires an unsupported SCRAM extension");
    }
    /* The user is the one of the start-up packet, as PostgreSQL has it; this name is ignored. */
    if (!next_attribute(&at, 'n', &user, &user_len)) {
        return malformed("user name expected");
    }
    if (!next_attribute(&at, 'r', nonce, nonce_len) || !nonce_valid(*nonce, *nonce_len)) {
        return malformed("nonce expected");
    }
    if (*nonce_len > 64) {
        return malformed("nonce too long");
    }
    buf_append_str(&x->auth_message, bare);
    return ERR_OK;
}

/* The answer is "r=<client's nonce><ours>,s=<salt>,i=<iterations>". Our half of the nonce makes
 * each exchange different, so that a recorded proof is worth nothing. */
err_t scram_first(struct scram_exchange *x, const struct scram_verifier *verifier,
                  const uint8_t *message, size_t len, const uint8_t nonce[SCRAM_NONCE_LEN],
                  struct buf *answer)
{
    ASSERT(!x->began && verifier != NULL);
    if (len > 1024 || memchr(message, '\0', len) != NULL) {
        return malformed("length");
    }
    struct buf text = {0};
    buf_append(&text, message, len);
    const char *client_nonce = NULL;
    size_t client_nonce_len = 0;
    err_t err = take_first(x, buf_cstr(&text), &client_nonce, &client_nonce_len);
    if (err == ERR_OK) {
        /* 18 bytes are 24 characters of base64, and a NUL. */
        char ours[SCRAM_NONCE_LEN * 2];
        EVP_EncodeBlock((uint8_t *)ours, nonce, SCRAM_NONCE_LEN);
        snprintf(x->nonce, sizeof(x->nonce), "%.*s%s", (int)client_nonce_len, client_nonce, ours);
        size_t from = answer->len;
        buf_printf(answer, "r=%s,s=", x->nonce);
        append_base64(answer, verifier->salt, SCRAM_SALT_LEN);
        buf_printf(answer, ",i=%u", verifier->iterations);
        buf_append_byte(&x->auth_message, ',');
        buf_append(&x->auth_message, answer->data + from, answer->len - from);
        x->verifier = verifier;
        x->began = true;
    }
    buf_free(&text);
    return err;
}

/* The proof holds iff H(proof XOR HMAC(StoredKey, AuthMessage)) = StoredKey. The comparison takes
 * the same time wherever the first difference is. */
static bool proof_holds(const struct scram_exchange *x, const uint8_t proof[SCRAM_KEY_LEN])
{
    uint8_t signature[SCRAM_KEY_LEN];
    uint8_t client_key[SCRAM_KEY_LEN];
    uint8_t stored[SCRAM_KEY_LEN];
    ASSERT(x->verifier != NULL);
    if (!hmac(x->verifier->stored_key, SCRAM_KEY_LEN, x->auth_message.data, x->auth_message.len,
              signature)) {
        return false;
    }
    for (size_t i = 0; i < SCRAM_KEY_LEN; i++) {
        client_key[i] = proof[i] ^ signature[i];
    }
    SHA256(client_key, SCRAM_KEY_LEN, stored);
    return CRYPTO_memcmp(stored, x->verifier->stored_key, SCRAM_KEY_LEN) == 0;
}

/* "c=biws,r=<nonce>,p=<proof>" -> the proof, and the message without it into auth_message. */
static err_t take_final(struct scram_exchange *x, const char *text, uint8_t proof[SCRAM_KEY_LEN])
{
    const char *at = text;
    const char *value;
    size_t len;
    ASSERT(x->began);
    if (!next_attribute(&at, 'c', &value, &len)) {
        return malformed("channel binding expected");
    }
    /* base64 of "n,," or "y,,": the header of the first message. */
    if (len != 4 || (memcmp(value, "biws", 4) != 0 && memcmp(value, "eSws", 4) != 0)) {
        return malformed("unexpected channel binding");
    }
    if (!next_attribute(&at, 'r', &value, &len) || len != strlen(x->nonce) ||
        memcmp(value, x->nonce, len) != 0) {
        return malformed("wrong nonce");
    }
    size_t without_proof = (size_t)(value + len - text);
    if (!next_attribute(&at, 'p', &value, &len) || len != 44 || *at != '\0') {
        return malformed("proof expected");
    }
    uint8_t decoded[48];
    /* it counts the padding byte */
    if (EVP_DecodeBlock(decoded, (const uint8_t *)value, 44) != 33) {
        return malformed("bad proof encoding");
    }
    memcpy(proof, decoded, SCRAM_KEY_LEN);
    buf_append_byte(&x->auth_message, ',');
    buf_append(&x->auth_message, text, without_proof);
    return ERR_OK;
}

/* Our signature proves to the client that we know its password's verifier: "v=<signature>". */
err_t scram_final(struct scram_exchange *x, const uint8_t *message, size_t len,
                  struct buf *answer)
{
    ASSERT(x->began && x->verifier != NULL);
    if (len > 1024 || memchr(message, '\0', len) != NULL) {
        return malformed("length");
    }
    struct buf text = {0};
    buf_append(&text, message, len);
    uint8_t proof[SCRAM_KEY_LEN];
    err_t err = take_final(x, buf_cstr(&text), proof);
    buf_free(&text);
    TRY(err);
    if (!proof_holds(x, proof)) {
        return err_sql(ERR_PERMISSION, "28P01", "password authentication failed");
    }
    uint8_t signature[SCRAM_KEY_LEN];
    if (!hmac(x->verifier->server_key, SCRAM_KEY_LEN, x->auth_message.data, x->auth_message.len,
              signature)) {
        return err_new(ERR_INTERNAL, "OpenSSL cannot compute a SCRAM signature");
    }
    buf_append_str(answer, "v=");
    append_base64(answer, signature, SCRAM_KEY_LEN);
    return ERR_OK;
}

/* Wiped, though nothing in it lets anyone log in: it costs nothing. */
void scram_exchange_free(struct scram_exchange *x)
{
    buf_free(&x->auth_message);
    OPENSSL_cleanse(x, sizeof(*x));
}
