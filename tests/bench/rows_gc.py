"""rows_gc.py -- a full collection beside CPython's gc.collect() on the same graph.

bench_gc.c and gc_python.py build the graphs, each in a process of its own that waits while the other one
works, and time the collection alone.
"""
import statistics
from contextlib import ExitStack

import peers
from report import Details
from worker import Worker, python_path, trace_path

SEED = 20240501
# By graph and state: goal and stretch goal of the ratio.
GOALS = {("random", "live"): (6, 8), ("random", "garbage"): (10, 15),
         ("trace", "live"): (15, 25), ("trace", "garbage"): (15, 25)}


def compare(graph, what, graph_arguments, arguments, report):
    """Measures one graph live and as garbage, on both sides in turn; adds its rows."""
    samples = {(side, state): [] for side in ("heapd", "CPython") for state in ("live", "garbage")}
    with ExitStack() as stack:
        heapd = [peers.need(f"{peers.PROGRAMS}/bench_gc", "make bench-programs builds it")]
        python = [python_path(report), "-B", "tests/bench/gc_python.py"]
        sides = {"heapd": stack.enter_context(Worker(heapd + graph_arguments)),
                 "CPython": stack.enter_context(Worker(python + graph_arguments))}
        shapes = {side: collector.answer() for side, collector in sides.items()}
        if shapes["heapd"] != shapes["CPython"]:
            raise peers.Misbehaved(f"the two sides made different graphs of {what}: {shapes}")
        for number in range(arguments.rounds):
            report.progress(f"gc, {what}, round {number + 1} of {arguments.rounds}")
            for state in ("live", "garbage"):
                for side, collector in sides.items():
                    samples[side, state].append(collector.ask(state))
        check_found(graph, what, shapes["heapd"], samples, report)
    code = sides["heapd"].code()
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
    graphs = [("random", f"{lists / 1e6:g} M random lists", lambda: [str(lists), str(SEED)]),
              ("trace", "cpython-heap trace", lambda: [trace_path()])]
    for graph, what, graph_arguments in graphs:
        try:
            compare(graph, what, [graph] + graph_arguments(), arguments, report)
        except peers.Missing as reason:
            add_missing(graph, what, str(reason), report)
        except peers.Misbehaved as reason:
            report.fail(str(reason))
            add_missing(graph, what, str(reason), report)
    add_details(report)
