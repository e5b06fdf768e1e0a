#!/usr/bin/python3
"""Nexmark's queries through planner and engine, and DuckDB over the same stream: equal answers.

usage: test_nexmark.py TAILRACE-BENCH WORK-FOLDER

DuckDB comes from npm, as package-lock.json pins it, into WORK-FOLDER, where it stays.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCALE = "0.1"  # 100,000 events: how many rows each answer has is known there


def install(work):
    """npm install, unless it was done for this lock file."""
    work.mkdir(parents=True, exist_ok=True)
    lock = work / "package-lock.json"
    done = work / "installed"
    if done.exists() and lock.read_bytes() == (HERE / "package-lock.json").read_bytes():
        return
    done.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, work / name)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=work,
                   check=True)
    done.touch()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bench, work = sys.argv[1], pathlib.Path(sys.argv[2])
    install(work)
    shutil.copy(HERE / "check.mjs", work / "check.mjs")
    with tempfile.TemporaryDirectory(prefix="tailrace-nexmark-") as answers:
        subprocess.run([bench, "nexmark", "--scale", SCALE, "--runs", "1", "--answers", answers],
                       check=True)
        subprocess.run(["node", str(work / "check.mjs"), str(ROOT / "bench/nexmark/sql"), answers],
                       check=True)


if __name__ == "__main__":
    main()
