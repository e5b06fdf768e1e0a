/*
 * Identities: the URI in a certificate, and who may talk to whom. See pki.h. Pure functions; any
 * thread.
 *
 *     tailrace://<environment>/<role>/<name>      each a word: letters, digits, '-', '_', '.'
 *
 * What comes from a peer's certificate was signed by our CA (TLS has checked that), but is parsed
 * as if it were not: a refusal names what was found, and nothing is trusted for its length or its
 * bytes.
 */
#include "ctrl/pki/pki_internal.h"

#define SCHEME "tailrace://"

/* The CA has the same form of identity, with a role no process can have. */
static const char *const role_names[PKI_ROLES] = {
    [PKI_ENVIRONMENTD] = "environmentd",
    [PKI_STORAGED] = "storaged",
    [PKI_COMPUTED] = "computed",
    [PKI_CLIENT] = "client",
};

const char *pki_role_name(enum pki_role role)
{
    ASSERT((unsigned)role < PKI_ROLES);
    return role_names[role];
}

/* Case counts, as in all parts of an identity. */
err_t pki_role_parse(const char *text, enum pki_role *out)
{
    ASSERT(text != NULL && out != NULL);
    for (unsigned i = 0; i < PKI_ROLES; i++) {
        if (strcmp(text, role_names[i]) == 0) {
            *out = (enum pki_role)i;
            return ERR_OK;
        }
    }
    return err_new(ERR_INVALID, "\"%s\" is not a role", text);
}

bool pki_word_ok(const char *text, size_t len)
{
    ASSERT(text != NULL);
    bool ok = len > 0 && len <= 64; /* fits struct pki_identity with its NUL */
    for (size_t i = 0; ok && i < len; i++) {
        char c = text[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    }
    return ok && text[0] != '.'; /* names are file names too */
}

/* The way back of pki_identity_parse; "ca" as role is the CA's, which no parse accepts. */
char *pki_identity_uri(const char *environment_id, const char *role, const char *name)
{
    ASSERT(pki_word_ok(environment_id, strlen(environment_id)));
    struct buf text = {0};
    buf_printf(&text, SCHEME "%s/%s/%s", environment_id, role, name);
    char *uri = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return uri;
}

/* Takes the word before the next '/' (or the end, for the last) out of *at. */
static bool take_word(const char **at, bool last, char out[65])
{
    ASSERT(at != NULL && *at != NULL);
    STATIC_ASSERT(sizeof(((struct pki_identity *)0)->name) == 65, "a word and its NUL");
    const char *end = last ? *at + strlen(*at) : strchr(*at, '/');
    if (end == NULL || !pki_word_ok(*at, (size_t)(end - *at))) {
        return false;
    }
    memcpy(out, *at, (size_t)(end - *at));
    out[end - *at] = '\0';
    *at = last ? end : end + 1;
    return true;
}

err_t pki_identity_parse(const char *uri, struct pki_identity *out)
{
    ASSERT(uri != NULL && out != NULL);
    char role[65];
    const char *at = uri + strlen(SCHEME);
    if (strncmp(uri, SCHEME, strlen(SCHEME)) != 0 || !take_word(&at, false, out->environment) ||
        !take_word(&at, false, role) || !take_word(&at, true, out->name)) {
        return err_new(ERR_INVALID, "\"%s\" is not an identity", uri);
    }
    return err_wrap(pki_role_parse(role, &out->role), "identity \"%s\"", uri);
}

/* "a or b" for people. */
static void list_roles(unsigned roles, struct buf *out)
{
    ASSERT(out != NULL);
    for (unsigned i = 0; i < PKI_ROLES; i++) {
        if ((roles & PKI_ROLE_BIT(i)) != 0) {
            buf_printf(out, "%s%s", out->len == 0 ? "" : " or ", role_names[i]);
        }
    }
}

/* One sentence for all refusals: what was found, what was wanted. */
static err_t refuse(const char *sqlstate, const char *found, const char *environment_id,
                    unsigned roles)
{
    ASSERT(found != NULL);
    struct buf wanted = {0};
    list_roles(roles, &wanted);
    err_t err =
        err_sql(ERR_PERMISSION, sqlstate, "the peer is %s; wanted is %s of environment \"%s\"",
                found, buf_cstr(&wanted), environment_id);
    buf_free(&wanted);
    return err;
}

/* Roles of processes, but not their kind of certificate, stand in the SQLSTATE: see pki.h. */
#define NO_IDENTITY "28000"
#define WRONG_ROLE "42501"

err_t pki_check_peer(const char *peer_name, const char *environment_id, unsigned roles)
{
    ASSERT(peer_name != NULL && environment_id != NULL);
    ASSERT(roles != 0 && roles < PKI_ROLE_BIT(PKI_ROLES));
    if (peer_name[0] == '\0') {
        return refuse(NO_IDENTITY, "without a certificate", environment_id, roles);
    }
    struct buf found = {0};
    struct pki_identity identity;
    err_t err = pki_identity_parse(peer_name, &identity);
    const char *sqlstate = NULL;
    if (err != ERR_OK) {
        err_free(err);
        buf_printf(&found, "\"%s\", which is no identity", peer_name);
        sqlstate = NO_IDENTITY;
    } else {
        buf_printf(&found, "%s \"%s\" of environment \"%s\"", role_names[identity.role],
                   identity.name, identity.environment);
        if (strcmp(identity.environment, environment_id) != 0) {
            sqlstate = NO_IDENTITY;
        } else if ((roles & PKI_ROLE_BIT(identity.role)) == 0) {
            sqlstate = WRONG_ROLE;
        }
    }
    err = sqlstate == NULL ? ERR_OK : refuse(sqlstate, buf_cstr(&found), environment_id, roles);
    buf_free(&found);
    return err;
}
