/* See bfs.h. Nodes are numbers, so an array; their edges are lists in both directions. */
#include "bench/bfs.h"

#include "core/base/mem.h"

#include <stdlib.h>

#define FAR UINT32_MAX

enum { MANY = 10000 }; /* edges that come together */

struct edges {
    uint32_t *edges; /* other ends */
    size_t edges_len, edges_cap;
};

struct node {
    struct edges out, in;
    uint32_t distance; /* FAR: not reached */
    uint32_t before;   /* the round */
    uint32_t round;    /* that touched it last */
    bool lost;         /* while a removal is under way: it has no support yet */
};

struct bfs {
    struct node *nodes;
    size_t nodes_len;
    uint32_t round;
    uint32_t *touched;
    size_t touched_len, touched_cap;
    uint32_t *queue; /* nodes in the order they are to be looked at */
    size_t queue_len, queue_cap;
    uint32_t *levels; /* of a removal: per distance the first of a list, 1 + its place in queue */
    size_t levels_len, levels_cap;
    uint32_t *next;   /* of the lists; as queue */
    size_t next_len, next_cap;
};

static void touch(struct bfs *bfs, uint32_t node)
{
    struct node *n = &bfs->nodes[node];
    if (n->round != bfs->round) {
        n->round = bfs->round;
        n->before = n->distance;
        *VEC_PUSH(bfs, touched) = node;
    }
}

static void grow(struct bfs *bfs, uint64_t node)
{
    size_t len = bfs->nodes_len;
    if (node < len) {
        return;
    }
    size_t more = node + 1 > 2 * len ? node + 1 : 2 * len;
    ASSERT(more < UINT32_MAX);
    bfs->nodes = mem_realloc(bfs->nodes, more * sizeof(*bfs->nodes));
    for (size_t i = len; i < more; i++) {
        bfs->nodes[i] = (struct node){.distance = FAR};
    }
    bfs->nodes_len = more;
}

struct bfs *bfs_new(void)
{
    struct bfs *bfs = MEM_NEW(struct bfs);
    grow(bfs, 1023);
    bfs->round = 1;
    for (uint32_t root = 0; root < BFS_ROOTS; root++) {
        touch(bfs, root);
        bfs->nodes[root].distance = 0;
    }
    return bfs;
}

void bfs_free(struct bfs *bfs)
{
    for (size_t i = 0; i < bfs->nodes_len; i++) {
        free(bfs->nodes[i].out.edges);
        free(bfs->nodes[i].in.edges);
    }
    free(bfs->nodes);
    free(bfs->touched);
    free(bfs->queue);
    free(bfs->levels);
    free(bfs->next);
    free(bfs);
}

static void remove_edge(struct edges *list, uint32_t end)
{
    size_t i = 0;
    while (list->edges[i] != end) {
        i++;
        ASSERT(i < list->edges_len); /* only what is there is removed */
    }
    list->edges[i] = list->edges[--list->edges_len];
}

/* What a nearer node makes nearer, in the order of distances as all edges are of length 1. */
static void spread(struct bfs *bfs)
{
    for (size_t at = 0; at < bfs->queue_len; at++) {
        const struct node *from = &bfs->nodes[bfs->queue[at]];
        for (size_t e = 0; e < from->out.edges_len; e++) {
            struct node *to = &bfs->nodes[from->out.edges[e]];
            if (to->distance > from->distance + 1) {
                touch(bfs, from->out.edges[e]);
                to->distance = from->distance + 1;
                *VEC_PUSH(bfs, queue) = from->out.edges[e];
            }
        }
    }
    bfs->queue_len = 0;
}

static void insert(struct bfs *bfs, uint32_t from, uint32_t to)
{
    *VEC_PUSH(&bfs->nodes[from].out, edges) = to;
    *VEC_PUSH(&bfs->nodes[to].in, edges) = from;
    uint32_t distance = bfs->nodes[from].distance;
    if (distance != FAR && bfs->nodes[to].distance > distance + 1) {
        touch(bfs, to);
        bfs->nodes[to].distance = distance + 1;
        *VEC_PUSH(bfs, queue) = to;
        spread(bfs);
    }
}

/* Is a node one step from another that has not lost its support? */
static bool is_supported(const struct bfs *bfs, const struct node *node)
{
    for (size_t e = 0; e < node->in.edges_len; e++) {
        const struct node *from = &bfs->nodes[node->in.edges[e]];
        if (!from->lost && from->distance != FAR && from->distance + 1 == node->distance) {
            return true;
        }
    }
    return node->distance == 0; /* a root */
}

/* The nodes that have lost their support, by distance: who they supported may have as well. */
static void find_lost(struct bfs *bfs, uint32_t first)
{
    *VEC_PUSH(bfs, queue) = first;
    bfs->nodes[first].lost = true;
    for (size_t at = 0; at < bfs->queue_len; at++) {
        const struct node *from = &bfs->nodes[bfs->queue[at]];
        for (size_t e = 0; e < from->out.edges_len; e++) {
            uint32_t end = from->out.edges[e];
            struct node *to = &bfs->nodes[end];
            if (!to->lost && to->distance == from->distance + 1 && !is_supported(bfs, to)) {
                to->lost = true;
                *VEC_PUSH(bfs, queue) = end;
            }
        }
    }
}

/* Puts a node on the list of a distance. */
static void put_level(struct bfs *bfs, uint32_t distance, uint32_t node)
{
    while (bfs->levels_len <= distance) {
        *VEC_PUSH(bfs, levels) = 0;
    }
    *VEC_PUSH(bfs, queue) = node;
    *VEC_PUSH(bfs, next) = bfs->levels[distance];
    bfs->levels[distance] = (uint32_t)bfs->queue_len;
}

/* What the nodes on the lists make nearer, nearest first. */
static void spread_levels(struct bfs *bfs)
{
    for (uint32_t distance = 0; distance < bfs->levels_len; distance++) {
        for (uint32_t at = bfs->levels[distance]; at != 0; at = bfs->next[at - 1]) {
            const struct node *from = &bfs->nodes[bfs->queue[at - 1]];
            for (size_t e = 0; from->distance == distance && e < from->out.edges_len; e++) {
                struct node *to = &bfs->nodes[from->out.edges[e]];
                if (to->distance > distance + 1) {
                    touch(bfs, from->out.edges[e]);
                    to->distance = distance + 1;
                    put_level(bfs, distance + 1, from->out.edges[e]);
                }
            }
        }
    }
    bfs->queue_len = 0;
}

/* Each lost node at its distance from those that are not; then outwards, nearest first. */
static void reach_lost(struct bfs *bfs)
{
    size_t lost = bfs->queue_len;
    bfs->next_len = bfs->levels_len = 0;
    for (size_t i = 0; i < lost; i++) {
        *VEC_PUSH(bfs, next) = 0;
    }
    for (size_t i = 0; i < lost; i++) {
        struct node *node = &bfs->nodes[bfs->queue[i]];
        touch(bfs, bfs->queue[i]);
        node->distance = FAR;
    }
    for (size_t i = 0; i < lost; i++) {
        struct node *node = &bfs->nodes[bfs->queue[i]];
        node->lost = false;
        for (size_t e = 0; e < node->in.edges_len; e++) {
            uint32_t distance = bfs->nodes[node->in.edges[e]].distance;
            if (distance != FAR && distance + 1 < node->distance) {
                node->distance = distance + 1;
            }
        }
        if (node->distance != FAR) {
            put_level(bfs, node->distance, bfs->queue[i]);
        }
    }
    spread_levels(bfs);
}

static void take_out(struct bfs *bfs, uint32_t from, uint32_t to)
{
    remove_edge(&bfs->nodes[from].out, to);
    remove_edge(&bfs->nodes[to].in, from);
    uint32_t distance = bfs->nodes[from].distance;
    if (distance == FAR || bfs->nodes[to].distance != distance + 1 ||
        is_supported(bfs, &bfs->nodes[to])) {
        return;
    }
    find_lost(bfs, to);
    reach_lost(bfs);
}

/* Many edges that come: all of them first, then distances from wherever one starts, so that a node
 * is reached once and not each time something nearer turns up. */
static void insert_many(struct bfs *bfs, const struct update *updates, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        *VEC_PUSH(&bfs->nodes[updates[i].key].out, edges) = (uint32_t)updates[i].value;
        *VEC_PUSH(&bfs->nodes[updates[i].value].in, edges) = (uint32_t)updates[i].key;
    }
    bfs->next_len = bfs->levels_len = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t distance = bfs->nodes[updates[i].key].distance;
        if (distance != FAR && bfs->nodes[updates[i].value].distance > distance + 1) {
            put_level(bfs, distance, (uint32_t)updates[i].key);
        }
    }
    spread_levels(bfs);
}

static bool are_many(const struct update *updates, size_t len)
{
    bool many = len >= MANY;
    for (size_t i = 0; many && i < len; i++) {
        many = updates[i].diff > 0;
    }
    return many;
}

void bfs_run(struct bfs *bfs, const struct update *updates, size_t len, struct outcome *outcome)
{
    bool many = are_many(updates, len);
    for (size_t i = 0; i < len; i++) {
        grow(bfs, updates[i].key);
        grow(bfs, updates[i].value);
    }
    if (many) {
        insert_many(bfs, updates, len);
    }
    for (size_t i = 0; !many && i < len; i++) {
        if (updates[i].diff > 0) {
            insert(bfs, (uint32_t)updates[i].key, (uint32_t)updates[i].value);
        } else {
            take_out(bfs, (uint32_t)updates[i].key, (uint32_t)updates[i].value);
        }
    }
    for (size_t i = 0; i < bfs->touched_len; i++) {
        const struct node *node = &bfs->nodes[bfs->touched[i]];
        uint64_t old[2] = {bfs->touched[i], node->before};
        uint64_t now[2] = {bfs->touched[i], node->distance};
        if (node->before != node->distance && node->before != FAR) {
            outcome_add(outcome, workload_hash(old, 2), -1);
        }
        if (node->before != node->distance && node->distance != FAR) {
            outcome_add(outcome, workload_hash(now, 2), 1);
        }
    }
    bfs->touched_len = 0;
    bfs->round++;
}

uint64_t bfs_memory(const struct bfs *bfs)
{
    uint64_t bytes = bfs->nodes_len * sizeof(*bfs->nodes);
    for (size_t i = 0; i < bfs->nodes_len; i++) {
        bytes += (bfs->nodes[i].out.edges_cap + bfs->nodes[i].in.edges_cap) * sizeof(uint32_t);
    }
    return bytes;
}
