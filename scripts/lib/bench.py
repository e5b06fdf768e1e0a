"""Runs tailrace-bench with everything it needs: an environment, a PostgreSQL, a directory."""
import argparse
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import environment

SUBCOMMANDS = ("ring", "boundary", "exchange", "engine", "graph", "sql")
TRANSPORT = ("ring", "boundary", "exchange")
# The engine's workers: threads, processes over shared memory, over TCP, and both. Checked in each.
REPLICAS = (("--workers=2",), ("--workers=4",), ("--processes=2",), ("--processes=2", "--link=tcp"),
            ("--processes=2", "--workers=4"))
POSTGRES = "/usr/lib/postgresql/15/bin"


class Postgres:
    """A throw-away PostgreSQL with its stock settings, on a port of its own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory) / "postgres"
        self.port = environment.free_port()
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def run(self, *command):
        options = {}
        if os.geteuid() == 0:
            options["user"] = self.user
            options["extra_groups"] = []
        subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, **options)

    def start(self):
        self.directory.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.directory, self.user)
        data = str(self.directory / "data")
        self.run(f"{POSTGRES}/initdb", "-A", "trust", "-U", "postgres", "-D", data)
        self.run(f"{POSTGRES}/pg_ctl", "-w", "-D", data, "-l", str(self.directory / "log"), "-o",
                 f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1", "start")

    def stop(self):
        data = self.directory / "data"
        if (data / "postmaster.pid").exists():
            self.run(f"{POSTGRES}/pg_ctl", "-w", "-m", "fast", "-D", str(data), "stop")


def run_bench(arguments, name, *flags):
    command = [str(arguments.binaries / "tailrace-bench"), name, *flags]
    if arguments.json:
        command.append("--json")
    if arguments.priority:
        command.append("--priority")
    if arguments.plots and name in TRANSPORT:
        command.append(f"--plot={arguments.plots / name}.svg")
    status = subprocess.run(command, check=False).returncode
    print(flush=True)
    return status


def run_sql(arguments, directory, quick):
    env = environment.Environment(arguments.binaries, directory / "environment")
    postgres = Postgres(directory)
    try:
        env.start()
        postgres.start()
        return run_bench(arguments, "sql", f"--port={env.sql_port}", f"--directory={directory}",
                         f"--postgres-port={postgres.port}", *quick)
    finally:
        postgres.stop()
        env.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--priority", action="store_true")
    parser.add_argument("--plots", type=pathlib.Path)
    parser.add_argument("--only", action="append", choices=SUBCOMMANDS)
    arguments = parser.parse_args()
    only = arguments.only or SUBCOMMANDS
    quick = ("--runs=1", "--seconds=0.3") if arguments.quick else ()
    # Long enough to check every link that is there once.
    links = ("--runs=1", "--seconds=0.03") if arguments.quick else ()
    scale = ("--scale=0.02",) if arguments.quick else ()
    # Beside the tree's disk rather than in a tmpfs: syncs must cost what they cost.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tailrace-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    status = 0
    try:
        for name in TRANSPORT:
            if name in only:
                status |= run_bench(arguments, name, f"--directory={directory}", *links)
        if "engine" in only:
            status |= run_bench(arguments, "engine", *scale, *quick)
            for replica in REPLICAS:
                for workload in ("w1", "w2", "w3a", "w3b", "w4"):
                    status |= run_bench(arguments, "engine", f"--workload={workload}", *replica,
                                        *(("--scale=0.01",) if arguments.quick else ()), *quick)
        if "graph" in only:
            status |= run_bench(arguments, "graph", *scale, *quick)
        if "sql" in only:
            status |= run_sql(arguments, directory, quick)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return status


sys.exit(main())
