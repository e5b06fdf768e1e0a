"""Each process is killed, in every order: nothing acknowledged is lost, views go on."""
import os
import signal
import time

import environment
import harness


class Restart(harness.EnvironmentTest):
    FLAGS = ("--storage-workers=2",)

    def reconnect(self):
        def try_connect():
            try:
                self.connection = self.env.connect()
                return True
            except environment.psycopg2.OperationalError:
                return False
        environment.poll("a connection", try_connect)
        self.cursor = self.connection.cursor()

    def kill_service(self, name):
        pids = [pid for found, pid in self.env.services() if found == name]
        self.assertTrue(pids, f"no {name} runs")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        environment.poll(f"{name} to come back", lambda: any(
            found == name and pid not in pids for found, pid in self.env.services()))

    def test_kill_everything_in_turn(self):
        self.execute("CREATE TABLE t (k int, v int)")
        self.execute("CREATE MATERIALIZED VIEW m AS SELECT k, sum(v) AS s, count(*) AS n "
                     "FROM t GROUP BY k")
        expected = {}

        def insert(k, v):
            self.execute(f"INSERT INTO t VALUES ({k}, {v})")
            s, n = expected.get(k, (0, 0))
            expected[k] = (s + v, n + 1)

        def check():
            rows = sorted((k, s, n) for k, (s, n) in expected.items())
            self.assertEqual(self.rows("SELECT * FROM m ORDER BY k"), rows)

        for n in range(20):
            insert(n % 5, n)
        check()
        self.kill_service("computed")
        insert(1, 100)
        check()
        self.kill_service("storaged")
        insert(2, 200)
        check()
        before = self.env.services()
        self.env.kill()
        started = time.monotonic()
        self.env.start()
        self.reconnect()
        check()
        self.assertEqual(self.env.services(), before, "living processes were not adopted")
        self.assertLess(time.monotonic() - started, 10)
        insert(3, 300)
        check()
        self.env.kill()
        for _, pid in self.env.services():
            os.kill(pid, signal.SIGKILL)
        self.env.start()
        self.reconnect()
        check()
        insert(4, 400)
        check()


if __name__ == "__main__":
    harness.main()
