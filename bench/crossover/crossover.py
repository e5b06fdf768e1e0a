#!/usr/bin/python3
"""From which size of a batch on would recomputing everything have been faster?

usage: crossover.py TAILRACE-BENCH WORK-FOLDER [--plot FILE.svg] [--runs N]

Edges are counted per node (degrees, 1M nodes and 5M edges): Tailrace keeps the counts up to date,
batch by batch (tailrace-bench engine --workload degrees); DuckDB counts all edges again after each
batch, which takes as long whatever the batch is. DuckDB comes from npm, as tests/nexmark pins it.
"""
import argparse
import json
import math
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests/nexmark"))
import test_nexmark  # noqa: E402 (its install)

NODES, EDGES = 1_000_000, 5_000_000
UNITS = {"k": 1_000, "M": 1_000_000, "": 1}


def maintained(bench, runs):
    """Milliseconds a batch, by its number of updates: a pair is an insertion and a deletion."""
    out = subprocess.run([bench, "engine", "--workload", "degrees", "--runs", str(runs),
                          "--seconds", "0.2", "--json"], check=True, capture_output=True, text=True)
    figures = json.loads(out.stdout)["figures"]
    found = {}
    for figure in figures:
        case = re.search(r"pairs of (\d+)([kM]?)$", figure["case"])
        if case and figure["metric"] == "p50 us":
            updates = 2 * int(case[1]) * UNITS[case[2]]
            found[updates] = figure["median"] / 1e3
    return found


def recomputed(work, rounds):
    test_nexmark.install(work)
    shutil.copy(HERE / "crossover.mjs", work / "crossover.mjs")
    out = subprocess.run(["node", str(work / "crossover.mjs"), str(NODES), str(EDGES), str(rounds)],
                         check=True, capture_output=True, text=True)
    return {name: statistics.median(times) for name, times in json.loads(out.stdout).items()}


def crossing(ours, theirs):
    """The batch at which the lines meet, between the two measured ones around it; None: nowhere."""
    points = sorted(ours.items())
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if y0 <= theirs < y1:
            share = math.log(theirs / y0) / math.log(y1 / y0)
            return math.exp(math.log(x0) + share * math.log(x1 / x0))
    return None


def svg(ours, theirs):
    """Both axes logarithmic: the batch as a share of the edges, and milliseconds a batch."""
    width, height, left, top = 560, 320, 60, 20
    xs = [x / EDGES for x in ours]
    ys = list(ours.values()) + list(theirs.values())
    x_low, x_high = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
    y_low, y_high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def at(x, y):
        return (left + (math.log10(x) - x_low) / (x_high - x_low) * (width - left - 20),
                height - 40 - (math.log10(y) - y_low) / (y_high - y_low) * (height - 40 - top))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" '
             'fill="white"/>']
    for e in range(x_low, x_high + 1):
        x, y = at(10 ** e, 10 ** y_low)
        parts.append(f'<path d="M{x:.0f} {top}V{y:.0f}" stroke="#ddd"/>'
                     f'<text x="{x:.0f}" y="{y + 14:.0f}" text-anchor="middle">'
                     f'{10 ** e * 100:g} %</text>')
    for e in range(y_low, y_high + 1):
        x, y = at(10 ** x_low, 10 ** e)
        parts.append(f'<path d="M{x:.0f} {y:.0f}H{width - 20}" stroke="#ddd"/>'
                     f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{10 ** e:g} ms'
                     '</text>')
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(b / EDGES, t)
                                                      for b, t in sorted(ours.items())))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#0a58ca" stroke-width="2"/>')
    for name, colour in (("one", "#b02a37"), ("all", "#e08a00")):
        x0, y = at(10 ** x_low, theirs[name])
        label = "DuckDB, one thread" if name == "one" else "DuckDB, all threads"
        parts.append(f'<path d="M{x0:.0f} {y:.1f}H{width - 20}" stroke="{colour}" '
                     f'stroke-width="2"/><text x="{x0 + 8:.0f}" '
                     f'y="{y + (-5 if name == "one" else 13):.0f}" fill="{colour}">{label}</text>')
    parts.append(f'<text x="{width - 24}" y="{height - 60}" text-anchor="end" fill="#0a58ca">'
                 'Tailrace, one worker</text>'
                 f'<text x="{width / 2:.0f}" y="{height - 6}" text-anchor="middle">'
                 'updates of a batch, as a share of the 5M edges</text></svg>')
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ours = maintained(options.bench, options.runs)
    theirs = recomputed(options.work, 5)
    for batch, ms in sorted(ours.items()):
        print(f"{batch:>9} updates ({batch / EDGES:8.4%} of the edges): {ms:10.4f} ms")
    for name, ms in theirs.items():
        cross = crossing(ours, ms)
        where = f"{cross / EDGES:.2%} of the edges" if cross else "nowhere measured"
        print(f"DuckDB, {name} thread{'' if name == 'one' else 's'}: {ms:.1f} ms a recomputation; "
              f"the lines cross at {where}")
    if options.plot:
        options.plot.write_text(svg(ours, theirs))


if __name__ == "__main__":
    main()
