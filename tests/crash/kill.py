"""kill -9 of storaged, computed and environmentd at random moments while data comes in.

Files are appended to and replaced, rows are inserted; what was acknowledged is written down here,
outside of the system. In the end every view equals a recomputation, every acknowledged insert is
there exactly once, and of the unacknowledged ones each is there once or not at all.

usage: kill.py [--kills N] [--seed N] [-- FLAG...]
"""
import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time

import environment

BINARIES = os.environ.get("TAILRACE_BINARIES", "build/release/bin")
VIEW = """SELECT d.name, count(*) AS n, count(p.package) AS known FROM depends d
          LEFT JOIN packages p ON p.package = d.name GROUP BY d.name"""


class Witness:
    """What we did, and what the system acknowledged of it."""

    def __init__(self):
        self.acknowledged = []
        self.unknown = []
        self.stop = threading.Event()


def write_files(directory, rng):
    packages = [f"p{n}" for n in range(400)]
    (directory / "packages.csv").write_text(
        "package,size\n" + "".join(f"{p},{rng.randrange(1000)}\n" for p in packages))
    (directory / "depends.csv").write_text(
        "package,name\n" + "".join(f"{rng.choice(packages)},p{rng.randrange(500)}\n"
                                   for _ in range(4000)))


def change_files(directory, rng, witness):
    """Appends lines, and now and then replaces a file without some of its lines."""
    path = directory / "depends.csv"
    while not witness.stop.is_set():
        with open(path, "a", encoding="utf-8") as f:
            for _ in range(rng.randrange(1, 20)):
                f.write(f"p{rng.randrange(400)},p{rng.randrange(500)}\n")
        if rng.random() < 0.1:
            header, *lines = path.read_text().splitlines()
            kept = [line for line in lines if rng.random() > 0.02]
            new = path.with_suffix(".new")
            new.write_text("\n".join([header, *kept]) + "\n")
            os.replace(new, path)
        time.sleep(rng.random() * 0.1)


def insert_rows(env, witness):
    """One row after the other; a lost connection leaves its row's fate unknown."""
    connection = None
    number = 0
    while not witness.stop.is_set():
        number += 1
        try:
            if connection is None:
                connection = env.connect()
            connection.cursor().execute(f"INSERT INTO numbers VALUES ({number})")
            witness.acknowledged.append(number)
        except environment.psycopg2.Error:
            if connection is not None:
                witness.unknown.append(number)
                connection.close()
            connection = None
            time.sleep(0.05)
    if connection is not None:
        connection.close()


def kill_something(env, rng):
    """Returns what was killed."""
    choice = rng.choice(["storaged", "computed", "environmentd"])
    if choice == "environmentd":
        env.kill()
        time.sleep(rng.random() * 0.2)
        env.start()
        return choice
    pids = [pid for name, pid in env.services() if name == choice]
    if not pids:
        return None
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return choice


def recompute(directory):
    import csv
    db = sqlite3.connect(":memory:")
    for name, columns in (("packages", "package, size"), ("depends", "package, name")):
        db.execute(f"CREATE TABLE {name} ({columns})")
        with open(directory / f"{name}.csv", newline="", encoding="utf-8") as f:
            reader = csv.reader(f)
            next(reader)
            db.executemany(f"INSERT INTO {name} VALUES (?, ?)", reader)
    return sorted(db.execute(VIEW))


def wait_for_view(env, expected):
    def check():
        try:
            with contextlib.closing(env.connect()) as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT * FROM needed")
                return sorted(cursor.fetchall()) == expected
        except environment.psycopg2.Error:
            return False
    environment.poll("the view to equal its recomputation", check, timeout=60, interval=0.5)


def check_inserts(env, witness):
    with contextlib.closing(env.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT n FROM numbers")
        found = collections.Counter(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT n, s FROM sums")
        maintained = cursor.fetchall()
    lost = [n for n in witness.acknowledged if found[n] == 0]
    doubled = [n for n, count in found.items() if count > 1]
    allowed = set(witness.acknowledged) | set(witness.unknown)
    invented = [n for n in found if n not in allowed]
    sums = [(sum(found.values()), sum(n * count for n, count in found.items()))]
    if lost or doubled or invented or maintained != sums:
        raise RuntimeError(f"lost {lost[:5]}, doubled {doubled[:5]}, invented {invented[:5]}, "
                           f"maintained {maintained}, recomputed {sums}")


def run(env, directory, rng, kills):
    data = directory / "data"
    data.mkdir()
    write_files(data, rng)
    env.start()
    with contextlib.closing(env.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE SOURCE packages (package text, size int) FROM FILE "
                       f"'{data}/packages.csv' (FORMAT CSV WITH HEADER) WITH (TAIL = true)")
        cursor.execute("CREATE SOURCE depends (package text, name text) FROM FILE "
                       f"'{data}/depends.csv' (FORMAT CSV WITH HEADER) WITH (TAIL = true)")
        cursor.execute("CREATE TABLE numbers (n int)")
        cursor.execute(f"CREATE MATERIALIZED VIEW needed AS {VIEW}")
        cursor.execute("CREATE MATERIALIZED VIEW sums AS "
                       "SELECT count(*) AS n, sum(n) AS s FROM numbers")
    witness = Witness()
    threads = [threading.Thread(target=change_files, args=(data, rng, witness)),
               threading.Thread(target=insert_rows, args=(env, witness))]
    for thread in threads:
        thread.start()
    killed = collections.Counter()
    try:
        while sum(killed.values()) < kills:
            time.sleep(rng.random() * 0.8)
            what = kill_something(env, rng)
            if what is not None:
                killed[what] += 1
    finally:
        witness.stop.set()
        for thread in threads:
            thread.join(60)
    wait_for_view(env, recompute(data))
    check_inserts(env, witness)
    print(f"{sum(killed.values())} kills ({dict(killed)}), {len(witness.acknowledged)} inserts "
          f"acknowledged, {len(witness.unknown)} unknown: nothing lost, nothing doubled")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("flags", nargs="*", help="further flags of environmentd, behind --")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tailrace-crash-"))
    env = environment.Environment(BINARIES, directory / "environment", "--storage-workers=2", *arguments.flags)
    try:
        run(env, directory, random.Random(seed), arguments.kills)
    except Exception as problem:
        print(f"FAILED with seed {seed}: {problem}\n{env.log_tail()}\nsee {directory}")
        env.stop()
        return 1
    env.stop()
    shutil.rmtree(directory)
    return 0


sys.exit(main())
