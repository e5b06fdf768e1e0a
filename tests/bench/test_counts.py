"""Instructions and system calls per message of our links, held against bounds that are committed.

usage: test_counts.py TAILRACE_BENCH [--update] [--only TEXT]

tailrace-bench count runs both sides of a case on one loop in one process: nobody waits for anybody,
so the numbers of a run are those of the next, on any machine with the same compiler. Each case runs
with n and with 3 n messages, once under callgrind and once under strace; a message costs what the
longer run took more, divided by 2 n. --update writes what was measured as the new bounds.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

BOUNDS = pathlib.Path(__file__).with_name("counts.json")
MESSAGES = 20000
ROOM = 1.15  # compilers differ a little
SLACK = {"instructions": 5, "syscalls": 0.02}  # beside the room, for figures near zero


def run(bench, case, messages, *prefix):
    command = [*prefix, bench, "count", "--link", case["link"], "--case", case["case"],
               "--messages", str(messages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stderr


def instructions(bench, case, messages):
    with tempfile.TemporaryDirectory() as directory:
        text = run(bench, case, messages, "valgrind", "--tool=callgrind",
                   f"--callgrind-out-file={directory}/out")
    return int(re.search(r"Collected : (\d+)", text).group(1))


def syscalls(bench, case, messages):
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "out"
        run(bench, case, messages, "strace", "-f", "-c", "-o", str(out))
        total = re.search(r"^100\.00\s.*?(\d+)(?:\s+\d+)?\s+total$", out.read_text(), re.M)
    return int(total.group(1))


def per_message(count, bench, case):
    few, many = count(bench, case, MESSAGES), count(bench, case, 3 * MESSAGES)
    return max(0, many - few) / (2 * MESSAGES)


def measure(bench, case):
    figures = {"instructions": round(per_message(instructions, bench, case), 1)}
    if can_trace():
        figures["syscalls"] = round(per_message(syscalls, bench, case), 4)
    return figures


def can_trace():
    """strace needs ptrace, which containers may forbid."""
    return shutil.which("strace") is not None and subprocess.run(
        ["strace", "-c", "-o", "/dev/null", "true"], capture_output=True, check=False
    ).returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    cases = json.loads(BOUNDS.read_text())
    failed = 0
    for case in cases:
        name = f"{case['link']}, {case['case']}"
        if arguments.only not in name:
            continue
        measured = measure(arguments.bench, case)
        for what, value in measured.items():
            bound = case.get(what, 0)
            good = arguments.update or value <= bound * ROOM + SLACK[what]
            failed += not good
            print(f"{'ok ' if good else 'BAD'} {name}: {value:g} {what} a message "
                  f"(recorded: {bound:g})", flush=True)
        case.update(measured)
    if arguments.update:
        BOUNDS.write_text("[\n" + ",\n".join(f"  {json.dumps(c)}" for c in cases) + "\n]\n")
    return 1 if failed else 0


sys.exit(main())
