/*
 * Functions that make arrays, which are text in PostgreSQL's format.
 *
 *   ARRAY[1, NULL, 3]                  {1,NULL,3}
 *   string_to_array('a,,b', ',', '')   {a,NULL,b}
 *   '{1, 2}'::text::numeric[]          {1,2}
 */
#include "core/data/array.h"
#include "core/data/kernel.h"
#include "core/data/table_func.h"

/* ARRAY[a, b, ...]: of values of one kind. */
void k_array(struct call *c)
{
    ASSERT(c->args_len >= 1 && c->out_kind == TYPE_TEXT);
    struct buf text = {0}, out = {0};
    FOR_ROWS(c, i) {
        buf_clear(&out);
        for (uint32_t k = 0; k < c->args_len && out.len <= TEXT_BYTES_MAX; k++) {
            struct type type = type_of((enum type_kind)c->arg_kinds[k]);
            struct datum d;
            buf_append_byte(&out, k == 0 ? '{' : ',');
            if (arg_is_null(c, k, i)) {
                buf_append_str(&out, "NULL");
                continue;
            }
            vec_datum(&c->args[k], c->arg_kinds[k], i, &d);
            buf_clear(&text);
            datum_print(&type, &d, &text);
            array_append(buf_cstr(&text), text.len, &out);
        }
        buf_append_byte(&out, '}');
        call_text(c, i, out.data, out.len);
    }
    buf_free(&text);
    buf_free(&out);
}

/* string_to_array(text, delimiter [, null]): what string_to_table gives, as one value. */
void k_string_to_array(struct call *c)
{
    ASSERT(c->args_len >= 2 && c->args_len <= 3);
    ASSERT(c->out_kind == TYPE_TEXT);
    const struct table_func *func = table_func_by_id(c->args_len == 2 ? 19 : 20);
    struct table_call *call = table_call_new(func, TYPE_TEXT);
    struct buf out = {0};
    FOR_ROWS(c, i) {
        struct datum args[TABLE_FUNC_ARGS_MAX] = {0}, row;
        bool more = true;
        if (arg_is_null(c, 0, i)) {
            call_null(c, i);
            continue;
        }
        for (uint32_t k = 0; k < c->args_len; k++) {
            args[k].null = arg_is_null(c, k, i);
            if (!args[k].null) {
                vec_datum(&c->args[k], TYPE_TEXT, i, &args[k]);
            }
        }
        buf_clear(&out);
        table_call_start(call, args);
        while (more && out.len <= TEXT_BYTES_MAX) { /* beyond it the row fails anyway */
            err_t err = table_call_next(call, &row, &more);
            ASSERT(err == ERR_OK); /* it has none */
            if (more) {
                buf_append_byte(&out, out.len == 0 ? '{' : ',');
            }
            if (more && row.null) {
                buf_append_str(&out, "NULL");
            } else if (more) {
                array_append(row.s, row.len, &out);
            }
        }
        buf_append_str(&out, out.len == 0 ? "{}" : "}");
        call_text(c, i, out.data, out.len);
    }
    buf_free(&out);
    table_call_free(call);
}

/* array_cast(array, oid): its elements as values of the type, read from their text. */
void k_array_cast(struct call *c)
{
    ASSERT(c->args_len == 2 && c->out_kind == TYPE_TEXT);
    struct buf out = {0};
    FOR_ROWS(c, i) {
        struct slice s = ARG(c, 0, struct slice, i);
        struct type element;
        if (!type_of_oid((uint32_t)ARG(c, 1, int64_t, i), -1, &element)) {
            call_failf(c, i, "22023", "unknown type of elements");
            continue;
        }
        buf_clear(&out);
        err_t err = array_convert(s.s, s.len, &element, &out);
        if (err != ERR_OK) {
            call_fail_err(c, i, err);
        } else {
            call_text(c, i, out.data, out.len);
        }
    }
    buf_free(&out);
}
