"""Temporal filters: rows of maintained views that come and go with the time, and nothing else."""
import os
import pathlib
import signal
import time

import environment
import harness

class Temporal(harness.EnvironmentTest):
    def test_rows_vanish_on_their_own(self):
        self.execute("CREATE TABLE sessions (id int, ts timestamptz)")
        self.execute("CREATE MATERIALIZED VIEW live AS SELECT id FROM sessions "
                     "WHERE mz_now() < ts + interval '2 seconds'")
        self.execute("CREATE VIEW plain AS SELECT count(*) AS n FROM sessions "
                     "WHERE mz_now() BETWEEN ts AND ts + interval '2 seconds'")
        self.execute("CREATE MATERIALIZED VIEW counted AS SELECT n FROM plain")
        self.execute("INSERT INTO sessions VALUES (1, now()), (2, now() - interval '1 hour'), "
                     "(3, now() + interval '1 hour'), (4, NULL), (5, '1960-01-01'), "
                     "(6, 'infinity'), (7, '-infinity')")
        self.assertEqual(self.rows("SELECT id FROM live ORDER BY id"), [(1,), (3,), (6,)])
        self.eventually("SELECT id FROM live ORDER BY id", [(3,), (6,)])
        self.eventually("SELECT n FROM counted", [(0,)])
        self.assertEqual(self.rows("SELECT n FROM plain"), [(0,)])
        self.execute("DELETE FROM sessions")
        self.eventually("SELECT id FROM live", [])
        self.eventually("SELECT coalesce(sum(records), 0) FROM mz_internal.mz_arrangement_sizes "
                        "WHERE operator_id IN (SELECT id FROM mz_internal.mz_dataflow_operators "
                        "WHERE name = 'temporal filter')", [(0,)])
        self.execute("DROP MATERIALIZED VIEW counted")
        self.execute("DROP MATERIALIZED VIEW live")
        self.execute("DROP VIEW plain")
        self.execute("DROP TABLE sessions")

    def test_rows_come_on_their_own(self):
        self.execute("CREATE TABLE plans (id int, starts timestamp, stops bigint)")
        self.execute("CREATE INDEX plans_all IN CLUSTER \"default\" ON plans (id)")
        self.execute("CREATE MATERIALIZED VIEW due AS SELECT id FROM plans WHERE "
                     "starts <= mz_now() AND NOT (mz_now() >= stops)")
        stops = int((time.time() + 600) * 1e6)
        self.execute(f"INSERT INTO plans VALUES (1, now() + interval '1500 ms', {stops}), "
                     f"(2, now() - interval '1 s', {stops}), (3, now(), -5)")
        self.assertEqual(self.rows("SELECT id FROM due"), [(2,)])
        self.eventually("SELECT id FROM due ORDER BY id", [(1,), (2,)])
        self.execute("UPDATE plans SET stops = 1 WHERE id = 1")
        self.eventually("SELECT id FROM due", [(2,)])
        self.execute("DROP MATERIALIZED VIEW due")
        self.execute("DROP TABLE plans")

    def test_subscribe_hears_of_it(self):
        self.execute("CREATE TABLE beats (id int, ts timestamptz)")
        connection = self.env.connect()
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute("DECLARE c CURSOR FOR SUBSCRIBE (SELECT id FROM beats WHERE "
                       "mz_now() <= ts + interval '1 second')")
        cursor.execute("FETCH 0 c")
        self.execute("INSERT INTO beats VALUES (7, now())")
        changes = []
        deadline = time.monotonic() + 30
        while len(changes) < 2 and time.monotonic() < deadline:
            cursor.execute("FETCH ALL c WITH (timeout = '200ms')")
            changes += [(int(t), int(diff), id) for t, diff, id in cursor.fetchall()]
        connection.close()
        self.assertEqual([(diff, id) for _, diff, id in changes], [(1, 7), (-1, 7)])
        self.assertGreater(changes[1][0], changes[0][0])
        self.execute("DROP TABLE beats")

    def test_complete_inputs(self):
        """A file that is read once is complete; what depends on the time still goes on."""
        path = pathlib.Path(self.directory) / "once.csv"
        soon = int((time.time() + 4) * 1e6)
        path.write_text(f"id,stops\n1,{soon}\n2,{soon + 3600 * 10**6}\n3,5\n")
        self.execute(f"CREATE SOURCE once (id int, stops bigint) FROM FILE '{path}' "
                     "(FORMAT CSV WITH HEADER)")
        self.execute("CREATE MATERIALIZED VIEW left_over AS SELECT id FROM once "
                     "WHERE mz_now() < stops")
        self.eventually("SELECT id FROM left_over ORDER BY id", [(1,), (2,)])
        self.eventually("SELECT id FROM left_over", [(2,)])
        self.assertEqual(self.rows("SELECT id FROM once WHERE mz_now() < stops"), [(2,)])
        self.execute("DROP MATERIALIZED VIEW left_over")
        self.execute("DROP SOURCE once")

    def test_constants_of_queries(self):
        self.execute("CREATE TABLE t (id int, ts timestamptz)")
        self.execute("INSERT INTO t VALUES (1, now()), (2, now() + interval '1 hour')")
        moment = self.rows("SELECT mz_now()::timestamptz - now() < interval '1 minute', "
                           "mz_now() IS NOT NULL, mz_now() > '2020-01-01', mz_now() > '1700'")
        self.assertEqual(moment, [(True, True, True, True)])
        self.assertEqual(self.rows("SELECT id, mz_now() >= ts FROM t ORDER BY id"),
                         [(1, True), (2, False)])
        self.assertEqual(self.rows("SELECT id FROM t WHERE mz_now() < ts OR id = 3"), [(2,)])
        self.execute("UPDATE t SET id = 5 WHERE mz_now() < ts")
        self.assertEqual(self.rows("SELECT id FROM t ORDER BY id"), [(1,), (5,)])
        self.execute("DELETE FROM t WHERE ts <= mz_now()")
        self.assertEqual(self.rows("SELECT id FROM t"), [(5,)])
        self.execute("INSERT INTO t SELECT 9, mz_now()::timestamptz")
        self.assertEqual(self.rows("SELECT id FROM t WHERE ts <= mz_now()"), [(9,)])
        self.execute("DROP TABLE t")

    def test_what_is_refused(self):
        self.execute("CREATE TABLE r (id int, ts timestamptz)")
        for query in ("SELECT id, mz_now() FROM r",
                      "SELECT id FROM r WHERE mz_now() < ts OR id = 1",
                      "SELECT id FROM r WHERE mz_now() <> ts",
                      "SELECT id FROM r WHERE mz_now()::timestamptz - interval '1 s' < ts",
                      "SELECT id FROM r GROUP BY id HAVING count(mz_now()) > 0",
                      "SELECT id FROM r ORDER BY mz_now() < ts LIMIT 1"):
            for statement in (f"CREATE MATERIALIZED VIEW bad AS {query}", f"SUBSCRIBE ({query})"):
                self.assertEqual(self.error(statement)[0], "0A000", statement)
        self.assertEqual(self.error("CREATE VIEW bad AS SELECT now()")[0], "0A000")
        self.assertEqual(self.error("SELECT * FROM r AS OF mz_now()")[0], "22023")
        plan = "\n".join(line for line, in self.rows(
            "EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT id FROM r WHERE "
            "mz_now() <= ts + interval '1 day' AND ts <= mz_now() AND id > 3"))
        self.assertIn("Temporal filter mz_now() <= #1 and mz_now() >= ts", plan)
        self.execute("DROP TABLE r")

    def test_survives_restart(self):
        self.execute("CREATE TABLE keep (id int, ts timestamptz)")
        self.execute("CREATE MATERIALIZED VIEW kept AS SELECT id FROM keep "
                     "WHERE mz_now() <= ts + interval '3 seconds'")
        self.execute("INSERT INTO keep VALUES (1, now()), (2, now() + interval '1 day')")
        self.assertEqual(self.rows("SHOW CREATE MATERIALIZED VIEW kept")[0][1].count("mz_now()"), 1)
        for name, pid in self.env.services():
            if name == "computed":
                os.kill(pid, signal.SIGKILL)
        self.eventually("SELECT id FROM kept", [(2,)])
        self.execute("DROP MATERIALIZED VIEW kept")
        self.execute("DROP TABLE keep")


if __name__ == "__main__":
    harness.main()
