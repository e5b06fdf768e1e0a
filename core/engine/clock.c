/*
 * Progress that dataflows share, and dataflows at rest.
 *
 * Most views are idle most of the time: their sources only say that time passes. A clock is the
 * progress of one part of a collection, kept once for all sources that follow it. A dataflow whose
 * parts all follow clocks, and which owes nobody anything, is at rest: a tick moves the number of
 * the clock and does not touch it. So a tick costs what is awake, and data cost whom they are for.
 *
 * Why that is right. To an operator rest is nothing but a tick that comes late: its frontiers stay
 * behind, and when it is scheduled again the source takes the clock's number, as if all ticks
 * between had been one. What is below the clock and concerns the dataflow has been given to it
 * (`given`), and it rests only when its exports are complete there. So they are complete
 * below the least of its clocks, whatever their frontiers say: that is what `follows` promises the
 * host. Whoever needs the frontier itself keeps it awake:
 *
 *   - a peek that is not answered, and a subscription,
 *   - an import of an awake dataflow (`dependents`), which needs the index's frontier,
 *   - the same dataflow on another worker that is awake for one of these reasons (`wanted`): there
 *     a port's frontier is the least of all workers'. Each tells the others when that changes,
 *   - updates given to it that are not in its exports yet.
 *
 * A temporal filter that holds rows has something to do when only the time passes: it sets an alarm
 * with a clock it depends on. Which one does not matter: woken too early it sets another one, and a
 * read wakes it in any case.
 *
 * Whether it may rest is asked when a dataflow has run and has nothing more to do (clock_settle):
 * whatever could change the answer activates an operator, or queues the dataflow.
 */
#include "core/engine/clock.h"

#include "core/engine/index.h"

enum { ALARMS_FEW = 64 }; /* are not looked through for void ones */

/* ---- alarms ---------------------------------------------------------------------------------- */

/* A binary heap. */
static void alarm_add(struct engine_clock *clock, uint64_t time, uint64_t dataflow)
{
    *VEC_PUSH(clock, alarms) = (struct alarm){.time = time, .dataflow = dataflow};
    struct alarm *heap = clock->alarms;
    size_t at = clock->alarms_len - 1;
    while (at > 0 && heap[(at - 1) / 2].time > time) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = (struct alarm){.time = time, .dataflow = dataflow};
    ASSERT(heap[0].time <= time);
}

static struct alarm alarm_take(struct engine_clock *clock)
{
    ASSERT(clock->alarms_len > 0);
    struct alarm *heap = clock->alarms;
    struct alarm first = heap[0];
    struct alarm last = heap[--clock->alarms_len];
    size_t len = clock->alarms_len;
    size_t at = 0;
    for (size_t child = 1; child < len; child = 2 * at + 1) {
        child += child + 1 < len && heap[child + 1].time < heap[child].time;
        if (heap[child].time >= last.time) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    ASSERT(len == 0 || first.time <= heap[0].time);
    return first;
}

/* One that is void wakes its dataflow once for nothing. */
static void ring(struct engine_clock *clock)
{
    while (clock->alarms_len > 0 && clock->alarms[0].time < clock->upper) {
        struct alarm alarm = alarm_take(clock);
        struct dataflow *dataflow = engine_exchange_find(clock->engine, alarm.dataflow);
        if (dataflow != NULL) {
            dataflow->alarm = dataflow->alarm == alarm.time ? FRONTIER_EMPTY : dataflow->alarm;
            clock_wake(dataflow);
        }
    }
}

/* Each time a dataflow is due earlier than it thought, an alarm becomes void, or is one of several
 * equal ones. Those go before they are most of them. */
static void forget_void(struct engine_clock *clock)
{
    size_t len = clock->alarms_len;
    clock->alarms_len = 0;
    for (size_t i = 0; i < len; i++) {
        struct alarm alarm = clock->alarms[i];
        struct dataflow *dataflow = engine_exchange_find(clock->engine, alarm.dataflow);
        if (dataflow != NULL && dataflow->alarm == alarm.time) {
            dataflow->alarm = FRONTIER_EMPTY; /* until the end of this: it has one */
            alarm_add(clock, alarm.time, alarm.dataflow);
        }
    }
    ASSERT(clock->alarms_len <= len);
    for (size_t i = 0; i < clock->alarms_len; i++) {
        struct alarm alarm = clock->alarms[i];
        engine_exchange_find(clock->engine, alarm.dataflow)->alarm = alarm.time;
    }
    clock->alarms_most = 2 * clock->alarms_len + ALARMS_FEW;
}

/* Some clock the dataflow depends on; NULL when its inputs are all complete for ever. */
static struct engine_clock *some_clock(const struct dataflow *dataflow)
{
    const struct dataflow *at = dataflow;
    while (at != NULL) {
        const struct dataflow *next = NULL;
        for (uint32_t i = 0; i < at->plan->nodes_len; i++) {
            const struct op *op = &at->ops[i];
            if (op->origin == OP_SOURCE && ((struct source *)op->state)->parts_len > 0) {
                return ((struct source *)op->state)->parts[0].clock;
            }
            next = op->origin == OP_IMPORT ? import_index(op)->dataflow : next;
        }
        ASSERT(next != at); /* an import is of an earlier one */
        at = next;
    }
    return NULL;
}

/* ---- rest ------------------------------------------------------------------------------------ */

static bool source_follows(const struct source *source)
{
    bool follows = source->parts_len == source->parts_expected;
    for (size_t p = 0; follows && p < source->parts_len; p++) {
        follows = source->parts[p].clock != NULL;
    }
    return follows;
}

/* All parts of all sources have a clock, here and behind what is imported. */
static bool follows_clocks(const struct dataflow *dataflow)
{
    for (uint32_t i = 0; i < dataflow->sources_len; i++) {
        if (!source_follows(dataflow->ops[dataflow->sources[i]].state)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        const struct op *op = &dataflow->ops[i];
        if (op->origin == OP_IMPORT &&
            !(import_is_done(op) && import_index(op)->dataflow->clocked)) {
            return false;
        }
    }
    return true;
}

/* Nothing that was given is under way, and nobody waits for an export's frontier. */
static bool exports_done(const struct dataflow *dataflow)
{
    const struct plan *plan = dataflow->plan;
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        const struct op *op = &dataflow->ops[plan->nodes_len + i];
        bool waited_for = plan->exports[i].kind == PLAN_EXPORT_SUBSCRIBE
                              ? op_export_live(op, plan->exports[i].id)
                              : ((const struct index_op *)op->state)->peeks_len > 0;
        if (waited_for || op->frontier < dataflow->given) {
            return false;
        }
    }
    return true;
}

/* The first time at which an operator has something to do by itself. */
static uint64_t first_due(const struct dataflow *dataflow)
{
    uint64_t first = FRONTIER_EMPTY;
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        const struct op *op = &dataflow->ops[i];
        uint64_t due = op->due != NULL ? op->due(op) : FRONTIER_EMPTY;
        first = due < first ? due : first;
    }
    return first;
}

/* False: it is due some time, and there is no clock here that would tell. */
static bool set_alarm(struct dataflow *dataflow)
{
    uint64_t due = first_due(dataflow);
    if (due >= dataflow->alarm) {
        return true;
    }
    struct engine_clock *clock = some_clock(dataflow);
    if (clock != NULL) {
        if (clock->alarms_len > clock->alarms_most) {
            forget_void(clock);
        }
        dataflow->alarm = due;
        alarm_add(clock, due, dataflow->id);
    }
    return clock != NULL;
}

/* Exchanges two followers of a clock. */
static void swap(struct engine_clock *clock, size_t a, size_t b)
{
    ASSERT(a < clock->followers_len && b < clock->followers_len);
    struct follower was = clock->followers[a];
    clock->followers[a] = clock->followers[b];
    clock->followers[b] = was;
    struct follower *moved[2] = {&clock->followers[a], &clock->followers[b]};
    for (int i = 0; i < 2; i++) {
        struct source *source = moved[i]->source->state;
        source->parts[moved[i]->part].at = i == 0 ? a : b;
    }
}

/* Whether ticks of its clocks reach a source. */
static void source_awake(struct source *source, bool awake)
{
    for (size_t p = 0; p < source->parts_len; p++) {
        struct engine_clock *clock = source->parts[p].clock;
        if (clock != NULL && awake) {
            ASSERT(source->parts[p].at >= clock->awake);
            swap(clock, source->parts[p].at, clock->awake++);
        } else if (clock != NULL) {
            ASSERT(source->parts[p].at < clock->awake);
            swap(clock, source->parts[p].at, --clock->awake);
        }
    }
}

void clock_wake(struct dataflow *dataflow)
{
    if (!dataflow->rests) {
        return;
    }
    dataflow->rests = false;
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        struct op *op = &dataflow->ops[i];
        if (op->origin == OP_SOURCE) {
            source_awake(op->state, true);
            op_activate(op);
        } else if (op->origin == OP_IMPORT) {
            op_activate(op); /* it wakes the index's dataflow */
        }
    }
}

static void rest(struct dataflow *dataflow)
{
    ASSERT(!dataflow->rests && dataflow->dependents == 0 && dataflow->clocked);
    dataflow->rests = true;
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        struct op *op = &dataflow->ops[i];
        if (op->origin == OP_SOURCE) {
            source_awake(op->state, false);
        } else if (op->origin == OP_IMPORT) {
            import_rest(op);
        }
    }
}

/* That its exports follow their sources again; said anew when a frontier was told meanwhile. */
static void announce(struct dataflow *dataflow)
{
    const struct engine *engine = dataflow->engine;
    const struct plan *plan = dataflow->plan;
    bool changed = dataflow->given > dataflow->given_told;
    dataflow->given_told = dataflow->given;
    dataflow->reported = false;
    for (uint32_t i = 0; engine->config.host->follows != NULL && i < plan->exports_len; i++) {
        if (op_export_live(&dataflow->ops[plan->nodes_len + i], plan->exports[i].id)) {
            engine->config.host->follows(engine->config.ctx, plan->exports[i].id, changed);
        }
    }
}

/* The other workers hear when this one begins to need their frontiers, and when it does not. */
static void want(struct dataflow *dataflow, bool wanted)
{
    if (dataflow->wants != wanted && dataflow->engine->config.workers > 1) {
        dataflow->wants = wanted;
        engine_exchange_want(dataflow, wanted);
    }
}

/* Now that it follows clocks, those that read its indexes may do so, too. */
static void tell_importers(struct dataflow *dataflow)
{
    const struct plan *plan = dataflow->plan;
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        const struct index_op *index = dataflow->ops[plan->nodes_len + i].state;
        bool is_index = plan->exports[i].kind != PLAN_EXPORT_SUBSCRIBE;
        for (size_t f = 0; is_index && f < index->followers_len; f++) {
            dataflow_queue(index->followers[f]->dataflow);
        }
    }
}

void clock_settle(struct dataflow *dataflow)
{
    ASSERT(dataflow->failed == ERR_OK);
    if (!dataflow->clocked && follows_clocks(dataflow)) {
        dataflow->clocked = true;
        tell_importers(dataflow);
    }
    bool done = dataflow->clocked && dataflow->dependents == 0 && exports_done(dataflow) &&
                set_alarm(dataflow);
    want(dataflow, !done);
    if (!done || dataflow->wanted_by > 0) {
        clock_wake(dataflow);
        return;
    }
    bool told = dataflow->rests && !dataflow->reported;
    if (!dataflow->rests) {
        rest(dataflow);
    }
    if (!told) {
        announce(dataflow);
    }
}

void clock_wanted(struct dataflow *dataflow, uint32_t worker, bool wanted)
{
    ASSERT(worker < dataflow->engine->config.workers);
    if (dataflow->wanted[worker] == wanted) {
        return;
    }
    dataflow->wanted[worker] = wanted;
    dataflow->wanted_by += wanted ? 1 : UINT32_MAX; /* minus one */
    if (wanted) {
        clock_wake(dataflow);
    } else {
        dataflow_queue(dataflow);
    }
}

/* ---- the host's ------------------------------------------------------------------------------ */

struct engine_clock *engine_clock_new(struct engine *engine, uint64_t upper)
{
    struct engine_clock *clock = MEM_NEW(struct engine_clock);
    clock->engine = engine;
    clock->upper = upper;
    clock->alarms_most = ALARMS_FEW;
    engine->clocks++;
    return clock;
}

/* Takes one out of the clock's list: the last of its half takes its place, and so on. */
static void leave(struct engine_clock *clock, struct source_part *part)
{
    if (part->at < clock->awake) {
        swap(clock, part->at, --clock->awake);
    }
    swap(clock, part->at, clock->followers_len - 1);
    clock->followers_len--;
    part->upper = clock->upper;
    part->clock = NULL;
}

void clock_leave(struct source *source)
{
    for (size_t p = 0; p < source->parts_len; p++) {
        if (source->parts[p].clock != NULL) {
            leave(source->parts[p].clock, &source->parts[p]);
        }
    }
}

/* Its alarms are set anew with other clocks. */
static void forget_alarms(struct engine_clock *clock)
{
    while (clock->alarms_len > 0) {
        struct alarm alarm = clock->alarms[--clock->alarms_len];
        struct dataflow *dataflow = engine_exchange_find(clock->engine, alarm.dataflow);
        if (dataflow != NULL && dataflow->alarm == alarm.time) {
            dataflow->alarm = FRONTIER_EMPTY;
            dataflow_queue(dataflow);
        }
    }
}

/* Who followed it goes on by himself, if at all. */
void engine_clock_free(struct engine_clock *clock)
{
    while (clock != NULL && clock->followers_len > 0) {
        const struct follower *last = &clock->followers[clock->followers_len - 1];
        struct source *source = last->source->state;
        struct dataflow *dataflow = last->source->dataflow;
        uint32_t part = last->part;
        clock_wake(dataflow); /* may move it */
        dataflow->clocked = false;
        leave(clock, &source->parts[part]);
    }
    if (clock == NULL) {
        return;
    }
    forget_alarms(clock);
    ASSERT(clock->engine->clocks > 0 && clock->awake == 0);
    clock->engine->clocks--;
    free(clock->followers);
    free(clock->alarms);
    free(clock);
}

void engine_clock_join(struct engine_clock *clock, uint64_t dataflow_id, uint32_t source_index,
                       uint32_t part_index)
{
    struct dataflow *dataflow = engine_exchange_find(clock->engine, dataflow_id);
    if (dataflow == NULL || dataflow->failed != ERR_OK) {
        return;
    }
    ASSERT(source_index < dataflow->sources_len && !dataflow->rests);
    struct op *op = &dataflow->ops[dataflow->sources[source_index]];
    struct source *source = op->state;
    for (uint32_t p = 0; p < source->parts_len; p++) {
        struct source_part *part = &source->parts[p];
        if (part->part == part_index) {
            ASSERT(part->clock == NULL && part->upper == clock->upper);
            *VEC_PUSH(clock, followers) = (struct follower){.source = op, .part = p};
            part->clock = clock;
            part->at = clock->followers_len - 1;
            swap(clock, part->at, clock->awake++);
            dataflow_queue(dataflow);
            return;
        }
    }
    UNREACHABLE(); /* it has been given what lies below */
}

/* Rows of one dataflow alone are its own memory; what several share is the engine's. */
static void give(struct engine_clock *clock, uint64_t upper, struct chunk *ok, struct chunk *err)
{
    if (clock->followers_len == 1) {
        chunk_charge(ok, &clock->followers[0].source->dataflow->account);
        chunk_charge(err, &clock->followers[0].source->dataflow->account);
    }
    for (size_t i = 0; i < clock->followers_len; i++) {
        struct op *op = clock->followers[i].source;
        const struct source *source = op->state;
        clock->engine->visits++;
        if (op->dataflow->failed == ERR_OK) {
            source_input(op, source->parts[clock->followers[i].part].part, clock->upper, upper, ok,
                         err);
        }
    }
}

void engine_clock_input(struct engine_clock *clock, uint64_t upper, struct chunk *ok,
                        struct chunk *err)
{
    ASSERT(upper >= clock->upper && !clock->engine->stepping);
    if (ok != NULL || err != NULL) {
        give(clock, upper, ok, err);
    }
    if (upper == clock->upper) {
        return;
    }
    clock->upper = upper;
    for (size_t i = 0; i < clock->awake; i++) {
        clock->engine->visits++;
        op_activate(clock->followers[i].source);
    }
    ring(clock);
}

uint64_t engine_visits(const struct engine *engine)
{
    return engine->visits;
}
