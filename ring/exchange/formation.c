/*
 * The generation protocol, on the net loops.
 *
 * Each start of a process has a nonce. A generation is a number and the nonces of its members, and
 * only process 0 makes one: when it has a session with every process and either none stands or a
 * member's nonce is no longer that of the standing one. It tells FORM to all; each that has a
 * session with exactly the members named answers READY; when all have, it tells GO, and the workers
 * hear formed. All three are repeated when a session comes back, and are idempotent.
 *
 * A generation ends for a process when it learns of a member that is not the one it knew (its
 * session says another nonce) or of a higher generation. A session cut and resumed with the same
 * nonces ends nothing.
 *
 *     forming standing  meaning
 *     no      no        nothing known, or the last one is over
 *     yes     no        FORM came (process 0: was told); READY goes out when connected with all
 *     no      yes       GO came (process 0: all were ready); the workers heard formed
 *
 * Numbers only grow, also when process 0 restarts: each process says in its HELLO the highest it
 * knows (formation), and process 0 goes beyond all of them.
 */
#include "core/base/log.h"
#include "ring/exchange/internal.h"

/* By mailbox, in the order of the calls: each worker hears formed and lost in turns. */
static void tell_workers(struct exchange *x, enum net_item_kind kind, const char *reason)
{
    ASSERT(x->registered == x->config.workers_per_process && x->generation > 0);
    for (uint32_t i = 0; i < x->config.workers_per_process; i++) {
        struct net_item *item = exchange_item_new(kind);
        item->generation = x->generation;
        item->reason = reason != NULL ? mem_strdup(reason) : NULL;
        mailbox_put(x->workers[i].box, &item->item);
    }
}

/* Nothing, if none stands: the workers have heard lost already, or never formed. */
static void generation_over(struct exchange *x, const char *reason)
{
    if (!x->standing) {
        return;
    }
    x->standing = false;
    LOG_WARN("exchange", "generation is over", LOG_U64("generation", x->generation),
             LOG_STR("reason", reason));
    tell_workers(x, ITEM_LOST, reason);
}

static void generation_stands(struct exchange *x)
{
    ASSERT(x->forming && !x->standing && x->generation > 0);
    x->forming = false;
    x->standing = true;
    LOG_INFO("exchange", "generation stands", LOG_U64("generation", x->generation),
             LOG_U64("processes", x->config.processes));
    if (x->generation_metric != NULL) {
        metric_set(x->generation_metric, (int64_t)x->generation);
    }
    tell_workers(x, ITEM_FORMED, NULL);
}

static void send_control(struct exchange_peer *peer, enum exchange_kind kind)
{
    struct exchange *x = peer->x;
    ASSERT(peer->carrier != NULL && x->generation > 0);
    struct carrier_message m = {.kind = (uint8_t)kind, .flags = CARRIER_URGENT,
                                .a = x->generation};
    if (kind == EXCHANGE_FORM) {
        m.data = (const uint8_t *)x->nonces;
        m.len = sizeof(x->nonces[0]) * x->config.processes;
    }
    carrier_control(peer->carrier, &m);
}

/* Is there a session with every process, and (members) with the very ones of the generation? */
static bool connected_with_all(const struct exchange *x, bool members)
{
    for (uint32_t p = 0; p < x->config.processes; p++) {
        const struct exchange_peer *peer = &x->peers[p];
        if (p == x->config.process) {
            continue;
        }
        if (peer->carrier == NULL || (members && peer->nonce != x->nonces[p])) {
            return false;
        }
    }
    return true;
}

/* Process 0: GO, once the last READY is here and nobody has gone since. */
static void all_ready(struct exchange *x)
{
    ASSERT(x->config.process == 0 && x->forming);
    for (uint32_t p = 1; p < x->config.processes; p++) {
        if (!x->peers[p].ready) {
            return;
        }
    }
    if (!connected_with_all(x, true)) {
        return; /* one is away: it will come back, or a new generation is made */
    }
    generation_stands(x);
    for (uint32_t p = 1; p < x->config.processes; p++) {
        send_control(&x->peers[p], EXCHANGE_GO);
    }
}

/* Anyone but process 0: says READY once what FORM asked for is there. */
static void check_ready(struct exchange *x)
{
    ASSERT(!(x->forming && x->standing));
    if (x->config.process == 0 || !x->forming || x->told_ready || !connected_with_all(x, true)) {
        return;
    }
    x->told_ready = true;
    send_control(&x->peers[0], EXCHANGE_READY);
}

/* Process 0: is the generation made last one of the very processes that are there now? */
static bool members_current(const struct exchange *x)
{
    for (uint32_t p = 1; p < x->config.processes; p++) {
        if (x->peers[p].nonce != x->nonces[p] ||
            x->peers[p].generation_seen > x->generation) {
            return false;
        }
    }
    return x->generation != 0 && x->nonces[0] == x->nonce;
}

/* Process 0: makes a generation if there must be a new one and all are there. */
static void mint(struct exchange *x)
{
    ASSERT(x->config.process == 0);
    if (x->registered < x->config.workers_per_process || !connected_with_all(x, false) ||
        members_current(x)) {
        return;
    }
    generation_over(x, "a process has restarted");
    for (uint32_t p = 1; p < x->config.processes; p++) {
        if (x->peers[p].generation_seen > x->generation) {
            x->generation = x->peers[p].generation_seen;
        }
    }
    ASSERT(x->generation < UINT64_MAX); /* far: numbers of others end at EXCHANGE_GENERATION_MAX */
    x->generation++;
    x->self.formation = x->generation;
    x->forming = true;
    x->nonces[0] = x->nonce;
    for (uint32_t p = 1; p < x->config.processes; p++) {
        x->nonces[p] = x->peers[p].nonce;
        x->peers[p].ready = false;
        x->peers[p].generation_seen = x->generation;
    }
    for (uint32_t p = 1; p < x->config.processes; p++) {
        send_control(&x->peers[p], EXCHANGE_FORM);
    }
    all_ready(x); /* alone: at once */
}

/* A process alone forms its generation here; others wait for sessions. */
void formation_registered(struct exchange *x)
{
    if (x->config.process == 0) {
        mint(x);
    }
}

void formation_connected(struct exchange *x, struct exchange_peer *peer)
{
    ASSERT(peer->carrier != NULL && peer->process != x->config.process);
    if (x->generation != 0 && peer->nonce != x->nonces[peer->process]) {
        generation_over(x, "a process has restarted");
    }
    if (x->config.process != 0) {
        if (peer->process == 0) {
            x->told_ready = false; /* what was said in the old session may be lost */
        }
        check_ready(x);
        return;
    }
    if (members_current(x)) {
        send_control(peer, EXCHANGE_FORM);
        if (x->standing) {
            send_control(peer, EXCHANGE_GO);
        } else {
            all_ready(x);
        }
        return;
    }
    mint(x);
}

/* FORM. Of a number known already it is a repetition and must name the same members; of a lower
 * one, or for an earlier start of this process, it was under way for too long. */
static err_t take_form(struct exchange *x, const struct carrier_message *m)
{
    size_t len = sizeof(x->nonces[0]) * x->config.processes;
    ASSERT(x->config.process != 0);
    if (m->len != len) {
        return err_new(ERR_PROTOCOL, "generation of %zu bytes, expected %zu", m->len, len);
    }
    if (m->a > EXCHANGE_GENERATION_MAX) {
        return err_new(ERR_PROTOCOL, "generation %llu is out of range",
                       (unsigned long long)m->a);
    }
    uint64_t own; /* not aligned in the message */
    memcpy(&own, m->data + sizeof(own) * x->config.process, sizeof(own));
    if (m->a < x->generation || own != x->nonce) {
        LOG_INFO("exchange", "stale generation ignored", LOG_U64("generation", m->a),
                 LOG_U64("known", x->generation));
        return ERR_OK;
    }
    if (m->a == x->generation) {
        if (memcmp(x->nonces, m->data, len) != 0) {
            return err_new(ERR_PROTOCOL, "two generations of number %llu",
                           (unsigned long long)m->a);
        }
        check_ready(x);
        return ERR_OK;
    }
    generation_over(x, "a new generation is being formed");
    x->generation = m->a;
    x->self.formation = m->a;
    memcpy(x->nonces, m->data, len);
    x->forming = true;
    x->told_ready = false;
    check_ready(x);
    return ERR_OK;
}

err_t formation_message(struct exchange *x, struct exchange_peer *peer,
                        const struct carrier_message *m)
{
    ASSERT(peer->carrier != NULL && peer->process != x->config.process);
    ASSERT(!(x->forming && x->standing));
    bool from_zero = peer->process == 0;
    if (m->kind == EXCHANGE_FORM && from_zero) {
        return take_form(x, m);
    }
    if (m->kind == EXCHANGE_GO && from_zero) {
        if (m->a == x->generation && x->forming) {
            generation_stands(x);
        }
        return ERR_OK;
    }
    if (m->kind == EXCHANGE_READY && x->config.process == 0) {
        if (m->a == x->generation) {
            peer->ready = true;
            if (x->forming) {
                all_ready(x);
            } else if (x->standing) {
                send_control(peer, EXCHANGE_GO);
            }
        }
        return ERR_OK;
    }
    return err_new(ERR_PROTOCOL, "control message of kind %u from process %u", m->kind,
                   peer->process);
}

/* With another nonce, and without its sessions, this process is to the others one that was started
 * again: the next generation comes about as it does then. */
void formation_give_up(struct exchange *x, uint64_t generation, const char *reason)
{
    if (!x->standing || x->generation != generation) {
        return; /* it is over already */
    }
    generation_over(x, reason);
    x->nonce = io_random_u64(io_loop_env(x->net));
    x->self.nonce = x->nonce;
    for (uint32_t p = 0; p < x->config.processes; p++) {
        if (x->peers[p].carrier != NULL) {
            carrier_end_session(x->peers[p].carrier, err_new(ERR_LIMIT, "%s", reason));
        }
    }
    if (x->config.process == 0) {
        mint(x); /* alone: at once */
    }
}
