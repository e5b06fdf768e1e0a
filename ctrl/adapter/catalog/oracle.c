/*
 * The timestamp oracle: see catalog.h for what it promises. One loop; the only asynchronous part is
 * the background write of the bound, one at a time.
 *
 * Why it never goes back. Let B be the bound on disk. A time is given out or observed only below B
 * (cover). A successor begins at the greatest B it finds (oracle_open), hence above all of them;
 * a bound that was being written when the process died may or may not be found, either is fine.
 *
 * Why it costs nothing in steady use. B is a fifth of a second ahead; when half of that is used up
 * the next B is written in the background. Only after a pause or a jump of the clock has a
 * statement to wait for the disk (reserve_now).
 *
 * Always: read <= last < the next write's time < B, and closed <= the next write's time, where read
 * is what a client may have seen and closed what tables were told is complete.
 */
#include "core/base/assert.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "ctrl/adapter/catalog/catalog.h"

enum {
    ORACLE_BLOCK_US = 200 * 1000, /* how far ahead of use the bound on disk is */
    ORACLE_AHEAD_US = 100 * 1000, /* it is moved again when less than this is left */
    ORACLE_SLOT = 512,            /* one sector */
    ORACLE_SLOTS = 4,
};

/*
 * What a slot holds. Slots 0 and 1 are written synchronously, 2 and 3 in the background; never the
 * one that holds the present bound, so a torn write loses nothing that was relied upon.
 */
struct oracle_slot {
    uint64_t bound;
    uint64_t epoch;
    uint32_t crc; /* of the fields before */
    uint32_t zero;
};

struct oracle {
    struct io_loop *loop;
    struct io_file *file;
    uint64_t epoch;
    uint64_t last;    /* the greatest time given out or observed */
    uint64_t read;    /* the greatest time a client may know of */
    uint64_t closed;  /* later write times are at or above it */
    uint64_t bound;   /* durable: times below it may be given out */
    uint64_t pending; /* the bound being written in the background; 0: none */
    size_t slot;      /* where bound is */
    size_t pending_slot;
    struct io_op op;
    uint8_t sector[ORACLE_SLOT] __attribute__((aligned(8))); /* of the background write */
};

/* A slot that was never written is all zero; its checksum, that of zeros, is not zero. */
static uint32_t slot_crc(const struct oracle_slot *slot)
{
    return hash_crc32c(0, slot, offsetof(struct oracle_slot, crc));
}

/* The greatest bound whose checksum holds. A short file reads as zeros behind its end. */
static err_t read_slots(struct oracle *o)
{
    uint8_t data[ORACLE_SLOT * ORACLE_SLOTS];
    size_t got = 0;
    ASSERT(o->bound == 0);
    memset(data, 0, sizeof(data));
    TRY(io_file_read_sync(o->file, 0, data, sizeof(data), &got));
    for (size_t i = 0; i < ORACLE_SLOTS; i++) {
        struct oracle_slot slot;
        memcpy(&slot, data + i * ORACLE_SLOT, sizeof(slot));
        if (slot.crc == slot_crc(&slot) && slot.bound > o->bound) {
            o->bound = slot.bound;
            o->slot = i;
        }
    }
    return ERR_OK;
}

/* A whole sector, so that the disk need not read before it writes. */
static void fill_sector(const struct oracle *o, uint64_t bound, uint8_t sector[ORACLE_SLOT])
{
    struct oracle_slot slot = {.bound = bound, .epoch = o->epoch};
    ASSERT(bound > 0);
    slot.crc = slot_crc(&slot);
    memset(sector, 0, ORACLE_SLOT);
    memcpy(sector, &slot, sizeof(slot));
}

/* Moves the bound and waits for the disk. */
static err_t reserve_now(struct oracle *o, uint64_t bound)
{
    uint8_t sector[ORACLE_SLOT];
    size_t slot = o->slot == 0 ? 1 : 0;
    ASSERT(bound > o->bound);
    fill_sector(o, bound, sector);
    TRY(io_file_write_sync(o->file, slot * ORACLE_SLOT, sector, ORACLE_SLOT));
    TRY(io_file_sync_sync(o->file));
    o->bound = bound;
    o->slot = slot;
    return ERR_OK;
}

/* A failure is no one's error yet: the old bound still stands, and when it is reached reserve_now
 * tries again with a statement to tell. */
static void background_done(struct oracle *o, err_t err)
{
    ASSERT(o->pending != 0);
    if (err != ERR_OK) {
        LOG_WARN("oracle", "cannot reserve times ahead", LOG_ERR(err));
        err_free(err);
    } else if (o->pending > o->bound) {
        o->bound = o->pending;
        o->slot = o->pending_slot;
    }
    o->pending = 0;
}

/* The bound is durable, or not: background_done tells apart. */
static void on_synced(struct io_op *op, err_t err, size_t result)
{
    background_done(CONTAINER_OF(op, struct oracle, op), err);
}

/* Written is not durable: the bound counts from the sync on. */
static void on_written(struct io_op *op, err_t err, size_t result)
{
    struct oracle *o = CONTAINER_OF(op, struct oracle, op);
    if (err != ERR_OK) {
        background_done(o, err);
        return;
    }
    o->op.done = on_synced;
    io_file_sync(o->file, &o->op);
}

/* The sector is the oracle's, since the write outlives this call. */
static void reserve_ahead(struct oracle *o, uint64_t bound)
{
    ASSERT(o->pending == 0 && bound > o->bound);
    o->pending = bound;
    o->pending_slot = o->slot == 2 ? 3 : 2;
    fill_sector(o, bound, o->sector);
    o->op.done = on_written;
    io_file_write(o->file, o->pending_slot * ORACLE_SLOT, o->sector, ORACLE_SLOT, &o->op);
}

/* Sees to it that time may be given out: in the background in good time, else now. */
static err_t cover(struct oracle *o, uint64_t time)
{
    ASSERT(o->file != NULL);
    if (time >= o->bound) {
        TRY(reserve_now(o, time + ORACLE_BLOCK_US));
    } else if (o->bound - time < ORACLE_AHEAD_US && o->pending == 0) {
        reserve_ahead(o, time + ORACLE_BLOCK_US);
    }
    ASSERT(time < o->bound);
    return ERR_OK;
}

/* The file may be new: its name must survive power loss as its content does. */
static err_t sync_directory(struct io_loop *loop, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL ? mem_strdup(".") : mem_strndup(path, (size_t)(slash - path));
    err_t err = io_dir_sync_sync(loop, directory);
    free(directory);
    return err;
}

/* The first bound is written at once: if the disk cannot, no time is ever given out. */
err_t oracle_open(struct io_loop *loop, const char *path, uint64_t epoch, struct oracle **out)
{
    struct oracle *o = MEM_NEW(struct oracle);
    ASSERT(loop != NULL && epoch > 0);
    *out = NULL;
    o->loop = loop;
    o->epoch = epoch;
    err_t err = io_file_open(loop, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE, &o->file);
    if (err == ERR_OK) {
        err = read_slots(o);
    }
    if (err == ERR_OK) {
        err = sync_directory(loop, path);
    }
    if (err == ERR_OK) {
        uint64_t now = io_now_us(loop);
        /* Everything a predecessor gave out is below the bound. */
        o->read = o->bound;
        o->last = o->bound > now ? o->bound : now;
        err = reserve_now(o, o->last + ORACLE_BLOCK_US);
    }
    if (err != ERR_OK) {
        oracle_free(o);
        return err_wrap(err, "opening the timestamp oracle %s", path);
    }
    *out = o;
    return ERR_OK;
}

/* Closing the file waits for a background write the kernel has begun; its done does not run. */
void oracle_free(struct oracle *oracle)
{
    if (oracle == NULL) {
        return;
    }
    if (oracle->file != NULL) {
        io_file_close(oracle->file);
    }
    free(oracle);
}

/* Above the clock of any table that was advanced (closed), above all given out, and near the
 * clock. */
err_t oracle_write_time(struct oracle *oracle, uint64_t *time)
{
    uint64_t now = io_now_us(oracle->loop);
    uint64_t t = oracle->last + 1; /* two calls within a microsecond differ */
    t = t > now ? t : now;
    t = t > oracle->closed ? t : oracle->closed;
    TRY(cover(oracle, t));
    ASSERT(t > oracle->last);
    oracle->last = t;
    *time = t;
    return ERR_OK;
}

/* A time may come from elsewhere: sources are stamped by the storage workers' clocks. Following
 * them is what keeps a read of a source from going back. */
err_t oracle_observe(struct oracle *oracle, uint64_t time)
{
    ASSERT(time < TIME_MAX - ORACLE_BLOCK_US);
    if (time > oracle->last) {
        TRY(cover(oracle, time));
        oracle->last = time;
    }
    if (time > oracle->read) {
        oracle->read = time;
    }
    return ERR_OK;
}

/* Never waits and never writes: a read that begins is not slowed down by the oracle. */
uint64_t oracle_read_time(const struct oracle *oracle)
{
    ASSERT(oracle->read <= oracle->last || oracle->last == 0);
    return oracle->read;
}

/* Nothing is written to disk for it: this runs at every tick. So after a pause and a clock set back
 * a successor may begin below what tables were told; it then learns of their upper from the refused
 * append (write.c of the coordinator) and observes it. */
uint64_t oracle_close_time(struct oracle *oracle)
{
    uint64_t now = io_now_us(oracle->loop);
    uint64_t t = oracle->last + 1;
    t = t > now ? t : now;
    if (t > oracle->closed) {
        oracle->closed = t;
    }
    ASSERT(oracle->closed > oracle->last);
    return oracle->closed;
}
