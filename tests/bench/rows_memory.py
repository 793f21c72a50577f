"""rows_memory.py -- what objects take from the machine, beside CPython.

bench_memory.c and memory_python.py each make a million objects of a kind, or the trace, in a fresh process, and
tell by how much its resident memory grew.  That is what allocators round up, and whatever the collector
and the allocator keep beside the objects; it is what the machine has to have.
"""
import json
import statistics
import subprocess

import peers
from report import Details
from worker import PATIENCE_S, python_path, trace_path

GOAL, STRETCH = 0.5, 0.4  # of CPython's bytes

# As the programs have them, and for people.
KINDS = [("list", "list of 2"), ("dict", "dict of 3"), ("instance", "instance of 3"), ("slots", "slots of 3"),
         ("str", "str of 10"), ("trace", "cpython-heap trace")]
PEER = "CPython"


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                          preexec_fn=peers.become_child(peers.CORES))
    if done.returncode != 0:
        raise peers.Misbehaved(f"{' '.join(command)} ended with exit code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def measure_kind(kind, what, arguments, report):
    """Adds the row; returns its line of the details."""
    size = trace_path() if kind == "trace" else str(arguments.sized(1_000_000))
    ours = [peers.need(f"{peers.PROGRAMS}/bench_memory", "make bench-programs builds it"), kind, size]
    theirs = [python_path(report), "-B", "tests/bench/memory_python.py", kind, size]
    samples = ([], [])
    counted = 0
    for number in range(arguments.rounds):
        report.progress(f"memory, {what}, round {number + 1} of {arguments.rounds}")
        for command, side in zip((ours, theirs), samples):
            grown = run(command)
            side.append(grown["resident"] / grown["objects"])
            counted = grown.get("counted", 0) / grown["objects"] or counted
    report.row("memory", title(what), PEER, "bytes each", *samples, goal=GOAL, stretch=STRETCH, share=True)
    return [what] + [f"{figure:.1f}" for figure in (counted, *map(statistics.median, samples))]


def title(what):
    return f"bytes per object, {what}"


def measure(arguments, report):
    lines = []
    for kind, what in KINDS:
        try:
            lines.append(measure_kind(kind, what, arguments, report))
        except (peers.Missing, peers.Misbehaved) as reason:
            if isinstance(reason, peers.Misbehaved):
                report.fail(str(reason))
            report.row("memory", title(what), PEER, "bytes each", str(reason), "", goal=GOAL, stretch=STRETCH,
                       share=True)
    report.details.append(Details(
        "Bytes per object in detail",
        "Of a million objects, and of all objects of the trace: by how much the resident memory of a process grew by "
        "making them, malloc_trim() before and after, divided by their number. What they refer to (small ints, interned "
        "names, classes) and the list that holds them is there before. `counted` is what heapd's own sizes add up "
        "to, the allocator's rounding included; above it are the bitmaps of allocator and collector. An object that a "
        "client has seen takes 16 bytes more for its id.",
        ["kind", "heapd, counted", "heapd, resident", "CPython, resident"], lines))
