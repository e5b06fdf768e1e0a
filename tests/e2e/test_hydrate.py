"""Large views hydrate: progress is seen in SQL, the process needs little more memory than
afterwards, and storage that dies amid a snapshot only makes the view begin anew."""
import os
import signal
import threading
import time

import environment
import harness

ROWS = 1000000
PROGRESS = ("SELECT h.hydrated, h.rows, h.rows_estimate, h.bytes, h.percent "
            "FROM mz_internal.mz_hydration_statuses h "
            "JOIN mz_objects o ON o.id = h.object_id WHERE o.name = 'm'")


def resident(pid):
    """MiB of a process that nobody shares, and the part of what others share."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0


class Watch(threading.Thread):
    """The most a process needed while it was watched."""

    def __init__(self, pid):
        super().__init__()
        self.pid = pid
        self.most = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, resident(self.pid))

    def end(self):
        self.ended.set()
        self.join()
        return self.most


class Hydrate(harness.EnvironmentTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cursor = cls.env.connect().cursor()
        cursor.execute("CREATE TABLE t (k int8, v int8)")
        for first in range(0, ROWS, 100000):
            cursor.execute("INSERT INTO t SELECT g, g % 1000 FROM "
                           f"generate_series({first}, {first + 99999}) AS g")
        cursor.connection.close()

    def setUp(self):
        super().setUp()
        self.execute("SET introspection_timeout = '30s'")

    def tearDown(self):
        self.execute("DROP MATERIALIZED VIEW IF EXISTS m")
        super().tearDown()

    def pid(self, service):
        return next(pid for name, pid in self.env.services() if service in name)

    def hydrate(self, query):
        """Rows of the progress table, and MiB of computed: before, at most, afterwards."""
        before = resident(self.pid("computed"))
        watch = Watch(self.pid("computed"))
        watch.start()
        self.execute(f"CREATE MATERIALIZED VIEW m AS {query}")
        seen = []

        def done():
            seen.extend(self.rows(PROGRESS))
            return seen[-1][0]

        environment.poll("hydration", done, timeout=300)
        most = watch.end()
        time.sleep(1)
        after = resident(self.pid("computed"))
        seen.extend(self.rows(PROGRESS))  # counted before the frontier was heard of, until now
        print(f"\n  {query}: {before:.0f} MiB before, {most:.0f} at most, {after:.0f} afterwards, "
              f"{seen[-1][3] / (1 << 20):.0f} of them the engine's", end="")
        return seen

    def check_progress(self, seen, rows):
        for hydrated, taken, estimate, held, percent in seen:
            self.assertEqual(estimate, rows)
            if taken is not None:
                self.assertLessEqual(taken, rows)
                self.assertTrue(percent == 100 if hydrated else 0 <= percent <= 99)
                self.assertGreaterEqual(held, 0)
        self.assertEqual(seen[-1][1], rows)
        self.assertEqual(seen[-1][4], 100)
        known = [taken for _, taken, _, _, _ in seen if taken is not None]
        self.assertEqual(known, sorted(known))

    def test_count(self):
        self.check_progress(self.hydrate("SELECT v, count(*) AS n FROM t GROUP BY v"), ROWS)
        self.assertEqual(self.rows("SELECT count(*), sum(n) FROM m"), [(1000, ROWS)])

    def test_join(self):
        query = "SELECT a.k, a.v, b.v AS w FROM t a JOIN t b ON a.k = b.k"
        self.check_progress(self.hydrate(query), ROWS)
        self.assertEqual(self.rows("SELECT count(*), sum(v + w) FROM m"),
                         [(ROWS, ROWS * 999)])

    def test_storage_dies(self):
        """Amid the snapshot, several times: the answer is what it is, and the process was kept."""
        computed = self.pid("computed")
        self.execute("CREATE MATERIALIZED VIEW m AS SELECT a.k, b.v FROM t a JOIN t b "
                     "ON a.k = b.k")
        for _ in range(3):
            def amid():
                seen = self.rows(PROGRESS)
                return seen and (seen[0][0] or (seen[0][1] or 0) > 0)
            environment.poll("the snapshot", amid, timeout=60)
            os.kill(self.pid("storaged"), signal.SIGKILL)
            time.sleep(0.3)
        self.eventually("SELECT count(*), sum(v) FROM m", [(ROWS, ROWS * 999 // 2)], timeout=300)
        self.assertEqual(self.rows("SELECT hydrated, percent FROM "
                                   "mz_internal.mz_hydration_statuses"), [(True, 100)])
        self.assertEqual(self.pid("computed"), computed)
        self.execute("INSERT INTO t VALUES (-1, 1)")
        self.eventually("SELECT count(*) FROM m", [(ROWS + 1,)])
        self.execute("DELETE FROM t WHERE k = -1")


if __name__ == "__main__":
    harness.main()
