/*
 * Flags of tailrace-bench. See options.h.
 *
 * One table of long options for all subcommands: what a subcommand does not know it does not look
 * at. Values are checked here, so that no subcommand sees a rate of nought or a run of no time.
 */
#include "bench/options.h"

#include "bench/replica.h"
#include "bench/report.h"
#include "core/base/assert.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What --help says: subcommands first, then flags with the subcommands that look at them. */
static const char usage[] =
    "usage: tailrace-bench SUBCOMMAND [FLAGS]\n"
    "\n"
    "  ring       our carriers (shared memory, TCP, TLS) between two processes, beside plain\n"
    "             rings and bare sockets (floors) and other message systems (peers)\n"
    "  engine     the compute engine alone: count (w1), join (w2), distinct (w3a) and\n"
    "             consolidate (w3b), each beside a hand-written loop; answers are checked\n"
    "  nexmark    queries over the stream of an auction house, planned from SQL; answers checked\n"
    "  graph      recursions over a random graph, at once and edge by edge; answers are checked\n"
    "  window     functions over a partition of a million rows when one of them changes; answers\n"
    "             are counted\n"
    "  boundary   storage to compute: the protocol beside the bare carriers; many subscriptions,\n"
    "             fan-out, kill -9 of the other side\n"
    "  exchange   the workers of a replica among themselves, beside the bare carriers\n"
    "  count      one case of one link in one process, for callgrind and strace: needs --link,\n"
    "             --case (whole names) and --messages\n"
    "  sql        INSERT, SELECT and freshness of a running environment, beside fdatasync and\n"
    "             (with --postgres-port) PostgreSQL\n"
    "\n"
    "  --workload NAME       engine: w1, w2, w3a, w3b, w4, w4l, degrees, distribution or\n"
    "                        join-zipf (default: all)\n"
    "                        nexmark: q0 to q23\n"
    "  --workers N           engine: up to 8, each on a thread of its own (default: one a\n"
    "                        process); the loop has one\n"
    "  --processes N         engine: they are in so many processes (default 1), joined by shared\n"
    "                        memory or, with --link tcp, by TCP\n"
    "  --scale F             engine: share of rows, keys and rounds (default 1)\n"
    "                        nexmark: share of a million events\n"
    "  --answers DIR         nexmark: write the events and each query's answer there\n"
    "  --runs N              medians of N runs, at most 32 (default 3)\n"
    "  --seconds S           length of each timed loop (default: sql 2, others 0.4)\n"
    "  --case TEXT           the same: only cases whose title contains TEXT\n"
    "  --messages N          count: so many (default 10000)\n"
    "  --link TEXT           ring, boundary, exchange: only links whose name contains TEXT\n"
    "  --plot FILE           draw latencies by percentile and rates, as .svg or .png\n"
    "  --host H, --port P    sql: where environmentd listens (default 127.0.0.1, 6875)\n"
    "  --postgres-port P     sql: a PostgreSQL on the same host to compare with\n"
    "  --directory DIR       the disk whose fdatasync is probed (default /tmp)\n"
    "  --priority            run before everybody else on this machine (needs root)\n"
    "  --json                JSON instead of a table\n"
    "\n"
    "Exit code 1 when an answer was wrong or something could not be measured.\n";

static const struct option flags[] = {
    {"workload", required_argument, NULL, 'w'}, {"scale", required_argument, NULL, 's'},
    {"runs", required_argument, NULL, 'r'},     {"seconds", required_argument, NULL, 't'},
    {"host", required_argument, NULL, 'H'},     {"port", required_argument, NULL, 'p'},
    {"postgres-port", required_argument, NULL, 'g'},
    {"directory", required_argument, NULL, 'd'}, {"json", no_argument, NULL, 'j'},
    {"plot", required_argument, NULL, 'P'},     {"case", required_argument, NULL, 'c'},
    {"link", required_argument, NULL, 'l'},     {"messages", required_argument, NULL, 'm'},
    {"priority", no_argument, NULL, 'n'},       {"answers", required_argument, NULL, 'a'},
    {"workers", required_argument, NULL, 'W'},
    {"processes", required_argument, NULL, 'x'}, {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* The whole of text, within [low, high]. */
static bool set_number(const char *text, double low, double high, double *out)
{
    char *end = NULL;
    ASSERT(low <= high);
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= low && *out <= high;
}

/* One flag; false: its value makes no sense. */
static bool set(struct options *out, int flag, const char *value)
{
    double number = 0;
    ASSERT(out != NULL);
    switch (flag) {
    case 'w': out->workload = value; return true;
    case 's': return set_number(value, 1e-4, 1, &out->scale);
    case 't': return set_number(value, 0.01, 600, &out->seconds);
    case 'H': out->host = value; return true;
    case 'p': out->port = value; return true;
    case 'g': out->postgres_port = value; return true;
    case 'n': out->priority = true; return true;
    case 'P': out->plot = value; return true;
    case 'a': out->answers = value; return true;
    case 'c': out->only_case = value; return true;
    case 'l': out->link = value; return true;
    case 'd': out->directory = value; return true;
    case 'j': out->json = true; return true;
    case 'm':
        if (!set_number(value, 1, 1e12, &number)) {
            return false;
        }
        out->messages = (uint64_t)number;
        return true;
    case 'r':
        if (!set_number(value, 1, REPORT_RUNS_MAX, &number)) {
            return false;
        }
        out->runs = (int)number;
        return true;
    case 'W':
    case 'x':
        if (!set_number(value, 1, REPLICA_WORKERS_MAX, &number)) {
            return false;
        }
        *(flag == 'W' ? &out->workers : &out->processes) = (int)number;
        return true;
    default: return false;
    }
}

bool options_parse(int argc, char **argv, struct options *out, int *status)
{
    ASSERT(argc > 0 && status != NULL);
    *out = (struct options){.scale = 1, .runs = 3, .processes = 1,
                            .host = "127.0.0.1", .port = "6875",
                            .directory = "/tmp",
                            .messages = 10000};
    int flag;
    while ((flag = getopt_long(argc, argv, "h", flags, NULL)) != -1) {
        if (flag == 'h') {
            fputs(usage, stdout);
            *status = 0;
            return false;
        }
        if (!set(out, flag, optarg)) {
            fputs(usage, stderr);
            *status = 2;
            return false;
        }
    }
    if (out->seconds == 0) {
        out->seconds = strcmp(argv[0], "sql") == 0 ? 2 : 0.4;
    }
    if (out->workers == 0) {
        out->workers = out->processes;
    }
    *status = 2;
    return true;
}
