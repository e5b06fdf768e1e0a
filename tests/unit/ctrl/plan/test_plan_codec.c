/* Plans to messages and back; and what hostile messages come to. */
#include "ctrl/plan/plan_codec.h"

#include "core/base/mem.h"
#include "tests/unit/ctrl/plan/sample_plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

typedef struct plan *(*make_fn)(void);

static const make_fn samples[] = {sample_plan_operators, sample_plan_constant,
                                  sample_plan_literals};

/* The wire bytes of a plan; freed with buf_free. */
static struct buf encode(const struct plan *plan)
{
    struct arena arena = {0};
    struct buf buf = {0};
    tailrace_v1_Plan message;
    plan_codec_encode(plan, &arena, &message);
    err_t err = rpc_pb_encode(tailrace_v1_Plan_fields, &message, &buf);
    CU_ASSERT_PTR_NULL_FATAL(err);
    arena_free(&arena);
    return buf;
}

/* In memory of exactly its size, so that a byte read too far is seen. */
static err_t decode(const void *data, size_t len, struct plan **out)
{
    uint8_t *copy = mem_alloc(len + 1);
    memcpy(copy, data, len);
    tailrace_v1_Plan message;
    err_t err = rpc_decode_pb(tailrace_v1_Plan_fields, &message, copy, len);
    if (err == ERR_OK) {
        err = plan_codec_decode(&message, out);
        rpc_release_pb(tailrace_v1_Plan_fields, &message);
    }
    memset(copy, 0xee, len); /* the plan may not point into the message */
    free(copy);
    return err;
}

static void same_text(const struct plan *a, const struct plan *b)
{
    struct buf one = {0};
    struct buf two = {0};
    plan_print(a, &one);
    plan_print(b, &two);
    CU_ASSERT_EQUAL_FATAL(one.len, two.len);
    CU_ASSERT(one.len == 0 || memcmp(one.data, two.data, one.len) == 0);
    buf_free(&one);
    buf_free(&two);
}

static void round_trip(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct plan *plan = samples[i]();
        err_t err = plan_validate(plan);
        if (err != ERR_OK) {
            printf("sample %zu: %s\n", i, err_text(err));
        }
        CU_ASSERT_PTR_NULL_FATAL(err);
        struct buf bytes = encode(plan);
        struct plan *back = NULL;
        err = decode(bytes.data, bytes.len, &back);
        if (err != ERR_OK) {
            printf("sample %zu: %s\n", i, err_text(err));
        }
        CU_ASSERT_PTR_NULL_FATAL(err);
        CU_ASSERT_TRUE(plan_equal(plan, back));
        CU_ASSERT_EQUAL(back->id, plan->id);
        CU_ASSERT_EQUAL(back->as_of, plan->as_of);
        CU_ASSERT_STRING_EQUAL(back->name, plan->name);
        same_text(plan, back);
        struct buf again = encode(back);
        CU_ASSERT_EQUAL_FATAL(again.len, bytes.len);
        CU_ASSERT(bytes.len == 0 || memcmp(again.data, bytes.data, bytes.len) == 0);
        buf_free(&again);
        buf_free(&bytes);
        plan_free(back);
        plan_free(plan);
    }
}

/* The samples hold what they say: a plan language that grows must grow them. */
static void samples_are_complete(void)
{
    bool ops[PLAN_OP_MAX + 1] = {false};
    bool kinds[EXPR_COALESCE + 1] = {false};
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct plan *plan = samples[i]();
        for (uint32_t n = 0; n < plan->nodes_len; n++) {
            const struct plan_node *node = &plan->nodes[n];
            ops[node->op] = true;
            for (uint32_t m = 0; node->op == PLAN_MFP && m < node->mfp.maps_len; m++) {
                const struct expr *e = &node->mfp.maps[m];
                for (uint32_t x = 0; x < e->nodes_len; x++) {
                    kinds[e->nodes[x].kind] = true;
                }
            }
        }
        plan_free(plan);
    }
    for (size_t i = 1; i < ARRAY_LEN(ops); i++) {
        CU_ASSERT_TRUE(ops[i]);
    }
    for (size_t i = 1; i < ARRAY_LEN(kinds); i++) {
        CU_ASSERT_TRUE(kinds[i]);
    }
}

/* Either a plan that validates, encodes and prints, or an error of the sender. */
static bool judge(const void *data, size_t len)
{
    struct plan *plan = NULL;
    err_t err = decode(data, len, &plan);
    if (err != ERR_OK) {
        enum err_code code = err_code(err);
        bool known = code == ERR_PROTOCOL || code == ERR_INVALID || code == ERR_CORRUPT ||
                     code == ERR_LIMIT || code == ERR_UNSUPPORTED;
        if (!known) {
            printf("%s: %s\n", err_code_name(code), err_text(err));
        }
        CU_ASSERT_TRUE_FATAL(known);
        CU_ASSERT_PTR_NULL(plan);
        err_free(err);
        return false;
    }
    err = plan_validate(plan);
    CU_ASSERT_PTR_NULL_FATAL(err);
    struct buf text = {0};
    plan_print(plan, &text);
    buf_free(&text);
    struct buf bytes = encode(plan);
    buf_free(&bytes);
    plan_free(plan);
    return true;
}

static void every_truncation(void)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct plan *plan = samples[i]();
        struct buf bytes = encode(plan);
        for (size_t len = 0; len < bytes.len; len++) {
            judge(bytes.data, len);
        }
        buf_free(&bytes);
        plan_free(plan);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void mutations(void)
{
    uint64_t state = 0x9e3779b97f4a7c15;
    size_t accepted = 0;
    size_t refused = 0;
    for (size_t i = 0; i + 1 < ARRAY_LEN(samples); i++) {
        struct plan *plan = samples[i]();
        struct buf bytes = encode(plan);
        uint8_t *copy = mem_alloc(bytes.len);
        for (uint64_t round = 0; round < test_scaled(6000); round++) {
            memcpy(copy, bytes.data, bytes.len);
            uint64_t changes = 1 + next_random(&state) % 4;
            for (uint64_t c = 0; c < changes; c++) {
                size_t at = next_random(&state) % bytes.len;
                uint64_t r = next_random(&state);
                copy[at] = r % 2 == 0 ? (uint8_t)(r >> 8) : copy[at] ^ (uint8_t)(1 << (r >> 8) % 8);
            }
            bool ok = judge(copy, bytes.len);
            accepted += ok ? 1 : 0;
            refused += ok ? 0 : 1;
        }
        free(copy);
        buf_free(&bytes);
        plan_free(plan);
    }
    CU_ASSERT(accepted > 100 / test_stride() && refused > 1000 / test_stride());
}

/* ---- particular lies ------------------------------------------------------------------------- */

/* A sample encoded, lied to by edit, decoded: refused with this in its text. */
static void refuses(make_fn make, void (*edit)(tailrace_v1_Plan *message, struct arena *arena),
                    const char *text)
{
    struct plan *plan = make();
    struct arena arena = {0};
    tailrace_v1_Plan message;
    plan_codec_encode(plan, &arena, &message);
    edit(&message, &arena);
    struct plan *out = NULL;
    err_t err = plan_codec_decode(&message, &out);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    if (strstr(err_text(err), text) == NULL) {
        printf("\"%s\" lacks \"%s\"\n", err_text(err), text);
        CU_FAIL("error text");
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "plan of dataflow"));
    err_free(err);
    arena_free(&arena);
    plan_free(plan);
}

static void edit_op(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].op = PLAN_OP_MAX + 1;
}

static void edit_op_wraps(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].op = 256 + PLAN_SOURCE; /* the field of struct plan_node has 8 bits */
}

static void edit_input(tailrace_v1_Plan *m, struct arena *arena)
{
    uint32_t self = 2;
    m->nodes[2].inputs = arena_memdup(arena, &self, sizeof(self));
}

static void edit_type_wraps(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].schema.types[0].kind = 256 + TYPE_INT8;
}

static void edit_names(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].schema.names_count = 1;
}

static void edit_schema(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].has_schema = false;
}

static void edit_mfp(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[2].has_mfp = false;
}

static void edit_expr_kind(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[2].mfp.maps[0].nodes[0].kind = 256 + EXPR_COLUMN;
}

static void edit_expr_args(tailrace_v1_Plan *m, struct arena *arena)
{
    tailrace_v1_ExprNode *node = &m->nodes[2].mfp.maps[0].nodes[10];
    node->args_count = EXPR_ARGS_MAX + 1;
    node->args = ARENA_ARRAY(arena, uint32_t, EXPR_ARGS_MAX + 1);
}

static void edit_expr_forward(tailrace_v1_Plan *m, struct arena *arena)
{
    uint32_t self = 3;
    m->nodes[2].mfp.maps[0].nodes[3].args = arena_memdup(arena, &self, sizeof(self));
}

static void edit_expr_empty(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[2].mfp.maps[0].nodes_count = 0;
}

static void edit_literal_size(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[2].mfp.maps[0].nodes[1].literal.value.len = 7;
}

static void edit_join_kind(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[3].join.kind = 256 + PLAN_JOIN_INNER;
}

static void edit_join_keys(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[3].join.left_keys_count = 0;
}

static void edit_export_kind(tailrace_v1_Plan *m, struct arena *arena)
{
    m->exports[0].kind = 256 + PLAN_EXPORT_INDEX;
}

static void edit_export_node(tailrace_v1_Plan *m, struct arena *arena)
{
    m->exports[0].node = m->nodes_count;
}

static void edit_export_twice(tailrace_v1_Plan *m, struct arena *arena)
{
    m->exports[1].id = m->exports[0].id;
}

static void edit_as_of(tailrace_v1_Plan *m, struct arena *arena)
{
    m->as_of = UINT64_MAX;
}

static void edit_constant(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].has_constant = false;
}

static void edit_constant_bytes(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].constant.data.len /= 2;
}

static void edit_constant_empty(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes[0].constant.data = (struct rpc_bytes){0};
}

static void edit_nothing_to_run(tailrace_v1_Plan *m, struct arena *arena)
{
    m->nodes_count = 0;
    m->exports_count = 0;
}

static void lies(void)
{
    refuses(sample_plan_operators, edit_nothing_to_run, "nodes missing");
    refuses(sample_plan_operators, edit_op, "operator");
    refuses(sample_plan_operators, edit_op_wraps, "operator 257");
    refuses(sample_plan_operators, edit_input, "input 2");
    refuses(sample_plan_operators, edit_type_wraps, "unknown type kind 260");
    refuses(sample_plan_operators, edit_names, "2 types and 1 names");
    refuses(sample_plan_operators, edit_schema, "node 0");
    refuses(sample_plan_operators, edit_mfp, "without its program");
    refuses(sample_plan_operators, edit_expr_kind, "node of kind 257");
    refuses(sample_plan_operators, edit_expr_args, "101 arguments");
    refuses(sample_plan_operators, edit_expr_forward, "node 2");
    refuses(sample_plan_operators, edit_expr_empty, "node 2");
    refuses(sample_plan_operators, edit_literal_size, "has 7 bytes");
    refuses(sample_plan_operators, edit_join_kind, "malformed join");
    refuses(sample_plan_operators, edit_join_keys, "malformed join");
    refuses(sample_plan_operators, edit_export_kind, "export 0 of unknown kind 257");
    refuses(sample_plan_operators, edit_export_node, "export 0");
    refuses(sample_plan_operators, edit_export_twice, "export 1");
    refuses(sample_plan_operators, edit_as_of, "as_of");
    refuses(sample_plan_constant, edit_constant, "constant without rows");
    refuses(sample_plan_constant, edit_constant_bytes, "node 0");
    refuses(sample_plan_constant, edit_constant_empty, "node 0");
}

/* ---- literals that are not values of their type ---------------------------------------------- */

static err_t decode_literal(enum type_kind kind, const void *bytes, size_t len)
{
    tailrace_v1_ExprNode node = {.kind = EXPR_LITERAL, .has_type = true, .has_literal = true};
    node.type.kind = kind;
    node.literal.value = (struct rpc_bytes){bytes, len};
    tailrace_v1_Expr expr = {.nodes_count = 1, .nodes = &node};
    uint32_t column = 0;
    const tailrace_v1_Mfp message = {
        .maps_count = 1, .maps = &expr, .project_count = 1, .project = &column};
    struct arena arena = {0};
    struct mfp mfp;
    struct type *output;
    err_t err = plan_codec_decode_mfp(&message, &arena, &mfp);
    if (err == ERR_OK) {
        err = mfp_validate(&mfp, NULL, 0, &arena, &output);
    }
    arena_free(&arena);
    return err;
}

static void literal_refused(enum type_kind kind, const void *bytes, size_t len)
{
    err_t err = decode_literal(kind, bytes, len);
    if (err == ERR_OK) {
        printf("a literal of kind %d was accepted\n", kind);
    }
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
}

static void hostile_literals(void)
{
    int64_t number = INT64_C(1) << 40;
    literal_refused(TYPE_INT2, &number, 8);
    literal_refused(TYPE_INT4, &number, 8);
    literal_refused(TYPE_OID, &number, 8);
    literal_refused(TYPE_TIME, &number, 8);
    number = -1;
    literal_refused(TYPE_TIME, &number, 8);
    number = INT64_MIN + 1;
    literal_refused(TYPE_TIMESTAMP, &number, 8);
    literal_refused(TYPE_DATE, &number, 8);
    literal_refused(TYPE_TEXT, "\xff", 1);
    literal_refused(TYPE_TEXT, "\xc3", 1);
    literal_refused(TYPE_JSONB, "{\"a\":1}", 7); /* not as PostgreSQL prints it */
    literal_refused(TYPE_JSONB, "{", 1);
    literal_refused(TYPE_JSONB, "", 0);
    literal_refused(TYPE_BOOL, "", 0);
    literal_refused(TYPE_UNKNOWN, &number, 8);
    struct numeric n = {.lo = 1, .scale = 39};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.lo = 1, .scale = -1};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.lo = 1, .special = 1};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.special = 4};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.lo = 1, .zero = 1};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.hi = INT64_MAX};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.hi = INT64_MIN};
    literal_refused(TYPE_NUMERIC, &n, sizeof(n));
    n = (struct numeric){.lo = 1, .scale = 38};
    err_t err = decode_literal(TYPE_NUMERIC, &n, sizeof(n));
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static err_t error_round_trip(err_t err)
{
    struct arena arena = {0};
    struct buf buf = {0};
    tailrace_v1_Error message;
    plan_codec_encode_err(err, &arena, &message);
    CU_ASSERT_PTR_NULL_FATAL(rpc_pb_encode(tailrace_v1_Error_fields, &message, &buf));
    tailrace_v1_Error back;
    CU_ASSERT_PTR_NULL_FATAL(
        rpc_decode_pb(tailrace_v1_Error_fields, &back, buf.data, buf.len));
    err_t out = plan_codec_decode_err(&back);
    rpc_release_pb(tailrace_v1_Error_fields, &back);
    buf_free(&buf);
    arena_free(&arena);
    return out;
}

static void errors(void)
{
    for (int code = ERR_INTERNAL; code <= ERR_IO; code++) {
        err_t err = err_sql((enum err_code)code, "22012", "division %s", "by zero %d");
        err = err_wrap(err_hint(err_detail(err, "100%% sure"), "do not"), "row %d", 3);
        err_t back = error_round_trip(err);
        CU_ASSERT_EQUAL(err_code(back), err_code(err));
        CU_ASSERT_STRING_EQUAL(err_sqlstate(back), "22012");
        CU_ASSERT_STRING_EQUAL(err_text(back), err_text(err));
        CU_ASSERT_STRING_EQUAL(err_detail_get(back), "100% sure");
        CU_ASSERT_STRING_EQUAL(err_hint_get(back), "do not");
        err_free(back);
        err_free(err);
    }
}

static void hostile_errors(void)
{
    char text[] = "text";
    char state[] = "123456";
    const tailrace_v1_Error messages[] = {{0},
                                          {.code = 1000, .sqlstate = state, .message = text},
                                          {.code = UINT32_MAX, .message = text}};
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        err_t err = plan_codec_decode_err(&messages[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(err); /* an error stays one */
        CU_ASSERT_EQUAL(err_code(err), ERR_INTERNAL);
        CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "XX000");
        err_free(err);
    }
}

/* An error row's SQLSTATE reaches SQL clients: five capitals and digits or nothing. */
static void hostile_sqlstate(void)
{
    char text[] = "text";
    char state[] = "a\nb\"c";
    const tailrace_v1_Error message = {.code = ERR_INVALID, .sqlstate = state, .message = text};
    err_t err = plan_codec_decode_err(&message);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "XX000");
    err_free(err);
}

static const struct test_case cases[] = {
    {"round trip", round_trip},
    {"samples are complete", samples_are_complete},
    {"every truncation", every_truncation},
    {"mutations", mutations},
    {"lies", lies},
    {"hostile literals", hostile_literals},
    {"errors", errors},
    {"hostile errors", hostile_errors},
    {"hostile sqlstate", hostile_sqlstate},
};
TEST_SUITE("ctrl/plan", cases)
