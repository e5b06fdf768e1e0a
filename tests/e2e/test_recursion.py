"""Recursive queries, answered once and maintained: always what the data says now."""
import random
import threading

import environment
import harness

CLOSURE = ("WITH MUTUALLY RECURSIVE reach (a int, b int) AS "
           "(SELECT a, b FROM edges UNION SELECT r.a, e.b FROM reach r JOIN edges e ON r.b = e.a)")
EVEN_ODD = ("WITH MUTUALLY RECURSIVE even (n int) AS (SELECT a FROM edges WHERE a = 0 UNION "
            "SELECT e.b FROM odd JOIN edges e ON e.a = odd.n), "
            "odd (n int) AS (SELECT DISTINCT e.b FROM even JOIN edges e ON e.a = even.n) ")


def closure(edges):
    reach = set(edges)
    while True:
        more = {(a, d) for a, b in reach for c, d in edges if b == c} - reach
        if not more:
            return sorted(reach)
        reach |= more


def walks(edges):
    even, odd = {0} if any(a == 0 for a, _ in edges) else set(), set()
    while True:
        now_odd = {b for a, b in edges if a in even}
        now_even = {b for a, b in edges if a in now_odd} | ({0} if even or now_odd else set())
        now_even |= {0} & {a for a, _ in edges}
        if (now_even, now_odd) == (even, odd):
            return sorted(even), sorted(odd)
        even, odd = now_even, now_odd


class Recursion(harness.EnvironmentTest):
    def check_views(self, edges):
        self.eventually("SELECT a, b FROM reachable ORDER BY a, b", closure(edges))
        self.execute("SET cluster = 'two'")
        self.eventually("SELECT a, b FROM reachable_pg ORDER BY a, b", closure(edges))
        self.execute("RESET cluster")
        even, odd = walks(edges)
        self.eventually("SELECT n FROM evens ORDER BY n", [(n,) for n in even])
        self.assertEqual(self.rows(EVEN_ODD + "SELECT n FROM odd ORDER BY n"), [(n,) for n in odd])
        self.assertEqual(self.rows(CLOSURE + "SELECT count(*) FROM reach"), [(len(closure(edges)),)])
        self.eventually("SELECT a FROM dead_ends ORDER BY a",
                        [(n,) for n in sorted({b for _, b in closure(edges)}
                                              - {a for a, _ in edges})])

    def test_views_kept_under_changes(self):
        """Views made before the data, changed at random."""
        self.execute("CREATE CLUSTER two (SIZE = '2')")
        self.execute("CREATE TABLE edges (a int, b int)")
        self.execute(f"CREATE MATERIALIZED VIEW reachable AS {CLOSURE} SELECT a, b FROM reach")
        self.execute("CREATE VIEW plain AS WITH RECURSIVE r (a, b) AS (SELECT a, b FROM edges UNION "
                     "SELECT e.a, r.b FROM edges e, r WHERE e.b = r.a) SELECT * FROM r")
        self.execute("CREATE MATERIALIZED VIEW reachable_pg IN CLUSTER two AS SELECT * FROM plain")
        self.execute(f"CREATE MATERIALIZED VIEW evens AS {EVEN_ODD} SELECT n FROM even")
        self.execute(f"CREATE MATERIALIZED VIEW dead_ends AS {CLOSURE} SELECT DISTINCT b AS a FROM "
                     "reach WHERE b NOT IN (SELECT a FROM edges)")
        rng = random.Random(3)
        edges = []
        for _ in range(12):
            for _ in range(rng.randrange(1, 4)):
                if edges and rng.random() < 0.4:
                    a, b = edges.pop(rng.randrange(len(edges)))
                    self.execute(f"DELETE FROM edges WHERE a = {a} AND b = {b}")
                    edges = [e for e in edges if e != (a, b)]
                else:
                    edges.append((rng.randrange(6), rng.randrange(6)))
                    self.execute("INSERT INTO edges VALUES (%s, %s)", edges[-1])
            self.check_views(edges)
        self.execute("DELETE FROM edges")
        self.eventually("SELECT count(*) FROM reachable", [(0,)])
        for view in ("dead_ends", "evens", "reachable_pg", "reachable"):
            self.execute(f"DROP MATERIALIZED VIEW {view}")
        self.execute("DROP VIEW plain")
        self.execute("DROP TABLE edges")
        self.execute("DROP CLUSTER two")

    def test_definitions(self):
        self.execute("CREATE TABLE d (a int)")
        self.execute('CREATE VIEW v AS WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 3) '
                     'up (n numeric(10, 2), "Odd Name" text) AS (SELECT a, NULL FROM d UNION ALL '
                     "SELECT n + 1, 'x' FROM up), b (n int) AS (SELECT 1) "
                     'SELECT count(*) AS c, max(n) AS m FROM up')
        text = self.rows("SHOW CREATE VIEW v")[0][1]
        self.assertIn("WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 3) up(n numeric(10, 2), "
                      '"Odd Name" text) AS', text)
        self.execute("INSERT INTO d VALUES (5)")
        self.assertEqual([(c, float(m)) for c, m in self.rows("SELECT c, m FROM v")], [(3, 7.0)])
        self.env.kill()
        self.env.start()
        self.connection = self.env.connect()
        self.cursor = self.connection.cursor()
        self.assertEqual(self.rows("SHOW CREATE VIEW v")[0][1], text)
        self.assertEqual([(c, float(m)) for c, m in self.rows("SELECT c, m FROM v")], [(3, 7.0)])
        self.execute("DROP VIEW v")
        self.execute("DROP TABLE d")

    def test_limits(self):
        forever = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) "
        self.assertEqual(self.error(forever + "SELECT max(n) FROM t"),
                         ("54000", "a recursive query did not end within 100000 iterations"))
        with self.assertRaises(environment.psycopg2.Error) as caught:
            self.execute(forever + "SELECT max(n) FROM t LIMIT 1")
        self.assertIn("RETURN AT RECURSION LIMIT", caught.exception.diag.message_hint)
        self.assertEqual(
            self.error("WITH MUTUALLY RECURSIVE (ERROR AT RECURSION LIMIT 10) t (n int) AS (SELECT "
                       "1 UNION SELECT n + 1 FROM t WHERE n < 50) SELECT max(n) FROM t")[0], "54000")
        self.assertEqual(
            self.rows("WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 10) t (n int) AS (SELECT 1 "
                      "UNION SELECT n + 1 FROM t) SELECT max(n) FROM t"), [(10,)])
        self.assertEqual(
            self.rows("WITH MUTUALLY RECURSIVE (RECURSION LIMIT 60) t (n int) AS (SELECT 1 UNION "
                      "SELECT n + 1 FROM t WHERE n < 50) SELECT max(n) FROM t"), [(50,)])
        wide = ("WITH MUTUALLY RECURSIVE (RECURSION LIMIT 1000000000) t (n bigint) AS (SELECT 1 "
                "UNION SELECT n + g FROM t, generate_series(1, 50) g) SELECT count(*) FROM t")
        self.execute("SET statement_timeout = '700ms'")
        self.assertEqual(self.error(wide)[0], "57014")
        self.execute("RESET statement_timeout")
        threading.Timer(0.7, self.connection.cancel).start()
        self.assertEqual(self.error(wide)[0], "57014")
        self.assertEqual(self.rows("SELECT 1"), [(1,)])


    def test_too_many(self):
        """Rows that multiply: as often as a bigint can say, then an error, wherever it is noticed."""
        self.execute("CREATE TABLE one (n int)")
        self.execute("INSERT INTO one VALUES (1)")
        error = ("22003", "bigint out of range")
        for seed in ("SELECT 1", "SELECT n FROM one"):
            for limit, copies, want in ((62, 2, 2 ** 62 - 1), (63, 2, 2 ** 63 - 1), (64, 2, error),
                                        (65, 2, error), (70, 2, error), (90, 3, error)):
                query = (f"WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT {limit}) t (n int) AS "
                         f"({seed}{' UNION ALL SELECT n FROM t' * copies}) SELECT count(*) FROM t")
                with self.subTest(seed=seed, limit=limit, copies=copies):
                    self.assertEqual(
                        self.error(query) if want == error else self.rows(query)[0][0], want)
            self.assertEqual(
                self.error("WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 20) t (n int) AS "
                           f"({seed} UNION ALL SELECT x.n FROM t x, t y) SELECT 1 FROM t LIMIT 1"),
                error)
        self.execute("DROP TABLE one")


if __name__ == "__main__":
    harness.main()
