"""Starts and stops a whole environment for the quickstart and the end-to-end tests."""
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import psycopg2


def free_port(wanted=0):
    """A port that can be bound now: the wanted one if possible. Below the range from which the
    kernel takes source ports: a client that keeps connecting to a port nobody listens on would
    else meet itself there, and hold it."""
    candidates = [wanted] if wanted else []
    for port in candidates + random.sample(range(10000, 20000), 200):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def free_port_range(count):
    """The first of `count` consecutive free ports."""
    for start in random.sample(range(20000, 32000, count), 100):
        try:
            held = []
            for port in range(start, start + count):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", port))
            return start
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no free range of ports")


class Environment:
    """environmentd with everything it starts, in one directory."""

    def __init__(self, binaries, directory, *flags, sql_port=0, http_port=0):
        self.binaries = pathlib.Path(binaries).resolve()
        self.directory = pathlib.Path(directory).resolve()
        self.flags = list(flags)
        self.sql_port = free_port(sql_port)
        self.http_port = free_port(http_port)
        self.base_port = free_port_range(40)
        self.process = None

    def command(self):
        return [str(self.binaries / "environmentd"),
                f"--data-directory={self.directory}",
                f"--sql-listen-addr=127.0.0.1:{self.sql_port}",
                f"--http-listen-addr=127.0.0.1:{self.http_port}",
                f"--orchestrator-process-base-service-port={self.base_port}",
                *self.flags]

    def start(self, timeout=60):
        self.directory.mkdir(parents=True, exist_ok=True)
        log = open(self.directory / "environmentd.log", "ab")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log, start_new_session=True)
        log.close()
        self.wait_ready(timeout)

    def wait_ready(self, timeout=60):
        """Until /api/readyz says yes; raises with the log's end when environmentd dies."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"environmentd exited with {self.process.returncode}:\n"
                                   + self.log_tail())
            try:
                url = f"http://127.0.0.1:{self.http_port}/api/readyz"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)
        raise RuntimeError("the environment does not become ready:\n" + self.log_tail())

    def log_tail(self, lines=30):
        try:
            text = (self.directory / "environmentd.log").read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.split("\n")[-lines:])

    def connect(self, autocommit=True):
        connection = psycopg2.connect(host="127.0.0.1", port=self.sql_port, user="tailrace",
                                      dbname="tailrace", sslmode="prefer", connect_timeout=20)
        connection.autocommit = autocommit
        return connection

    def services(self):
        """Process ids of this environment's storaged and computed processes, by name."""
        found = []
        mark = str(self.directory).encode()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as f:
                    arguments = f.read().split(b"\0")
                with open(f"/proc/{entry.name}/stat", "rb") as f:
                    state = f.read().rsplit(b")", 1)[1].split()[0]
            except OSError:
                continue
            name = arguments[0].rsplit(b"/", 1)[-1].decode()
            ours = any(mark in argument for argument in arguments)
            if name in ("storaged", "computed") and ours and state != b"Z":
                found.append((name, int(entry.name)))
        return sorted(found)

    def kill(self):
        """kill -9 of environmentd alone: what it started lives on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, timeout=30):
        """Orderly: environmentd first, then whatever of its services is left."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("environmentd did not stop:\n" + self.log_tail()) from None
            self.process = None
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            while self.services() and time.monotonic() < deadline:
                for _, pid in self.services():
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
                time.sleep(0.1)


def poll(what, check, timeout=60, interval=0.02):
    """Waits until check() returns something true, and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise RuntimeError(f"timed out waiting for {what}")
        time.sleep(interval)
