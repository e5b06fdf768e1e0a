"""tailrace-stat against a running environment: what it prints agrees with what was done."""
import os
import signal
import subprocess
import urllib.request

import environment
import harness


class Stat(harness.EnvironmentTest):
    def stat(self, *flags):
        command = [os.path.join(os.environ["TAILRACE_BINARIES"], "tailrace-stat"), *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def tables(self, kind):
        """Rows of a kind in all processes, as dictionaries."""
        out = self.stat("--once", "--path", self.env.directory, "--type", kind)
        self.assertEqual(out.returncode, 0, out.stderr)
        rows, names = [], None
        for line in out.stdout.splitlines():
            if not line.startswith("    "):
                names = None
            elif names is None:
                names = line.split()
            else:
                cells = line.replace(" ms ago", "ms").replace("none yet", "none").split()
                rows.append(dict(zip(names, cells, strict=True)))
        return rows

    def test_subscriptions_come_and_go(self):
        self.execute("CREATE TABLE t (k int, v text)")
        self.execute("CREATE MATERIALIZED VIEW m AS SELECT k, count(*) FROM t GROUP BY k")
        for n in range(10):
            self.execute(f"INSERT INTO t VALUES ({n % 3}, repeat('x', 1000))")
        self.assertEqual(len(self.rows("SELECT * FROM m")), 3)
        served, read = self.tables("subscription"), self.tables("reader")
        self.assertTrue(served)
        self.assertEqual(len(served), len(read))
        self.assertGreater(max(int(row["bytes"]) for row in served), 10 * 1000)
        self.assertEqual(sum(int(row["bytes"]) for row in served),
                         sum(int(row["bytes"]) for row in read))
        self.assertTrue(all(row["frontier"].endswith("ms") for row in served), served)
        self.assertTrue(self.tables("source"))
        self.execute("DROP MATERIALIZED VIEW m")
        environment.poll("the subscriptions to be given up", lambda: not any(
            int(row["bytes"]) > 10 * 1000 for row in self.tables("subscription")))

    def test_metrics_of_the_runtimes(self):
        """What promtool thinks of each runtime's /metrics, with the counters in them."""
        self.execute("CREATE TABLE seen (k int)")
        self.execute("CREATE MATERIALIZED VIEW seen_view AS SELECT count(*) FROM seen")
        self.assertEqual(self.rows("SELECT * FROM seen_view"), [(0,)])
        shown = b""
        for _, pid in self.env.services():
            with open(f"/proc/{pid}/cmdline") as f:
                flags = dict(flag.split("=", 1) for flag in f.read().split("\0") if "=" in flag)
            url = f"http://{flags['--internal-http-listen-addr']}/metrics"
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read()
            result = subprocess.run(["promtool", "check", "metrics"], input=text,
                                    capture_output=True, check=False, timeout=60)
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, b""))
            shown += text
        for name in (b"subscription_lag", b"reader_bytes_total", b"loop_sleeps_total",
                     b"session_shm_messages_out_total"):
            self.assertIn(b"tailrace_" + name + b"{", shown)

    def counters_files(self):
        return sorted(name for name in os.listdir(os.path.join(self.env.directory, "run"))
                      if name.endswith((".counters", ".counters.new")))

    def test_files_go_with_their_processes(self):
        """Whoever drops a replica removes its files; what nobody could remove goes at the next
        start; a killed process' file is replaced by its successor's."""
        before = self.counters_files()
        self.execute("CREATE CLUSTER c (SIZE = '2', REPLICATION FACTOR = 2)")
        environment.poll("their files", lambda: len(self.counters_files()) == len(before) + 2)
        victim = next(pid for name, pid in self.env.services() if name == "computed")
        os.kill(victim, signal.SIGKILL)
        environment.poll("the successor's file", lambda: not any(
            f"process {victim}," in line for line in self.stat(
                "--once", "--path", self.env.directory).stdout.splitlines()))
        self.execute("DROP CLUSTER c")
        environment.poll("their files to go", lambda: self.counters_files() == before)
        self.env.kill()
        left = os.path.join(self.env.directory, "run", "cluster-77-replica-0-1.counters")
        kept = os.path.join(self.env.directory, "run", "mine.counters")
        for path in (left, kept):
            with open(path, "w"):
                pass
        self.env.start()
        environment.poll("the sweep", lambda: not os.path.exists(left))
        self.assertTrue(os.path.exists(kept))
        os.unlink(kept)
        self.assertEqual(self.counters_files(), before)

    def test_errors(self):
        out = self.stat("--once", "--path", "/nonexistent")
        self.assertEqual(out.returncode, 1)
        self.assertIn("/nonexistent", out.stderr)
        self.assertIn("hint", out.stderr)
        self.assertEqual(self.stat("--once").returncode, 2)
        self.assertIn("usage", self.stat("--help").stdout.lower())


if __name__ == "__main__":
    harness.main()
