"""Many views at rest: they answer, follow what changes, live through restarts, and an INSERT beside
them does not become dear. Costs are printed; the bound is generous, for machines that do much
else."""
import os
import time

import harness

VIEWS = 500
INSERTS = 50
LENIENT = 20  # times what the same INSERT costs without views


class Idle(harness.EnvironmentTest):

    def cpu(self):
        """CPU seconds of the environment's processes."""
        ticks = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                    if self.directory not in file.read():
                        continue
                with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
            except OSError:
                continue  # it ended meanwhile
        return ticks / os.sysconf("SC_CLK_TCK")

    def insert(self):
        before = self.cpu()
        for _ in range(INSERTS):
            self.execute("INSERT INTO beside VALUES (1)")
        return self.cpu() - before

    def test_views_at_rest(self):
        self.execute("CREATE TABLE t (k int8, v int8)")
        self.execute("CREATE TABLE beside (a int8)")
        self.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 100) g")
        without = self.insert()
        for i in range(VIEWS):
            self.execute(f"CREATE MATERIALIZED VIEW v{i} AS "
                         f"SELECT k % 7 AS m, count(*) AS n FROM t WHERE v > {i} GROUP BY 1")
        self.execute("CREATE MATERIALIZED VIEW over AS SELECT sum(n) AS n FROM v0")
        self.execute("CREATE MATERIALIZED VIEW recent AS "
                     "SELECT count(*) AS n FROM t WHERE mz_now() <= k * 1000000 + 3000000")
        self.eventually("SELECT n FROM over", [(100,)])
        time.sleep(1)  # until they are in step
        beside = self.insert()
        print(f"\n  CPU of an INSERT: {without / INSERTS * 1e3:.2f} ms; "
              f"beside {VIEWS} views: {beside / INSERTS * 1e3:.2f} ms", end="")
        self.assertLess(beside, LENIENT * max(without, INSERTS / 1e3))
        self.changes(100)
        self.env.stop()
        self.env.start()
        self.connection = self.env.connect()
        self.cursor = self.connection.cursor()
        self.changes(101)

    def changes(self, before):
        """What is written is read at once, through one view or two, and as time goes on."""
        self.assertEqual(self.rows("SELECT n FROM over"), [(before,)])
        self.execute("INSERT INTO t VALUES (%s, 1000000)", (int(time.time()),))
        self.assertEqual(self.rows("SELECT n FROM over"), [(before + 1,)])
        self.assertEqual(self.rows(f"SELECT sum(n) FROM v{VIEWS - 1}"), [(before - 99,)])
        self.eventually("SELECT n FROM recent", [(0,)])


if __name__ == "__main__":
    harness.main()
