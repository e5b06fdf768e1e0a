"""Answers too large for one message between processes: a clear error, and nothing else breaks."""
import io

import environment
import harness


class Limits(harness.EnvironmentTest):
    # environmentd's own bound is out of the way: the 256 MiB of a message are what counts here.
    FLAGS = ("--max-result-bytes=2000000000",)

    def pids(self):
        return sorted(self.env.services())

    def setUp(self):
        super().setUp()
        self.execute("CREATE TABLE t (id int8)")
        for first in range(0, 20000, 5000):
            values = ",".join(f"({i})" for i in range(first, first + 5000))
            self.execute(f"INSERT INTO t VALUES {values}")

    def tearDown(self):
        self.execute("DROP TABLE t")
        super().tearDown()

    def refused(self, statement):
        code, message = self.error(statement)
        self.assertEqual(code, "53400", message)
        self.assertIn("255 MiB", message)

    def test_large_peek(self):
        before = self.pids()
        self.refused("SELECT id, repeat('x', 16000) FROM t")
        self.assertEqual(self.rows("SELECT count(*) FROM t"), [(20000,)])
        self.assertEqual(len(self.rows("SELECT id, repeat('x', 4000) FROM t")), 20000)
        self.assertEqual(self.pids(), before)

    def test_large_peek_of_a_view(self):
        self.execute("CREATE MATERIALIZED VIEW v AS SELECT id, id % 7 AS k FROM t")
        self.refused("SELECT id, k, repeat('y', 16000) FROM v")
        self.assertEqual(self.rows("SELECT count(*) FROM v"), [(20000,)])
        self.execute("DROP MATERIALIZED VIEW v")

    def test_large_subscription(self):
        before = self.pids()
        with self.assertRaises(environment.psycopg2.Error) as caught:
            self.cursor.copy_expert("COPY (SUBSCRIBE (SELECT id, repeat('z', 16000) FROM t)) "
                                    "TO STDOUT", io.StringIO())
        self.assertEqual(caught.exception.pgcode, "53400", caught.exception)
        self.assertEqual(self.rows("SELECT count(*) FROM t"), [(20000,)])
        self.assertEqual(self.pids(), before)


if __name__ == "__main__":
    harness.main()
