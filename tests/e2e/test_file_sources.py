"""File sources through the real binaries: what the file may do, and where the trouble shows."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import environment
import harness


class FileSources(harness.EnvironmentTest):
    FLAGS = ("--storage-workers=2", "--storage-processes=2")

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="files-", dir=self.directory))

    def source(self, name, path, tail=True, options="CSV"):
        self.execute(f"CREATE SOURCE {name} (n int, t text) FROM FILE '{path}' (FORMAT {options}) "
                     f"WITH (TAIL = {'true' if tail else 'false'})")

    def status(self, name):
        found = self.rows("SELECT s.status, s.error FROM mz_internal.mz_source_statuses s WHERE s.name = %s",
                          (name,))
        return found[0] if found else (None, None)

    def wait_status(self, name, status, part=""):
        last = [None]

        def check():
            last[0] = self.status(name)
            return last[0][0] == status and part in (last[0][1] or "")
        try:
            environment.poll(f"{name} to be {status}", check)
        except RuntimeError:
            self.fail(f"{name}: wanted {status} ({part}), is {last[0]}")

    def test_missing_then_there(self):
        path = self.folder / "late.csv"
        self.source("late", path)
        self.wait_status("late", "stalled", "late.csv does not exist")
        path.write_text("1,a\n")
        self.eventually("SELECT * FROM late", [(1, "a")])
        self.wait_status("late", "running")

    def test_all_there_at_once(self):
        """What the file held when the source was created is in the very next answer."""
        for round in range(5):
            path = self.folder / f"full{round}.csv"
            rows = 20000 * (round + 1)
            path.write_text("".join(f"{n},t\n" for n in range(rows)))
            self.source(f"full{round}", path, tail=round % 2 == 0)
            self.assertEqual(self.rows(f"SELECT count(*), sum(n) FROM full{round}"),
                             [(rows, rows * (rows - 1) // 2)])

    def test_warning_for_what_cannot_be_read(self):
        self.connection.notices.clear()
        self.source("nowhere", self.folder / "nowhere.csv")
        self.assertIn("does not make progress", "".join(self.connection.notices))
        self.assertIn("nowhere.csv does not exist", "".join(self.connection.notices))
        self.assertEqual(self.rows("SELECT count(*) FROM nowhere"), [(0,)])

    def test_pipes_and_folders_are_refused(self):
        for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
            for tail in (True, False):
                path = self.folder / f"{name}{tail}"
                make(path)
                source = f"{name}_{tail}".lower()
                self.source(source, path, tail)
                self.wait_status(source, "stalled", "is not a file")
        # What was refused is taken once it is a file.
        os.rmdir(self.folder / "folderFalse")
        # Moved there whole: TAIL false reads a file once, and may find it made but not yet written.
        (self.folder / "aside").write_text("1,a\n")
        os.rename(self.folder / "aside", self.folder / "folderFalse")
        self.eventually("SELECT * FROM folder_false", [(1, "a")])

    def test_changing_file(self):
        path = self.folder / "changing.csv"
        path.write_text("1,a\n2,b\n")
        self.source("changing", path)
        self.execute("CREATE MATERIALIZED VIEW changing_n AS SELECT count(*) AS n FROM changing")
        self.eventually("SELECT n FROM changing_n", [(2,)])
        # Columns change: the bad line is an error of this source alone, with file and line.
        with open(path, "a", encoding="utf-8") as f:
            f.write("3,c,extra\n")
        message = []

        def refused():
            try:
                self.rows("SELECT * FROM changing")
            except environment.psycopg2.Error as problem:
                message.append((problem.pgcode, str(problem)))
                return True
            return False
        environment.poll("the bad line to show", refused)
        self.assertEqual(message[-1][0], "22P04")
        self.assertIn("expected 2 fields, found 3", message[-1][1])
        # It vanishes with the line: replaced, truncated, gone and back.
        new = self.folder / "new"
        new.write_text("1,a\n2,b\n3,c\n")
        os.replace(new, path)
        environment.poll("the error to vanish", lambda: not refused())
        self.eventually("SELECT * FROM changing ORDER BY n", [(1, "a"), (2, "b"), (3, "c")])
        self.eventually("SELECT n FROM changing_n", [(3,)])
        os.truncate(path, 8)
        self.eventually("SELECT * FROM changing ORDER BY n", [(1, "a"), (2, "b")])
        path.unlink()
        self.wait_status("changing", "stalled", "does not exist")
        self.assertEqual(self.rows("SELECT n FROM changing_n"), [(2,)])  # its rows stay
        path.write_text("7,x\n")
        self.eventually("SELECT * FROM changing", [(7, "x")])
        self.wait_status("changing", "running")
        # Binary from here on: what was text stays, and the status says where it ends.
        with open(path, "ab") as f:
            f.write(b"8,y\n\0\1\2\xff\n9,z\n")
        self.eventually("SELECT * FROM changing ORDER BY n", [(7, "x"), (8, "y")])
        self.wait_status("changing", "stalled", "line 3 contains a zero byte")
        new.write_text("9,z\n")
        os.replace(new, path)
        self.eventually("SELECT * FROM changing", [(9, "z")])
        self.wait_status("changing", "running")

    def test_header_that_changes(self):
        path = self.folder / "header.csv"
        path.write_text("n,t\n1,a\n")
        self.source("header", path, options="CSV WITH HEADER")
        self.eventually("SELECT * FROM header", [(1, "a")])
        new = self.folder / "new"
        new.write_text("n,other\n2,b\n")
        os.replace(new, path)
        self.wait_status("header", "stalled", 'column 2 of the header is "other", not "t"')
        self.assertEqual(self.rows("SELECT * FROM header"), [(1, "a")])


class FullDisk(harness.EnvironmentTest):
    """A real file system without space: everything pauses, says so, and goes on by itself."""

    @classmethod
    def setUpClass(cls):
        cls.disk = tempfile.mkdtemp(prefix="tailrace-full-")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", cls.disk],
                              capture_output=True, check=False)
        if done.returncode != 0:
            os.rmdir(cls.disk)
            raise unittest.SkipTest("cannot mount a small file system here")
        cls.directory = cls.disk + "/environment"
        cls.env = environment.Environment(harness.BINARIES, cls.directory)
        try:
            cls.env.start()
        except Exception:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            cls.env.stop()
        finally:
            subprocess.run(["umount", "-l", cls.disk], check=False)
            os.rmdir(cls.disk)

    def fill(self):
        """Takes all space there is, down to the last page."""
        ballast = pathlib.Path(self.disk) / "ballast"
        with open(ballast, "ab", buffering=0) as f:
            for size in (1 << 20, 4096):
                try:
                    while f.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass
        return ballast

    def test_pauses_and_resumes(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="tailrace-outside-"))
        path = folder / "f.csv"
        path.write_text("0,a\n")
        self.execute(f"CREATE SOURCE f (n int, t text) FROM FILE '{path}' (FORMAT CSV) "
                     "WITH (TAIL = true)")
        self.execute("CREATE TABLE t (n int)")
        self.execute("INSERT INTO t VALUES (1)")
        self.eventually("SELECT * FROM f", [(0, "a")])
        for cycle in (1, 2):
            acknowledged = self.rows("SELECT count(*) FROM t")[0][0]
            ballast = self.fill()
            with open(path, "a", encoding="utf-8") as f:
                f.write(f"{cycle},b\n" * 1000)
            refused = 0
            for _ in range(2000):
                try:
                    self.execute("INSERT INTO t VALUES " + ", ".join(["(1)"] * 100))
                    acknowledged += 100
                except environment.psycopg2.Error as problem:
                    self.assertEqual(problem.pgcode, "53100")
                    refused += 1
                    if refused == 3:
                        break
            self.assertEqual(refused, 3, "the disk was never full")
            paused = "SELECT status, error FROM mz_internal.mz_source_statuses WHERE name = 'f'"
            self.eventually(paused, [("paused", "no space left on the disk")])
            ballast.unlink()
            self.eventually("SELECT count(*) FROM f", [(1 + 1000 * cycle,)])
            self.eventually("SELECT status FROM mz_internal.mz_source_statuses WHERE name = 'f'",
                            [("running",)])
            self.assertEqual(self.rows("SELECT count(*) FROM t"), [(acknowledged,)])
            self.execute("INSERT INTO t VALUES (2)")
        path.unlink()
        folder.rmdir()


if __name__ == "__main__":
    harness.main()
