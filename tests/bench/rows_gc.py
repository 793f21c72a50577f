"""rows_gc.py -- collections beside CPython's: full ones of the same graph, young ones of the same cycles.

bench_gc.c and gc_python.py build the graphs, each in a process of its own that waits while the other one
works, and time the collection alone; or make and drop cycles, and time all of it.
"""
import statistics
from contextlib import ExitStack

import peers
from report import Details
from worker import Worker, python_path, trace_path

SEED = 20240501
BOTH = ("live", "garbage")


class Case:
    """A graph to collect.  `arguments` is a function, since a trace may be missing; goals, by state, are a goal and a
    stretch goal of the ratio."""

    def __init__(self, what, arguments, goals, all_is_garbage):
        self.what, self.arguments, self.goals = what, arguments, goals
        self.all_is_garbage = all_is_garbage  # when it is let go; its holder too

    def title(self, state):
        return f"full collection, {self.what}, all {state}"


def random_case(arguments, count, goals):
    lists = arguments.sized(count)
    return Case(f"{lists / 1e6:g} M random lists", lambda: ["random", str(lists), str(SEED)], goals, True)


def cases(arguments):
    # Of the trace CPython finds some less garbage, since it does not track dicts of atoms.
    return [random_case(arguments, 2_000_000, {"live": (6, 8), "garbage": (10, 15)}),
            Case("cpython-heap trace", lambda: ["trace", trace_path()], {"live": (15, 25), "garbage": (15, 25)}, False),
            random_case(arguments, 10_000_000, {"live": (5, 7)})]


def commands(report):
    return {"heapd": [peers.need(f"{peers.PROGRAMS}/bench_gc", "make bench-programs builds it")],
            "CPython": [python_path(report), "-B", "tests/bench/gc_python.py"]}


def check_code(worker, what, report):
    if worker.code() != 0:
        report.fail(f"bench_gc ended with exit code {worker.code()} on {what}: its heap is damaged")


# ---- full collections ----

def compare(case, arguments, report):
    """Measures one graph live and as garbage, on both sides in turn; adds its rows."""
    samples = {(side, state): [] for side in ("heapd", "CPython") for state in case.goals}
    more = case.arguments()
    with ExitStack() as stack:
        sides = {side: stack.enter_context(Worker(command + more)) for side, command in commands(report).items()}
        shapes = {side: collector.answer() for side, collector in sides.items()}
        if shapes["heapd"] != shapes["CPython"]:
            raise peers.Misbehaved(f"the two sides made different graphs of {case.what}: {shapes}")
        for number in range(arguments.rounds):
            report.progress(f"gc, {case.what}, round {number + 1} of {arguments.rounds}")
            for state in case.goals:
                for side, collector in sides.items():
                    samples[side, state].append(collector.ask(state))
        check_found(case, shapes["heapd"], samples, report)
    check_code(sides["heapd"], case.what, report)
    add_rows(case, shapes["heapd"], samples, report)


def check_found(case, shape, samples, report):
    """Nothing of a live graph is unreachable; of one that was let go always the same, mostly all."""
    for (side, state), results in samples.items():
        found = sorted({result["unreachable"] for result in results})
        wanted = [0] if state == "live" else [shape["containers"] + 1] if case.all_is_garbage else found[:1]
        if found != wanted:
            report.fail(f"{side}, {case.what}, {state}: {found} unreachable, but it must be {wanted}")


def add_rows(case, shape, samples, report):
    for state, (goal, stretch) in case.goals.items():
        def per_object(side):
            return [result["ns"] / shape["containers"] for result in samples[side, state]]
        report.row("gc", case.title(state), "CPython", "ns each", per_object("heapd"), per_object("CPython"), goal=goal,
                   stretch=stretch)


def add_missing(case, reason, report):
    for state, (goal, stretch) in case.goals.items():
        report.row("gc", case.title(state), "CPython", "ns each", reason, "", goal=goal, stretch=stretch)


# ---- young collections ----

YOUNG = "young collections: self-cycles made and dropped, automatic at 700/10/10"
YOUNG_GOALS = (4, 6)


def measure_young(arguments, report):
    count = arguments.sized(10_000_000)
    samples = {"heapd": [], "CPython": []}
    with ExitStack() as stack:
        sides = {side: stack.enter_context(Worker(command + ["young"])) for side, command in commands(report).items()}
        for number in range(arguments.rounds):
            report.progress(f"gc, young, round {number + 1} of {arguments.rounds}")
            for side, worker in sides.items():
                samples[side].append(worker.ask(str(count))["ns"] / count)
    check_code(sides["heapd"], "young collections", report)
    report.row("gc", YOUNG, "CPython", "ns each", *samples.values(), goal=YOUNG_GOALS[0], stretch=YOUNG_GOALS[1])


def try_young(arguments, report):
    try:
        measure_young(arguments, report)
    except (peers.Missing, peers.Misbehaved) as reason:
        if isinstance(reason, peers.Misbehaved):
            report.fail(str(reason))
        report.row("gc", YOUNG, "CPython", "ns each", str(reason), "", goal=YOUNG_GOALS[0], stretch=YOUNG_GOALS[1])


# ---- all ----

def add_details(report):
    rows = [row for row in report.rows if row.group == "gc" and row.results]
    lines = [[row.what.removeprefix("full collection, "), side] +
             [f"{pick(samples):.1f}" for pick in (min, statistics.median, max)]
             for row in rows for side, samples in (("heapd", row.ours), ("CPython", row.theirs))]
    report.details.append(Details(
        "The collections in detail",
        "ns of CPU time for each container of the graph, or each cycle. Both sides build the same graph from the same "
        "arrays (compared by checksum), collect it once untimed, so that it is in the oldest generation, and are then "
        "timed, heapd through the C interface of its heap, CPython around gc.collect(); automatic collection is off. "
        "Random lists hang from one list, made first; garbage is let go as one piece that hangs from a cycle, so "
        "nothing of it dies by refcount before the collector finds it. A self-cycle is a list that is appended to itself "
        "and let go, in heapd through the C interface, in CPython by a loop of two statements, which is part of what "
        "is measured; collections are automatic.",
        ["graph", "side", "min", "median", "max"], lines))


def measure(arguments, report):
    for case in cases(arguments):
        try:
            compare(case, arguments, report)
        except peers.Missing as reason:
            add_missing(case, str(reason), report)
        except peers.Misbehaved as reason:
            report.fail(str(reason))
            add_missing(case, str(reason), report)
    try_young(arguments, report)
    add_details(report)
