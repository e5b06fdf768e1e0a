"""What the runtimes count, in SQL: tables of mz_internal and EXPLAIN ANALYZE, over workers, replicas
and processes, and with processes that do not answer."""
import os
import re
import signal
import threading

import environment
import harness

ROWS = 10000


class Introspection(harness.EnvironmentTest):
    FLAGS = ("--storage-workers=2",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cursor = cls.env.connect().cursor()
        cursor.execute("CREATE CLUSTER two (SIZE = '2', REPLICATION FACTOR = 2)")
        cursor.execute("SET cluster = two")
        cursor.execute("CREATE TABLE t (k int, v int)")
        cursor.execute(f"INSERT INTO t SELECT g % 100, g FROM generate_series(1, {ROWS}) AS g")
        cursor.execute("CREATE MATERIALIZED VIEW m AS SELECT k, sum(v) AS s FROM t GROUP BY k")
        cursor.execute("CREATE INDEX i ON t (v)")
        cursor.execute("SELECT count(*) FROM m")
        cursor.execute("SELECT * FROM t WHERE v = 1")
        cursor.connection.close()

    def setUp(self):
        super().setUp()
        self.execute("SET introspection_timeout = '30s'")
        self.execute("SET cluster = two")
        # Both replicas: a replica that another test killed comes back by itself.
        self.eventually(
            "SELECT o.name, r.name, s.hydrated FROM mz_internal.mz_hydration_statuses s "
            "JOIN mz_objects o ON o.id = s.object_id "
            "JOIN mz_cluster_replicas r ON r.id = s.replica_id ORDER BY 1, 2",
            [("i", "r1", True), ("i", "r2", True), ("m", "r1", True), ("m", "r2", True)],
            timeout=180)  # one asking may take as long as the timeout above
        self.connection.notices.clear()

    def process(self, replica):
        """The pid of a replica's process."""
        ((cluster,),) = self.rows("SELECT id FROM mz_clusters WHERE name = 'two'")
        mark = f"cluster-{cluster[1:]}-replica-{replica}-0.counters"
        for _, pid in self.env.services():
            with open(f"/proc/{pid}/cmdline") as f:
                if mark in f.read():
                    return pid
        self.fail(f"no process of replica {replica}")

    def test_operators(self):
        rows = self.rows(
            "SELECT o.name, d.replica_id, op.name, sum(w.rows_in), sum(w.rows_out), count(*) "
            "FROM mz_internal.mz_dataflow_operators op "
            "JOIN mz_internal.mz_operator_rows_per_worker w "
            "  ON w.id = op.id AND w.worker_id = op.worker_id "
            "JOIN mz_internal.mz_dataflows d "
            "  ON d.id = op.dataflow_id AND d.worker_id = op.worker_id "
            "JOIN mz_objects o ON o.id = d.object_id "
            "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")
        replicas = [r for (r,) in self.rows(
            "SELECT r.id FROM mz_cluster_replicas r JOIN mz_clusters c ON c.id = r.cluster_id "
            "WHERE c.name = 'two' ORDER BY 1")]
        self.assertEqual(len(replicas), 2)
        expected = [("i", r, op, ROWS, out, 2) for r in replicas
                    for op, out in (("index", 0), ("source", ROWS))]
        expected += [("m", r, op, rows_in, out, 2) for r in replicas
                     for op, rows_in, out in (("index", 100, 0), ("reduce", ROWS, 100),
                                              ("source", ROWS, ROWS))]
        self.assertEqual(rows, expected)
        self.assertEqual(self.connection.notices, [])

    def test_time_and_memory(self):
        sizes = self.rows(
            "SELECT o.name, op.name, s.records, s.size > s.records * 8 "
            "FROM mz_internal.mz_arrangement_sizes s "
            "JOIN mz_internal.mz_dataflow_operators op ON op.id = s.operator_id "
            "JOIN mz_internal.mz_dataflows d ON d.id = op.dataflow_id "
            "JOIN mz_objects o ON o.id = d.object_id "
            "WHERE op.worker_id = 0 AND d.worker_id = 0 ORDER BY 1, 2")
        self.assertEqual(sizes, [("i", "index", ROWS, True)] * 2 + [("m", "index", 100, True)] * 2 +
                         [("m", "reduce", 100, True)] * 2)
        ((whole, parts, runs),) = self.rows(
            "SELECT (SELECT sum(elapsed_ns) FROM mz_internal.mz_scheduling_elapsed), "
            "sum(elapsed_ns), min(schedules) FROM mz_internal.mz_scheduling_elapsed_per_worker")
        self.assertEqual(whole, parts)  # one statement, one moment
        self.assertGreater(parts, 0)
        self.assertGreater(runs, 0)

    def test_connections_and_subscriptions(self):
        """Both ends of each subscription agree, and are found by the objects' names. Of dataflows
        that are in step there is one a replica, whoever of them began it."""
        replicas = self.rows("SELECT DISTINCT replica_id FROM mz_internal.mz_dataflows "
                             "WHERE replica_id IS NOT NULL ORDER BY 1")
        self.assertEqual(len(replicas), 2)
        for table in ("subscription", "reader"):
            self.eventually(
                f"SELECT s.name, o.name IN ('i', 'm'), d.replica_id "
                f"FROM mz_internal.mz_{table}_counters c "
                "JOIN (SELECT DISTINCT id, object_id, replica_id FROM mz_internal.mz_dataflows) d "
                "ON d.id = c.dataflow_id "
                "JOIN mz_objects o ON o.id = d.object_id "
                "JOIN mz_objects s ON s.id = c.source_id ORDER BY 3",
                [("t", True, replica) for (replica,) in replicas])
        # One that has just begun has no frontier yet; who is wrong for good is shown.
        self.eventually(
            "SELECT source_id, lag, credit_bytes, frontier FROM mz_internal.mz_subscription_counters "
            "WHERE NOT (lag >= 0 AND credit_bytes > 0 AND frontier > 0)", [])
        out = self.rows("SELECT sum(bytes_out), sum(messages_out) "
                        "FROM mz_internal.mz_connection_counters WHERE replica_id IS NULL")
        into = self.rows("SELECT sum(bytes_in), sum(messages_in) "
                         "FROM mz_internal.mz_connection_counters WHERE peer_replica_id IS NULL")
        self.assertGreaterEqual(out[0][0], 4 * ROWS * 8)
        self.assertGreater(into[0][1], 0)
        self.assertEqual(self.rows("SELECT name FROM mz_internal.mz_source_counters c "
                                   "JOIN mz_objects o ON o.id = c.source_id"), [("t",)])
        loops = self.rows("SELECT count(*), min(sleeps) FROM mz_internal.mz_loop_counters "
                          "WHERE replica_id IS NOT NULL")
        self.assertGreaterEqual(loops[0][0], 4)

    def test_explain_analyze(self):
        text = "\n".join(row[0] for row in self.rows("EXPLAIN ANALYZE MATERIALIZED VIEW m"))
        self.assertEqual(text.count("Replica r"), 2, text)
        self.assertEqual(len(re.findall(r"Replica r[12]: 2 workers, [\d.]+ ms, [\d.]+ kB", text)), 2)
        self.assertEqual(text.count(f"[in {ROWS}, out 100 in "), 2, text)
        self.assertEqual(text.count("keeps 100 rows"), 4, text)
        text = "\n".join(row[0] for row in self.rows("EXPLAIN ANALYZE FOR INDEX i"))
        self.assertEqual(text.count(f"keeps {ROWS} rows"), 2, text)
        self.assertEqual([re.sub(r"u\d+", "u?", row[0]) for row in self.rows("EXPLAIN INDEX i")],
                         ["Export index u? (i) keys=(v)", "  Source u? (t)"])
        self.assertEqual([(re.sub(r"u\d+", "u?", row[0])) for row in self.rows(
            "SELECT DISTINCT op.description FROM mz_internal.mz_dataflow_operators op "
            "JOIN mz_internal.mz_dataflows d ON d.id = op.dataflow_id WHERE d.name = 'm' "
            "ORDER BY 1")],
            ["Export index u? (m) keys=(k, s)", "Reduce group=(k) aggregates=(sum(v))",
             "Source u? (t)"])
        self.assertEqual(self.error("EXPLAIN ANALYZE INDEX m")[0], "42809")
        self.assertEqual(self.error("EXPLAIN ANALYZE INDEX nosuch")[0], "42P01")
        self.assertEqual(self.error("EXPLAIN ANALYZE MATERIALIZED VIEW t")[0], "42809")

    def explain_analyze(self, query):
        return "\n".join(row[0] for row in self.rows("EXPLAIN ANALYZE " + query))

    def test_explain_analyze_query(self):
        """It runs as any query: its rows are counted and not sent, its dataflow told and dropped."""
        text = self.explain_analyze("SELECT k, count(*) FROM t WHERE v > 10 GROUP BY k "
                                    "ORDER BY k LIMIT 7")
        self.assertRegex(text, r"\AQuery: 7 rows in [\d.]+ ms\nFinish order by #0 limit 7\n"
                               r"Replica r1: \d workers?, [\d.]+ ms, ")
        self.assertEqual(text.count("Replica r"), 2, text)
        self.assertIn(f"[in {ROWS}, out {ROWS - 10} in ", text)  # the replica that answered
        self.assertRegex(text, r"Reduce group=\(k\).*\[in 9990, out 100 in .* keeps 100 rows")
        self.eventually("SELECT count(*) FROM mz_internal.mz_dataflows WHERE object_id IS NULL",
                        [(0,)])
        text = self.explain_analyze("SELECT * FROM t WHERE v = 1")
        self.assertRegex(text, r"\AQuery: 1 rows in [\d.]+ ms\nPeek index u\d+ \(i\) key \(1\)")
        self.assertRegex(self.explain_analyze("SELECT 1"), r"\AQuery: 1 rows in .*\nConstant 1 rows")
        text = self.explain_analyze("SELECT count(*) FROM mz_internal.mz_dataflow_operators o "
                                    "JOIN t ON t.v = o.id")
        self.assertIn("Replica r2", text)
        self.assertRegex(self.explain_analyze("VERBOSE SELECT count(*) FROM mz_objects"),
                         r"(?s)\AQuery: 1 rows in .*\n.*Reduce group=\(\)")
        plain = self.rows("EXPLAIN (ANALYZE false, COSTS) SELECT v + 1 FROM t")
        self.assertNotIn("Replica", plain[0][0])
        self.assertEqual(self.error("EXPLAIN ANALYZE SELECT 1 / (v - 1) FROM t")[0], "22012")
        self.assertEqual(self.error("EXPLAIN ANALYZE DELETE FROM t")[0], "0A000")
        self.assertEqual(self.error("EXPLAIN (ANALYZE 7) SELECT 1")[0], "42601")
        self.assertEqual(self.rows("SELECT count(*) FROM t"), [(ROWS,)])

    def test_rows_are_capped(self):
        """What is left out is counted, and said."""
        self.execute("SET introspection_rows = 1")
        self.execute("SET introspection_timeout = '30s'")
        seen = self.rows("SELECT count(*) FROM mz_internal.mz_subscription_counters")
        self.assertEqual(seen, [(1,)])
        self.assertTrue(any("more rows, which are left out" in n for n in self.connection.notices),
                        self.connection.notices)
        ((omitted,),) = self.rows("SELECT rows_omitted FROM mz_internal.mz_introspection_answers "
                                  "WHERE service = 'storage'")
        self.assertGreaterEqual(omitted, 3)

    def test_silent_process(self):
        """One that is stopped holds up nobody for longer than it may: its rows are missing. On a
        busy machine others may be late as well, once; a connection that is silent for long is given
        up, and then that is the reason."""
        pid = self.process(1)
        os.kill(pid, signal.SIGSTOP)
        reason = r"(no answer within \d+ ms|it is not connected|.*silent.*|.*keepalive.*|.*clos.*)"
        try:
            seconds = [1]

            def only_one_is_silent():
                self.execute(f"SET introspection_timeout = '{seconds[0]}s'")
                seconds[0] = min(seconds[0] * 2, 16)  # on a busy machine the others need longer
                self.connection.notices.clear()
                rows = self.rows("SELECT DISTINCT replica_id FROM mz_internal.mz_dataflows")
                return len(rows) == 1 and len(self.connection.notices) == 1

            environment.poll("all but one to answer", only_one_is_silent)
            self.assertRegex(self.connection.notices[0], 'process 0 of replica r2 of cluster "two" '
                             f"is not in the rows: {reason}")
            answers = []

            def answers_tell():
                answers[:] = self.rows("SELECT replica_id, reason "
                                       "FROM mz_internal.mz_introspection_answers "
                                       "WHERE NOT answered")
                return len(answers) == 1

            environment.poll("the table to say the same", answers_tell)
            self.assertTrue(answers[0][0].endswith("-1"), answers)
            self.assertRegex(answers[0][1], reason)
            text = []

            def explained():
                text[:] = ["\n".join(row[0] for row in self.rows("EXPLAIN ANALYZE INDEX i"))]
                return "Replica r1: 2 workers" in text[0]

            environment.poll("the other replica's plan", explained)
            self.assertRegex(text[0], "Replica r2: 0 workers, 0.000 ms, 0 bytes; incomplete: "
                             + reason)
        finally:
            os.kill(pid, signal.SIGCONT)

    def test_killed_while_asked(self):
        """The asker hears of the loss at once, not after the timeout."""
        pid = self.process(0)
        os.kill(pid, signal.SIGSTOP)
        self.execute("SET introspection_timeout = '1h'")
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        rows = self.rows("SELECT DISTINCT replica_id FROM mz_internal.mz_dataflows")
        killer.join()
        self.assertEqual(len(rows), 1, rows)
        self.assertIn("process 0 of replica r1", "".join(self.connection.notices))
        environment.poll("the replica to be back", lambda: pid not in
                         [p for _, p in self.env.services()])

    def test_not_connected(self):
        """A replica whose process is gone is told at once; the statement goes on."""
        self.execute("CREATE CLUSTER gone (SIZE = '1')")
        try:
            self.rows("SELECT count(*) FROM mz_internal.mz_loop_counters")
            self.execute("SET introspection_timeout = '1h'")
            self.eventually("SELECT DISTINCT answered FROM mz_internal.mz_introspection_answers",
                            [(True,)])
        finally:
            self.execute("DROP CLUSTER gone")


if __name__ == "__main__":
    harness.main()
