"""Dataflows under control: cancelled while they hydrate, bounded in memory, watched as they go."""
import threading

import environment
import harness

ROWS = 200000


class Control(harness.EnvironmentTest):
    """On two workers; `other` is the view that must not notice any of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cursor = cls.env.connect().cursor()
        cursor.execute("CREATE CLUSTER two (SIZE = '2')")
        cursor.execute("SET cluster = two")
        cursor.execute("CREATE TABLE t (k int, v text)")
        for first in range(0, ROWS, 50000):
            cursor.execute("INSERT INTO t SELECT g, repeat('x', 50) || g FROM "
                           f"generate_series({first}, {first + 49999}) AS g")
        cursor.execute("CREATE TABLE s (a int)")
        cursor.execute("CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM s")
        cursor.execute("SELECT * FROM other")
        cursor.connection.close()

    def setUp(self):
        super().setUp()
        self.execute("SET cluster = two")
        self.execute("SET introspection_timeout = '30s'")

    def others_go_on(self):
        ((before,),) = self.rows("SELECT n FROM other")
        self.execute("INSERT INTO s VALUES (1)")
        self.assertEqual(self.rows("SELECT n FROM other"), [(before + 1,)])

    def dataflows(self):
        """Names of all dataflows that run; that of a query is "query"."""
        return sorted(name for (name,) in self.rows(
            "SELECT DISTINCT name FROM mz_internal.mz_dataflows"))

    def test_cancel_a_hydrating_join(self):
        """25 million pairs: nothing of it is left after the cancellation, and others go on."""
        heavy = self.env.connect()
        cursor = heavy.cursor()
        cursor.execute("SET cluster = two; SET statement_timeout = 0")
        outcome = []

        def run():
            try:
                cursor.execute("SELECT count(DISTINCT x.v || y.v) FROM t x JOIN t y "
                               "ON x.k % 1600 = y.k % 1600")
                outcome.append("finished")
            except environment.psycopg2.Error as problem:
                outcome.append(problem.pgcode)

        thread = threading.Thread(target=run)
        thread.start()
        environment.poll("the query's dataflow", lambda: "query" in self.dataflows())
        environment.poll("rows to be taken in", lambda: self.rows(
            "SELECT count(*) > 0 FROM mz_internal.mz_operator_rows_per_worker r "
            "JOIN mz_internal.mz_dataflow_operators o "
            "  ON o.id = r.id AND o.worker_id = r.worker_id "
            "WHERE o.name LIKE '%join' AND r.rows_in > 0") == [(True,)])
        heavy.cancel()
        thread.join()
        self.assertEqual(outcome, ["57014"])
        environment.poll("the dataflow to be gone", lambda: self.dataflows() == ["other"])
        self.others_go_on()
        cursor.execute("SELECT count(*) FROM t")
        self.assertEqual(cursor.fetchall(), [(ROWS,)])
        heavy.close()

    def test_drop_a_hydrating_view(self):
        self.execute("CREATE MATERIALIZED VIEW m AS SELECT x.k, x.v, y.v AS w FROM t x "
                     "JOIN t y ON x.k % 20000 = y.k % 20000")
        environment.poll("the view's dataflow", lambda: "m" in self.dataflows())
        self.execute("DROP MATERIALIZED VIEW m")
        environment.poll("the dataflow to be gone", lambda: self.dataflows() == ["other"])
        self.others_go_on()

    def test_memory_limit_of_a_view(self):
        """The view fails with an error that names the limit; a larger one is enough."""
        self.execute("CREATE MATERIALIZED VIEW m WITH (memory_limit = '1MB') AS "
                     "SELECT k, max(v) AS v FROM t GROUP BY k")
        environment.poll("the failure", lambda: self.rows(
            "SELECT error LIKE '%\"m\" needs more memory on a worker than its limit of 1048576 "
            "bytes%' FROM mz_internal.mz_dataflow_errors") == [(True,)])
        self.assertEqual(self.rows(
            "SELECT hydrated, status FROM mz_internal.mz_hydration_statuses h "
            "JOIN mz_objects o ON o.id = h.object_id WHERE o.name = 'm'"), [(False, "failed")])
        code, message = self.error("SELECT count(*) FROM m")
        self.assertEqual(code, "57P03")
        self.assertIn("limit of 1048576 bytes", message)
        self.others_go_on()
        self.execute("DROP MATERIALIZED VIEW m")
        self.execute("CREATE MATERIALIZED VIEW m WITH (memory_limit = '1GB') AS "
                     "SELECT k, max(v) AS v FROM t GROUP BY k")
        self.assertEqual(self.rows("SELECT count(*) FROM m"), [(ROWS,)])
        self.assertEqual(self.rows("SELECT DISTINCT memory_limit FROM mz_internal.mz_dataflows "
                                   "WHERE name = 'm'"), [(1 << 30,)])
        self.env.kill()  # the limit is in the catalog
        self.env.start()
        self.connection.close()
        self.connection = self.env.connect()
        self.cursor = self.connection.cursor()
        self.execute("SET introspection_timeout = '30s'")
        self.eventually("SELECT DISTINCT memory_limit FROM mz_internal.mz_dataflows "
                        "WHERE name = 'm'", [(1 << 30,)])
        self.execute("DROP MATERIALIZED VIEW m")

    def test_memory_limit_of_a_query(self):
        query = "SELECT count(*) FROM (SELECT v, count(*) FROM t GROUP BY v) AS x"
        self.execute("SET dataflow_memory_limit = '1MB'")
        code, message = self.error(query)
        self.assertEqual(code, "53200", message)
        self.assertIn("limit of 1048576 bytes", message)
        self.others_go_on()
        self.execute("SET dataflow_memory_limit = '2GB'")
        self.assertEqual(self.rows(query), [(ROWS,)])

    def test_hydration_is_seen(self):
        """Progress never passes the estimate by more than what came meanwhile, and ends there."""
        self.execute("CREATE MATERIALIZED VIEW h AS SELECT x.k, y.v FROM t x JOIN t y "
                     "ON x.k % 20000 = y.k % 20000")
        seen = []

        def look():
            seen.extend(self.rows(
                "SELECT h.hydrated, h.rows, h.rows_estimate, h.bytes "
                "FROM mz_internal.mz_hydration_statuses h "
                "JOIN mz_objects o ON o.id = h.object_id WHERE o.name = 'h'"))
            return seen[-1][0]

        environment.poll("hydration", look, timeout=120)
        self.assertTrue(all(rows is None or rows <= estimate for _, rows, estimate, _ in seen), seen)
        self.assertEqual(seen[-1][2], ROWS)
        self.assertEqual(seen[-1][1], ROWS)
        self.assertGreater(seen[-1][3], ROWS * 10)
        self.execute("DROP MATERIALIZED VIEW h")


if __name__ == "__main__":
    harness.main()
