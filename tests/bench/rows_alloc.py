"""rows_alloc.py -- the allocator of the heap beside glibc's, mimalloc and jemalloc.

One program, bench_alloc.c, runs each pattern of use with each allocator: ours as the heap uses it, inlined;
ours through functions that are called; malloc() of whichever library is preloaded.  The
sides take turns, each time in a fresh process.
"""
import ctypes.util
import os
import statistics
import subprocess

import peers
from report import Details
from worker import Worker, trace_path

GOAL, STRETCH = 1.1, 1.3
PEER = "the best of glibc, mimalloc, jemalloc"

# As bench_alloc.c has them, and for people.
PATTERNS = [("pairs", "pair of 48 bytes"), ("pairs-mixed", "pair, 16 to 512 bytes"),
            ("fill-drain", "fill and drain 1 M of 48 bytes"),
            ("fill-drain-reverse", "fill and drain in reverse"),
            ("fill-drain-shuffled", "fill and drain shuffled"),
            ("churn-2k", "churn, 16 to 512 bytes, 2 k live"),
            ("churn-200k", "churn, 16 to 512 bytes, 200 k live"),
            ("churn-2m", "churn, 32 to 96 bytes, 2 M live"),
            ("trace", "sizes of the cpython-heap trace")]

PACKAGES = {"mimalloc": "libmimalloc2.0", "jemalloc": "libjemalloc2"}  # Debian's; a library is named like its peer


def preloads():
    """What to preload for each peer: "" for the C library's own malloc, None for one that is not there."""
    found = {"glibc": ""}
    for name in PACKAGES:
        found[name] = ctypes.util.find_library(name)
    return found


def note_versions(found, report):
    report.version("glibc", os.confstr("CS_GNU_LIBC_VERSION").split()[-1])
    for name, package in PACKAGES.items():
        if found[name]:
            done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True,
                                  check=False)
            report.version(name, done.stdout or found[name])


def samples_of(pattern, what, found, arguments, report):
    """ns per operation, one figure a round, of each side."""
    program = peers.need(f"{peers.PROGRAMS}/bench_alloc", "make bench-programs builds it")
    more = [str(min(arguments.scale, 1))] + ([trace_path()] if pattern == "trace" else [])
    commands = {side: ([program, side, pattern] + more, {}) for side in ("inlined", "called")}
    for peer, library in found.items():
        if library is not None:
            commands[peer] = ([program, "malloc", pattern] + more, {"LD_PRELOAD": library} if library else {})
    samples = {side: [] for side in commands}
    for number in range(arguments.rounds):
        report.progress(f"alloc, {what}, round {number + 1} of {arguments.rounds}")
        for side, (command, environment) in commands.items():
            samples[side].append(run_once(side, command, environment, report))
    return samples


def run_once(side, command, environment, report):
    """A fresh process, since the pages that it gets make a difference of a third.  It measures three times, and the last
    one counts: at first some allocators have to get back what they gave to the kernel, and settle."""
    with Worker(command, environment) as worker:
        ns = [worker.ask("run")["ns"] for _ in range(3)][-1]
    if worker.code() != 0:
        report.fail(f"bench_alloc {side} {command[2]} ended with exit code {worker.code()}: the allocator is damaged")
    return ns


def best_of(samples, found):
    """The peer with the smallest median."""
    return min((peer for peer in found if peer in samples), key=lambda peer: statistics.median(samples[peer]))


def add_details(table, found, report):
    sides = ["inlined", "called"] + list(found)
    lines = []
    for what, samples in table.items():
        cells = [f"{statistics.median(samples[side]):.1f} [{min(samples[side]):.1f}..{max(samples[side]):.1f}]"
                 if side in samples else "not measured: not installed" for side in sides]
        lines.append([what] + cells)
    report.details.append(Details(
        "The allocators in detail",
        "ns of CPU time, the kernel's included, per operation; median [min..max]. An allocation and a free are one "
        "operation each in fill and drain; a pair is both, and so is a step of churn, which replaces a random block "
        "by one of another size. Who allocates writes the first word of the block. One program for all; malloc() "
        "and free() of the peers go through the PLT. `inlined` is how the heap uses its allocator, with "
        "the size known at free; `called` is the same through functions in another file.",
        ["pattern", "heapd inlined", "heapd called"] + list(found), lines))


def measure(arguments, report):
    found = preloads()
    note_versions(found, report)
    table = {}
    for pattern, what in PATTERNS:
        try:
            table[what] = samples_of(pattern, what, found, arguments, report)
            best = table[what][best_of(table[what], found)]
            report.row("alloc", what, PEER, "ns each", table[what]["inlined"], best, goal=GOAL, stretch=STRETCH)
        except (peers.Missing, peers.Misbehaved) as reason:
            if isinstance(reason, peers.Misbehaved):
                report.fail(str(reason))
            report.row("alloc", what, PEER, "ns each", str(reason), "", goal=GOAL, stretch=STRETCH)
    add_details(table, found, report)
