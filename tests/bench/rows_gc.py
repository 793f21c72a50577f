"""rows_gc.py -- a full collection beside CPython's gc.collect() on the same graph.

bench_gc.c and gc_python.py build the graphs, each in a process of its own that waits while the other one
works, and time the collection alone.
"""
import json
import os
import select
import statistics
import subprocess
from contextlib import ExitStack

import peers
from report import Details

SEED = 20240501
PYTHONS = ("/usr/bin/python3", "python3")
# Building a graph takes Python seconds; only a hang takes so long.
PATIENCE_S = 600

# By graph and state: goal and stretch goal of the ratio.
GOALS = {("random", "live"): (6, 8), ("random", "garbage"): (10, 15),
         ("trace", "live"): (15, 25), ("trace", "garbage"): (15, 25)}


class Collector:
    """A program that collects when told: one side of the comparison."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=peers.become_child(peers.CORES))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Its input ends, and so does it; after an error it is not waited for."""
        if exception[0] is not None:
            self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE_S)

    def answer(self):
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            raise peers.Misbehaved(f"{' '.join(self.process.args)} gave no answer")
        return json.loads(line)

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()


def trace_path():
    folder = os.environ.get("HEAPD_TEST_DATA", "../shared/data")
    return os.path.join(folder, "cpython-heap.jsonl.gz")


def python_command(report):
    """The Python to measure, whose version goes into the report."""
    for python in PYTHONS:
        try:
            path = peers.need(python, "deploy/install-deps.sh bench installs it")
        except peers.Missing as reason:
            missing = reason  # the name of the exception itself ends with its block
            continue
        printed = subprocess.run([path, "-V"], capture_output=True, text=True, check=True).stdout
        report.version("CPython", printed.split()[1])
        return path
    raise missing


def compare(graph, what, graph_arguments, arguments, report):
    """Measures one graph live and as garbage, on both sides in turn; adds its rows."""
    samples = {(side, state): [] for side in ("heapd", "CPython") for state in ("live", "garbage")}
    with ExitStack() as stack:
        if graph == "trace" and not os.path.exists(graph_arguments[-1]):
            raise peers.Missing(f"{graph_arguments[-1]} is not there")
        heapd = [peers.need(f"{peers.PROGRAMS}/bench_gc", "make bench-programs builds it")]
        python = [python_command(report), "-B", "tests/bench/gc_python.py"]
        sides = {"heapd": stack.enter_context(Collector(heapd + graph_arguments)),
                 "CPython": stack.enter_context(Collector(python + graph_arguments))}
        shapes = {side: collector.answer() for side, collector in sides.items()}
        if shapes["heapd"] != shapes["CPython"]:
            raise peers.Misbehaved(f"the two sides made different graphs of {what}: {shapes}")
        for number in range(arguments.rounds):
            report.progress(f"gc, {what}, round {number + 1} of {arguments.rounds}")
            for state in ("live", "garbage"):
                for side, collector in sides.items():
                    samples[side, state].append(collector.ask(state))
        check_found(graph, what, shapes["heapd"], samples, report)
    code = sides["heapd"].process.returncode
    if code != 0:
        report.fail(f"bench_gc ended with exit code {code} on {what}: its heap is damaged")
    add_rows(graph, what, shapes["heapd"], samples, report)


def check_found(graph, what, shape, samples, report):
    """Nothing of a live graph is unreachable; as garbage the whole random graph and its holder are.  Of the
    trace CPython finds some less, since it does not track dicts of atoms."""
    for (side, state), results in samples.items():
        found = sorted({result["unreachable"] for result in results})
        wanted = [0] if state == "live" else [shape["containers"] + 1] if graph == "random" else found[:1]
        if found != wanted:
            report.fail(f"{side}, {what}, {state}: {found} unreachable, but it must be {wanted}")


def add_rows(graph, what, shape, samples, report):
    for state in ("live", "garbage"):
        goal, stretch = GOALS[graph, state]
        def per_object(side):
            return [result["ns"] / shape["containers"] for result in samples[side, state]]
        report.row("gc", f"full collection, {what}, all {state}", "CPython", "ns", per_object("heapd"),
                   per_object("CPython"), goal=goal, stretch=stretch)


def add_missing(graph, what, reason, report):
    for state in ("live", "garbage"):
        goal, stretch = GOALS[graph, state]
        report.row("gc", f"full collection, {what}, all {state}", "CPython", "ns", reason, "",
                   goal=goal, stretch=stretch)


def add_details(report):
    rows = [row for row in report.rows if row.group == "gc" and row.results]
    lines = [[row.what.removeprefix("full collection, "), side] +
             [f"{pick(samples):.1f}" for pick in (min, statistics.median, max)]
             for row in rows for side, samples in (("heapd", row.ours), ("CPython", row.theirs))]
    report.details.append(Details(
        "The collections in detail",
        "ns for each container of the graph. Both sides build the same graph from the same arrays (compared by "
        "checksum), collect it once untimed, so that it is in the oldest generation, and are then timed, heapd "
        "through the C interface of its heap, CPython around gc.collect(); automatic collection is off. "
        "Random lists hang from one list, made first; garbage is let go as one piece that hangs from a cycle, so "
        "nothing of it dies by refcount before the collector finds it.",
        ["graph", "side", "min", "median", "max"], lines))


def measure(arguments, report):
    lists = arguments.sized(2_000_000)
    graphs = [("random", f"{lists / 1e6:g} M random lists", [str(lists), str(SEED)]),
              ("trace", "cpython-heap trace", [trace_path()])]
    for graph, what, graph_arguments in graphs:
        try:
            compare(graph, what, [graph] + graph_arguments, arguments, report)
        except peers.Missing as reason:
            add_missing(graph, what, str(reason), report)
        except peers.Misbehaved as reason:
            report.fail(str(reason))
            add_missing(graph, what, str(reason), report)
    add_details(report)
