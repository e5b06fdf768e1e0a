/*
 * The scopes of recursion in a plan: which node lies in which, and what hostile plans could do with
 * them. After it a variable belongs to one fixpoint, a cycle goes through a variable, and nothing
 * of a scope is used outside but through PLAN_LEAVE.
 *
 * Any thread.
 */
#include "core/engine/plan_check.h"

enum { NO_SCOPE = (int)UINT32_MAX };

/* Variables and bodies pair up. Whether a variable is another fixpoint's too: plan_check_scopes. */
err_t plan_check_fixpoint(const struct plan *plan, uint32_t index)
{
    const struct plan_node *node = &plan->nodes[index];
    const struct plan_fixpoint *fixpoint = &node->fixpoint;
    ASSERT(node->op == PLAN_FIXPOINT && node->inputs_len > 0);
    CHECK(node->schema.cols == 0, "a fixpoint has no columns");
    CHECK(fixpoint->variables_len == node->inputs_len, "%u variables, %u bodies",
          fixpoint->variables_len, node->inputs_len);
    CHECK(fixpoint->variables != NULL, "variables missing");
    for (uint32_t k = 0; k < fixpoint->variables_len; k++) {
        uint32_t variable = fixpoint->variables[k];
        CHECK(variable < index && plan->nodes[variable].op == PLAN_VARIABLE,
              "node %u is not a variable before it", variable);
        TRY(err_wrap(plan_check_same_kinds(&plan->nodes[variable].schema,
                                           &plan->nodes[node->inputs[k]].schema),
                     "variable %u", k));
    }
    return ERR_OK;
}

err_t plan_check_leave(const struct plan *plan, const struct plan_node *node)
{
    ASSERT(node->op == PLAN_LEAVE && node->inputs_len == 1);
    const struct plan_node *fixpoint = &plan->nodes[node->inputs[0]];
    CHECK(fixpoint->op == PLAN_FIXPOINT, "node %u is no fixpoint", node->inputs[0]);
    CHECK(node->leave.binding < fixpoint->inputs_len, "variable %u of %u", node->leave.binding,
          fixpoint->inputs_len);
    return plan_check_same_kinds(&node->schema,
                                 &plan->nodes[fixpoint->inputs[node->leave.binding]].schema);
}

/* Each variable's fixpoint. */
static err_t own_variables(const struct plan *plan, uint32_t *scopes)
{
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        for (uint32_t k = 0; node->op == PLAN_FIXPOINT && k < node->fixpoint.variables_len; k++) {
            uint32_t *owner = &scopes[node->fixpoint.variables[k]];
            CHECK(*owner == (uint32_t)NO_SCOPE, "node %u is a variable twice",
                  node->fixpoint.variables[k]);
            *owner = i;
        }
    }
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        CHECK(plan->nodes[i].op != PLAN_VARIABLE || scopes[i] != (uint32_t)NO_SCOPE,
              "variable %u of no fixpoint", i);
    }
    return ERR_OK;
}

/* What a recursion cannot do yet, or an operator that may use a node of this one. */
static err_t check_use(const struct plan *plan, uint32_t user, uint32_t input, uint32_t scope)
{
    const struct plan_node *node = &plan->nodes[user];
    CHECK(plan->nodes[input].op != PLAN_FIXPOINT || node->op == PLAN_LEAVE,
          "node %u uses a fixpoint", user);
    if (scope == (uint32_t)NO_SCOPE) {
        return ERR_OK;
    }
    CHECK(node->op == PLAN_FIXPOINT || user < scope, "node %u uses %u behind its fixpoint", user,
          input);
    if (node->op == PLAN_FIXPOINT && user != scope) {
        return err_sql(ERR_UNSUPPORTED, "0A000",
                       "a recursion that depends on variables of another is not supported");
    }
    if (node->op == PLAN_JOIN && node->join.kind != PLAN_JOIN_INNER) {
        return err_sql(ERR_UNSUPPORTED, "0A000",
                       "left, semi and anti joins that depend on a recursion are not supported "
                       "within it");
    }
    static const char *const others[PLAN_OP_MAX + 1] = {
        [PLAN_WINDOW] = "window functions",
        [PLAN_TEMPORAL] = "temporal filters",
        [PLAN_ARRANGE] = "arrangements",
        [PLAN_LOOKUP] = "lookups",
    };
    if (others[node->op] != NULL) {
        return err_sql(ERR_UNSUPPORTED, "0A000",
                       "%s that depend on a recursion are not supported within it",
                       others[node->op]);
    }
    return ERR_OK;
}

/* Inputs come before their users, so one walk spreads the scopes from the variables on. */
static err_t spread(const struct plan *plan, uint32_t *scopes)
{
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        for (uint32_t j = 0; j < node->inputs_len; j++) {
            uint32_t scope = scopes[node->inputs[j]];
            TRY(check_use(plan, i, node->inputs[j], scope));
            if (scope == (uint32_t)NO_SCOPE || node->op == PLAN_FIXPOINT) {
                continue;
            }
            if (scopes[i] != (uint32_t)NO_SCOPE && scopes[i] != scope) {
                return err_sql(ERR_UNSUPPORTED, "0A000",
                               "a recursion that depends on variables of another is not supported");
            }
            scopes[i] = scope;
        }
    }
    return ERR_OK;
}

static err_t find_scopes(const struct plan *plan, uint32_t *scopes)
{
    memset(scopes, 0xFF, plan->nodes_len * sizeof(*scopes));
    TRY(own_variables(plan, scopes));
    return spread(plan, scopes);
}

/* Rows from outside are held back at each place where they enter: an operator more for each. */
static err_t check_entries(const struct plan *plan, const uint32_t *scopes)
{
    uint32_t entries = 0;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        uint32_t scope = node->op == PLAN_FIXPOINT ? i : scopes[i];
        for (uint32_t j = 0; scope != (uint32_t)NO_SCOPE && j < node->inputs_len; j++) {
            entries += scopes[node->inputs[j]] != scope;
        }
    }
    CHECK(entries <= PLAN_NODES_MAX, "recursions are entered at %u places, at most %d", entries,
          PLAN_NODES_MAX);
    return ERR_OK;
}

err_t plan_check_scopes(const struct plan *plan)
{
    uint32_t *scopes = mem_alloc(plan->nodes_len * sizeof(*scopes));
    err_t err = find_scopes(plan, scopes);
    if (err == ERR_OK) {
        err = check_entries(plan, scopes);
    }
    for (uint32_t i = 0; err == ERR_OK && i < plan->exports_len; i++) {
        uint32_t node = plan->exports[i].node;
        if (scopes[node] != (uint32_t)NO_SCOPE || plan->nodes[node].op == PLAN_FIXPOINT) {
            err = err_new(ERR_INVALID, "export %u of what has not left its recursion", i);
        }
    }
    free(scopes);
    return err;
}

void plan_scopes(const struct plan *plan, uint32_t *out)
{
    err_t err = find_scopes(plan, out);
    ASSERT(err == ERR_OK);
}
