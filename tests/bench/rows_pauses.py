"""rows_pauses.py -- for how long the collector, a death, or a growing table holds the GIL: CPU time of each hold.

bench_pause.c measures the heap through its own interface; nothing else runs in its process.  What passes through
the whole daemon is measured in build/tests/bench/bench_heapd, which is heapd with a clock around each hold of the
GIL (hold_clock.c).
"""
import json
import statistics
import subprocess

import holds
import peers
import plot
import rows_values
from figures import figure
from report import Details
from worker import Worker, python_path

MS = 1_000_000
GOAL, STRETCH = MS, MS // 2
SIZES = (1_000_000, 5_000_000, 10_000_000)
# What bench_pause is told, how many objects, and what the row says.
SUBJECTS = [("live", size, "full collection, {} live") for size in SIZES] + \
           [("garbage", size, "full collection, {} garbage") for size in SIZES] + \
           [("unref", 5_000_000, "unref of a tree of {}"),
            ("session", 1_000_000, "end of a session with {} holds"),
            ("dict", 10_000_000, "growth of a dict to {} entries"),
            ("names", 10_000_000, "growth of the namespace to {} names"),
            ("holds", 10_000_000, "growth of ids and holds to {}")]
GROWING = ("dict", "names", "holds")
HEADINGS = ["what", "holds", "CPU, all", "p50", "p99", "p99.9", "max", "max by the wall clock"]


def count_text(count):
    return f"{count / 1e6:g} M"


def run(what, count, rounds):
    """One dict a round, then the counters of the slices."""
    command = [peers.need(f"{peers.PROGRAMS}/bench_pause", "make bench-programs builds it"), what, str(count),
               str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800,
                          preexec_fn=peers.become_child(peers.SERVER_CORES))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(lines) != rounds + 1:
        raise peers.Misbehaved(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[:500]}")
    return lines[:-1], lines[-1]


def measure_heap(arguments, report):
    """The rows of bench_pause; returns lines for the table below."""
    lines, counters = [], []
    for what, full, text in SUBJECTS:
        count = arguments.sized(full)
        name = text.format(count_text(count))
        report.progress(f"pauses, {name}")
        rounds = min(arguments.rounds, 3) if full == 10_000_000 and what != "live" else arguments.rounds
        try:
            figures, slices = run(what, count, rounds)
        except peers.Misbehaved as reason:
            report.fail(str(reason))
            report.limit("pauses", name, "ns", str(reason), GOAL, STRETCH)
            continue
        counters.append(slices)
        report.limit("pauses", name, "ns", [round_["p999_ns"] for round_ in figures], GOAL, STRETCH)
        if what in GROWING:  # holds in which it grows are one in thousands
            report.limit("pauses", f"{name}, the longest hold", "ns", [round_["max_ns"] for round_ in figures], GOAL)
        lines.append(line(name, figures))
    add_counters(counters, report)
    return lines


def line(name, figures):
    """Of the detailed table: medians of the rounds, the worst maximum."""
    def middle(field):
        return figure([round_[field] for round_ in figures], "ns")
    def worst(field):
        return figure([max(round_[field] for round_ in figures)], "ns")
    holds = statistics.median(round_["holds"] for round_ in figures)
    return [name, f"{holds:.0f}"] + [middle(field) for field in ("cpu_ns", "p50_ns", "p99_ns", "p999_ns")] + \
           [worst("max_ns"), worst("wall_max_ns") if "wall_max_ns" in figures[0] else ""]


def add_counters(counters, report):
    for field, what, most in (("slice_objects_max", "objects between two looks at the clock", 64),
                              ("slice_refs_max", "references between two looks at the clock", 4096)):
        if counters:
            report.limit("pauses", what, "", [max(slices[field] for slices in counters)], most)


# ---- through the daemon ----

def two_megabytes(arguments):
    """A JSON text of records, of about that size."""
    count = arguments.sized(2_000_000) // 80
    records = [{"id": 100_000 + i, "name": f"record number {i}", "tags": ["a", f"tag-{i % 7}"], "score": i / 7}
               for i in range(count)]
    return json.dumps(records, separators=(",", ":")).encode()


def measure_daemon(arguments, report):
    """Creates and gets a large value again and again; the holds of these alone count."""
    text = two_megabytes(arguments)
    samples = {"create": [], "get": []}
    with holds.Heapd() as server:
        wire = rows_values.Wire(server)
        create = rows_values.create_request(text)
        for number in range(arguments.rounds):
            counts = {what: [0] * holds.BUCKETS for what in samples}
            for _ in range(1 if arguments.smoke else 30):
                before = server.counts()
                made, _ = wire.call(create)
                counts["create"] = add(counts["create"], server.since(before))
                before = server.counts()
                wire.call(rows_values.request("get", object=made["object"], depth=-1))
                counts["get"] = add(counts["get"], server.since(before))
                wire.call(rows_values.request("unref", object=made["object"]))
            report.progress(f"pauses, create and get, round {number + 1} of {arguments.rounds}")
            for what, list_ in samples.items():
                list_.append(figures_of(counts[what]))
        wire.close()
    lines = []
    for what, figures in samples.items():
        name = f"{what} of {len(text) / 1e6:.1f} MB"
        report.limit("pauses", name, "ns", [round_["p999_ns"] for round_ in figures], GOAL, STRETCH)
        lines.append(line(name, figures))
    return lines


def add(one, other):
    return [a + b for a, b in zip(one, other)]


def figures_of(counts):
    """As bench_pause prints them; the sum and the maximum are those of the buckets' upper edges."""
    edges = [(count, holds.bucket_edge(bucket)) for bucket, count in enumerate(counts) if count]
    found = {f"p{name}_ns": holds.quantile(counts, share) for name, share in (("50", .5), ("99", .99), ("999", .999))}
    return {**found, "holds": sum(counts), "cpu_ns": sum(count * edge for count, edge in edges),
            "max_ns": max(edge for _, edge in edges)}


# ---- the plot ----

PLOT_SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
PYTHON_SIZES = PLOT_SIZES[:-2]  # building the graph takes Python a second a million


def draw(arguments, report):
    """Pause against heap size, one round each."""
    report.progress("pauses, plot")
    heapd = [(count, run("live", count, 1)[0][0]) for count in map(arguments.sized, PLOT_SIZES)]
    curves = [("heapd, p99.9 of holds", [(count, figures["p999_ns"] / MS) for count, figures in heapd]),
              ("heapd, longest hold", [(count, figures["max_ns"] / MS) for count, figures in heapd])]
    try:
        curves.append(("CPython, gc.collect()", list(python_pauses(arguments, report))))
    except peers.Missing as reason:
        report.note(f"the plot of pauses has no CPython: {reason}")
    plot.draw(report, "pause", "Pause of a full collection, all live", ("objects in the heap", "ms of CPU time"),
              curves, logscale="xy")


def python_pauses(arguments, report):
    """(objects, ms) of one gc.collect() each."""
    for count in map(arguments.sized, PYTHON_SIZES):
        command = [python_path(report), "-B", "tests/bench/gc_python.py", "random", str(count), "1"]
        with Worker(command) as python:
            python.answer()
            yield count, python.ask("live")["ns"] / MS


def measure(arguments, report):
    lines = measure_heap(arguments, report)
    lines += measure_daemon(arguments, report)
    report.details.append(Details(
        "Holds of the GIL in detail",
        "CPU time of each hold: of the call that begins a collection or a death, and of each slice after it; of a "
        "growing table 16 operations; of create and get what the daemon holds from taking the GIL to "
        "letting it go. Medians of the rounds; max is the worst of all. The wall clock has what the machine took "
        "away meanwhile in it.", HEADINGS, lines))
    draw(arguments, report)
