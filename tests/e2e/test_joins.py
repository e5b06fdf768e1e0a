"""Joins that read indexes where they are, on two replicas of two workers."""
import re

import harness

ROWS = 10000


class Joins(harness.EnvironmentTest):
    FLAGS = ("--storage-workers=2",)

    def setUp(self):
        super().setUp()
        self.execute("SET introspection_timeout = '30s'")
        self.execute("CREATE CLUSTER IF NOT EXISTS two (SIZE = '2', REPLICATION FACTOR = 2)")
        self.execute("SET cluster = two")

    def bytes_kept(self, what):
        """EXPLAIN ANALYZE, and what it says each replica's dataflow keeps, in kB."""
        text = "\n".join(row[0] for row in self.rows(f"EXPLAIN ANALYZE {what}"))
        kept = re.findall(r"Replica r[12]: .* ([\d.]+) (kB|MB)", text)
        return text, [float(n) * (1024 if unit == "MB" else 1) for n, unit in kept]

    def test_joins_share_an_index(self):
        """A view that joins on an index keeps no copy of it, and goes on when the index is dropped."""
        self.execute("CREATE TABLE few (v int, label text)")
        self.execute("CREATE TABLE big (v int, k int, text text)")
        self.execute(f"INSERT INTO big SELECT g, g % 10, 'row ' || g "
                     f"FROM generate_series(1, {ROWS}) AS g")
        self.execute("INSERT INTO few VALUES (1, 'one'), (2, 'two'), (2, 'deux'), (NULL, 'none')")
        self.execute("CREATE INDEX big_v ON big (v)")
        self.execute("CREATE MATERIALIZED VIEW j AS SELECT few.label, big.text FROM few "
                     "JOIN big ON few.v = big.v WHERE big.k < 9")
        self.execute("CREATE MATERIALIZED VIEW three AS SELECT a.label, b.text, c.k FROM few a, "
                     "big b, big c WHERE a.v = b.v AND c.v = a.v")
        joined = [("deux", "row 2"), ("one", "row 1"), ("two", "row 2")]
        self.assertEqual(self.rows("SELECT * FROM j ORDER BY 1, 2"), joined)
        for view in ("j", "three"):
            text, kept = self.bytes_kept(f"MATERIALIZED VIEW {view}")
            self.assertIn("Lookup on=(v = v)", text)
            self.assertNotIn("Join", text)
            _, index = self.bytes_kept("INDEX big_v")
            self.assertEqual((len(kept), len(index)), (2, 2), text)
            self.assertLess(max(kept), min(index) / 10, text)
        self.execute("INSERT INTO few VALUES (3, 'three')")
        self.execute("UPDATE big SET text = 'new' WHERE v = 1")
        self.execute("DELETE FROM few WHERE label = 'deux'")
        joined = [("one", "new"), ("three", "row 3"), ("two", "row 2")]
        self.assertEqual(self.rows("SELECT * FROM j ORDER BY 1, 2"), joined)
        self.execute("DROP INDEX big_v")
        self.execute("INSERT INTO big VALUES (3, 1, 'again'), (4, 1, 'four')")
        self.execute("INSERT INTO few VALUES (4, 'four')")
        joined = [("four", "four"), ("four", "row 4"), ("one", "new"), ("three", "again"),
                  ("three", "row 3"), ("two", "row 2")]
        self.assertEqual(self.rows("SELECT * FROM j ORDER BY 1, 2"), joined)
        self.assertEqual(self.rows("SELECT count(*) FROM three"), [(10,)])

    def test_errors_go(self):
        """An error of a condition goes with the last row it came of, by whichever path."""
        self.execute("CREATE TABLE one (k int, v int)")
        self.execute("CREATE TABLE other (k int, v int)")
        self.execute("CREATE INDEX other_k ON other (k)")
        self.execute("INSERT INTO one VALUES (1, 1), (1, 2), (2, 5)")
        self.execute("INSERT INTO other VALUES (1, 0), (2, 1), (3, 0)")
        self.execute("CREATE MATERIALIZED VIEW d AS SELECT one.v FROM one "
                     "JOIN other ON one.k = other.k WHERE 10 / other.v > 1")
        self.assertEqual(self.error("SELECT * FROM d"), ("22012", "division by zero"))
        self.execute("DELETE FROM other WHERE k = 1")
        self.assertEqual(self.rows("SELECT * FROM d"), [(5,)])
        self.execute("INSERT INTO one VALUES (3, 7)")
        self.assertEqual(self.error("SELECT * FROM d"), ("22012", "division by zero"))
        self.execute("DELETE FROM other WHERE k = 3")
        self.assertEqual(self.rows("SELECT * FROM d"), [(5,)])


if __name__ == "__main__":
    harness.main()
