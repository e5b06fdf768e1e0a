"""What tailrace-bench says: --json is JSON whose figures have their fields, --plot writes an SVG.

usage: test_report.py TAILRACE_BENCH

One case of a link and one workload of the engine, as short as they come: not what was measured is
looked at, but what is said of it.
"""
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

RING = ("ring", "--link", "shm", "--case", "there and back, both spinning")
ENGINE = ("engine", "--workload", "w1", "--scale", "0.0005")
SHORT = ("--runs", "2", "--seconds", "0.01")
SVG = "{http://www.w3.org/2000/svg}svg"


def run(bench, *arguments):
    done = subprocess.run([bench, *arguments, *SHORT], capture_output=True, text=True, check=False,
                          timeout=120)
    assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def check_figure(figure):
    for field in ("group", "case", "metric"):
        assert isinstance(figure[field], str) and figure[field], figure
    if "text" in figure:
        assert isinstance(figure["text"], str) and "median" not in figure, figure
        return
    assert all(math.isfinite(figure[field]) for field in ("min", "median", "max")), figure
    assert figure["min"] <= figure["median"] <= figure["max"], figure
    assert figure["runs"] in (1, 2), figure
    if "goal" in figure:
        assert figure["goal"].split()[0] in ("<=", ">="), figure
        assert isinstance(figure["met"], bool), figure


def check_json(bench, arguments, case, metrics):
    report = json.loads(run(bench, *arguments, "--json"))
    assert report["title"].startswith(arguments[0]) and report["correct"] is True, report
    assert report["machine"]["cpus"] >= 1 and report["machine"]["load"] >= 0, report["machine"]
    assert report["machine"]["cpu"] and report["machine"]["kernel"], report["machine"]
    for figure in report["figures"]:
        check_figure(figure)
    said = {f["metric"]: f for f in report["figures"] if f["case"] == case}
    for metric in metrics:
        assert said[metric]["runs"] == 2 and said[metric]["median"] > 0, (metric, said)


def check_plot(bench, arguments):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "plot.svg"
        run(bench, *arguments, "--plot", str(path))
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == SVG and len(list(root.iter())) > 100, root.tag


def check_failed_plot(bench, arguments):
    """A plot that cannot be written is said on stderr, in the report and by the exit code."""
    done = subprocess.run([bench, *arguments, *SHORT, "--json", "--plot", "/nowhere/plot.svg"],
                          capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "/nowhere/plot.svg" in done.stderr, done
    assert json.loads(done.stdout)["correct"] is False, done.stdout


def main():
    bench = sys.argv[1]
    check_json(bench, RING, "shm", ("p50 us", "p99 us", "max us", "CPU s/M msg"))
    check_json(bench, ENGINE, "w1 count, load 10k", ("M updates/s", "loop M/s", "p50 us"))
    if shutil.which("gnuplot") is not None:
        check_plot(bench, RING)
        check_plot(bench, ENGINE)
    check_failed_plot(bench, ENGINE)
    print("bench reports: as they should be")


main()
