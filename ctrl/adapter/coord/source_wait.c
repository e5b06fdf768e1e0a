/*
 * CREATE SOURCE answers when what its files held is published, so that the next statement, in this
 * session or another, sees it: storage says so once (storage_ready), and from then on the oracle is
 * beyond the times of those rows. A large file is not waited for longer than SOURCE_WAIT_MAX_US: a
 * notice says so, and reads of the source wait for the rest by themselves (read_inputs_known). A
 * file that is missing or cannot be read is no reason to wait, but one to warn.
 *
 * The source exists when the wait begins. So a timeout or a cancellation ends the statement with an
 * error, whose detail says that the source was created.
 *
 * On the coordinator's loop.
 */
#include "ctrl/adapter/coord/coord_internal.h"

enum { SOURCE_WAIT_MAX_US = 10 * 1000 * 1000 };

/* Storage has said what it thinks of the files by now. */
static void warn_if_stalled(struct session *s, const struct catalog_item *item)
{
    const struct collection_status *st = u64map_get(&s->coord->statuses, item->id);
    if (st == NULL || (st->status != STORAGE_STALLED && st->status != STORAGE_PAUSED)) {
        return;
    }
    err_t err = err_sql(ERR_IO, "01000", "source \"%s\" does not make progress: %s", item->name,
                        st->reason);
    if (st->hint[0] != '\0') {
        err = err_hint(err, "%s", st->hint);
    }
    session_notice(s, "WARNING", err);
}

/* Ready, dropped by somebody, or waited for long enough. */
static bool over(struct session *s)
{
    const struct wait *w = &s->wait;
    const struct catalog_item *item = catalog_item_id(s->coord->catalog, w->source);
    if (item == NULL) {
        return true;
    }
    if (controller_collection_ready(s->coord->controller, w->source) != 0) {
        warn_if_stalled(s, item);
        return true;
    }
    if (io_now_us(s->coord->loop) < w->until_us) {
        return false;
    }
    session_notice(s, "NOTICE",
                   err_hint(err_sql(ERR_TIMEOUT, "00000", "source \"%s\" is still being read",
                                    item->name),
                            "Queries of it wait until what its files hold has been read."));
    return true;
}

bool source_wait_look(struct session *s)
{
    ASSERT(s->run.state == RUN_WAIT && s->wait.source != 0);
    if (!over(s)) {
        coord_busy(s->coord); /* its times pass in ticks */
        return false;
    }
    statement_wait_end(s);
    statement_complete(s, s->run.portal->prepared->stmt->tag);
    return true;
}

bool source_wait_start(struct session *s, uint64_t id)
{
    ASSERT(id != 0 && s->run.state == RUN_BUSY);
    if (controller_collection_ready(s->coord->controller, id) != 0) {
        return false;
    }
    statement_wait_begin(s, (struct wait){.source = id,
                                          .until_us = io_now_us(s->coord->loop) +
                                                      SOURCE_WAIT_MAX_US});
    return true;
}

void source_wait_describe(const struct session *s, struct buf *out)
{
    const struct catalog_item *item = catalog_item_id(s->coord->catalog, s->wait.source);
    buf_printf(out, "the files of source \"%s\", which has been created, to be read",
               item != NULL ? item->name : "?");
}
