"""The main job on real input: live views over this machine's package index."""
import argparse
import os
import pathlib
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time

import environment
import packages

SOURCES = {
    "packages": "package text, version text, maintainer text, installed_size bigint, section text",
    "depends": "package text, version text, item integer, name text",
    "provides": "package text, name text",
}

VIEWS = {
    "most_depended": """
        SELECT name, count(DISTINCT package) AS packages FROM depends
        GROUP BY name ORDER BY packages DESC, name LIMIT 10""",
    "size_per_maintainer": """
        SELECT maintainer, count(*) AS packages, sum(installed_size) AS kilobytes
        FROM packages GROUP BY maintainer""",
    "unmet": """
        SELECT d.package, d.version, d.item, min(d.name) AS name
        FROM depends d
        LEFT JOIN (SELECT package AS name FROM packages UNION SELECT name FROM provides) p
               ON p.name = d.name
        GROUP BY d.package, d.version, d.item
        HAVING count(p.name) = 0""",
}

ORDER = {
    "most_depended": "packages DESC, name",
    "size_per_maintainer": "kilobytes DESC, maintainer",
    "unmet": "package, version, item",
}


def say(text=""):
    print(text, flush=True)


def create(connection, directory):
    cursor = connection.cursor()
    for name, columns in SOURCES.items():
        cursor.execute(f"CREATE SOURCE {name} ({columns}) FROM FILE '{directory}/{name}.csv' "
                       "(FORMAT CSV WITH HEADER) WITH (TAIL = true)")
    for name, query in VIEWS.items():
        cursor.execute(f"CREATE MATERIALIZED VIEW {name} AS {query}")


def rows_of(connection, view):
    cursor = connection.cursor()
    cursor.execute(f"SELECT * FROM {view} ORDER BY {ORDER[view]}")
    return [tuple(str(value) for value in row) for row in cursor.fetchall()]


def recompute(directory):
    """Every view again, by SQLite over the same files."""
    import csv
    db = sqlite3.connect(":memory:")
    for name, columns in SOURCES.items():
        db.execute(f"CREATE TABLE {name} ({columns})")
        with open(directory / f"{name}.csv", newline="", encoding="utf-8") as f:
            reader = csv.reader(f)
            header = next(reader)
            marks = ",".join("?" * len(header))
            db.executemany(f"INSERT INTO {name} VALUES ({marks})", reader)
    db.execute("CREATE INDEX names ON depends (name)")
    return {name: [tuple(str(value) for value in row) for row in
                   db.execute(f"SELECT * FROM ({query}) ORDER BY {ORDER[name]}")]
            for name, query in VIEWS.items()}


def wait_loaded(connection, counts):
    """Until every source holds every row of its file; shows progress."""
    cursor = connection.cursor()
    started = time.monotonic()
    shown = 0.0
    while True:
        have = {}
        for name in SOURCES:
            cursor.execute(f"SELECT count(*) FROM {name}")
            have[name] = cursor.fetchone()[0]
        if have == counts:
            say(f"loaded in {time.monotonic() - started:.1f} s: "
                + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
            return
        if time.monotonic() - started > 300:
            raise RuntimeError(f"the sources hold {have}, the files {counts}")
        if time.monotonic() - shown > 2:
            shown = time.monotonic()
            say("  loading: " + ", ".join(f"{have[n]:,} of {counts[n]:,} {n}" for n in SOURCES))
        time.sleep(0.05)


class Subscriber:
    """SUBSCRIBE through COPY on a connection of its own; remembers each change and its arrival."""

    def __init__(self, env, view):
        self.changes = []
        self.arrived = threading.Condition()
        self.connection = env.connect()
        self.thread = threading.Thread(target=self.run, args=(view,), daemon=True)
        self.rest = b""
        self.thread.start()

    def run(self, view):
        try:
            self.connection.cursor().copy_expert(
                f"COPY (SUBSCRIBE {view} WITH (SNAPSHOT = false)) TO STDOUT", self)
        except environment.psycopg2.Error:  # cancelled at the end
            pass

    def write(self, data):
        now = time.monotonic()
        self.rest += data if isinstance(data, bytes) else data.encode()
        *lines, self.rest = self.rest.split(b"\n")
        with self.arrived:
            for line in lines:
                fields = line.decode().split("\t")
                self.changes.append((now, int(fields[1]), tuple(fields[2:])))
            self.arrived.notify_all()
        return len(data)

    def wait(self, diff, contains, since, timeout=60):
        """The arrival time of the first change from index `since` on with this diff and value."""
        deadline = time.monotonic() + timeout
        with self.arrived:
            while True:
                for arrival, change_diff, row in self.changes[since:]:
                    if change_diff == diff and contains in row:
                        return arrival, row
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RuntimeError(f"no change {diff:+d} with {contains!r} arrived")
                self.arrived.wait(left)

    def close(self):
        """Ends the COPY first: a connection is not closed under the thread that reads it."""
        self.connection.cancel()
        self.thread.join(30)
        if self.thread.is_alive():
            raise RuntimeError("SUBSCRIBE does not end when it is cancelled")
        self.connection.close()


def append(path, line):
    with open(path, "ab") as f:
        f.write(line.encode())
        f.flush()
    return time.monotonic()


def remove(path, marker):
    """Rewrites the file without the lines that contain marker, and puts it in place at once."""
    text = path.read_bytes().split(b"\n")
    kept = [line for line in text if marker.encode() not in line]
    new = path.with_suffix(".new")
    new.write_bytes(b"\n".join(kept))
    os.replace(new, path)
    return time.monotonic()


def show_changes(env, directory, rounds):
    """Appends and removes rows while a SUBSCRIBE to `unmet` is told of each."""
    subscriber = Subscriber(env, "unmet")
    time.sleep(1.0)  # the subscription stands
    latencies = []
    say()
    say("appending packages whose dependency nobody provides; SUBSCRIBE unmet says:")
    for n in range(rounds):
        name = f"quickstart-{n}"
        seen = len(subscriber.changes)
        written = append(directory / "depends.csv", f"{name},1.0,0,libnobody-has-{n}\n")
        arrival, row = subscriber.wait(+1, name, seen)
        latencies.append(1000 * (arrival - written))
        if n < 5:
            say(f"  +1  {', '.join(row)}   ({latencies[-1]:.2f} ms after the write)")
    latencies.sort()
    say(f"  ... {rounds} appends, source to subscriber: median {statistics.median(latencies):.2f}"
        f" ms, p90 {latencies[int(0.9 * len(latencies))]:.2f} ms, worst {latencies[-1]:.2f} ms")
    say("removing them again (the file is replaced; only the difference is published):")
    seen = len(subscriber.changes)
    written = remove(directory / "depends.csv", "quickstart-")
    for n in range(rounds):
        arrival, row = subscriber.wait(-1, f"quickstart-{n}", seen)
        if n < 3:
            say(f"  -1  {', '.join(row)}   ({1000 * (arrival - written):.2f} ms)")
    extra = [change for change in subscriber.changes if not change[2][0].startswith("quickstart-")]
    if extra:
        raise RuntimeError(f"changes nobody made: {extra[:5]}")
    subscriber.close()


def show_views(connection):
    say()
    say("most depended-upon packages:")
    for name, count in rows_of(connection, "most_depended"):
        say(f"  {int(count):>7,}  {name}")
    say("installed size per maintainer (largest five):")
    for maintainer, count, size in rows_of(connection, "size_per_maintainer")[:5]:
        say(f"  {int(float(size)) // 1024:>7,} MiB in {int(count):>5,} packages  {maintainer}")
    unmet = rows_of(connection, "unmet")
    say(f"dependencies nobody provides: {len(unmet):,}")
    for row in unmet[:3]:
        say(f"  {row[0]} needs {row[3]}")


def compare(connection, directory):
    """Returns the number of views that differ from SQLite's answer, after saying how."""
    say()
    say("recomputing every view with SQLite over the same files:")
    differing = 0
    for name, expected in recompute(directory).items():
        deadline = time.monotonic() + 30
        actual = rows_of(connection, name)
        while actual != expected and time.monotonic() < deadline:
            time.sleep(0.2)
            actual = rows_of(connection, name)
        if actual == expected:
            say(f"  {name}: {len(actual):,} rows, the same")
            continue
        differing += 1
        say(f"  {name}: DIFFERENT ({len(actual):,} rows, SQLite has {len(expected):,})")
        for row in sorted(set(actual) - set(expected))[:5]:
            say(f"    only in the view: {row}")
        for row in sorted(set(expected) - set(actual))[:5]:
            say(f"    missing in the view: {row}")
    return differing


def run(env, directory, check):
    origin, counts = packages.make_files(directory)
    say(f"the package index of this machine ({origin}) as files in {directory}")
    env.start()
    connection = env.connect()
    create(connection, directory)
    wait_loaded(connection, counts)
    show_views(connection)
    show_changes(env, directory, rounds=20)
    if not check:
        connection.close()
        return 0
    differing = compare(connection, directory)
    connection.close()
    return differing


def default_directory():
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(home) / "tailrace" / "quickstart"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--directory", type=pathlib.Path)
    arguments = parser.parse_args()
    temporary = arguments.check and arguments.directory is None
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tailrace-")) if temporary else (
        arguments.directory or default_directory())
    ports = (0, 0) if arguments.check else (6875, 6876)
    env = environment.Environment(arguments.binaries, directory / "environment",
                                  sql_port=ports[0], http_port=ports[1])
    if not temporary and directory.exists():
        env.stop()  # an earlier quickstart's services
        shutil.rmtree(directory)
    (directory / "data").mkdir(parents=True)
    status = 1
    try:
        status = run(env, (directory / "data").resolve(), arguments.check)
    except Exception as problem:
        say(f"quickstart failed: {problem}")
        say(env.log_tail())
    if arguments.check or status != 0:
        env.stop()
        if arguments.check and not arguments.keep and status == 0:
            shutil.rmtree(directory)
        say("check: " + ("all views agree" if status == 0 else f"FAILED, see {directory}"))
        return 0 if status == 0 else 1
    say()
    say(f"the environment keeps running. Connect with:  psql -h localhost -p {env.sql_port} "
        "-U tailrace")
    say(f"metrics: http://localhost:{env.http_port}/metrics   stop: kill {env.process.pid}")
    return 0


sys.exit(main())
