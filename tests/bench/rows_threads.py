"""rows_threads.py -- throughput with 1, 2 and 4 I/O threads, with tail latency and the statistics of the GIL.

Here the servers have all cores, the load program's too: how threads share these with each other and with their
clients is what is measured.  The number that the daemon takes by itself must be the best of them.
"""
import statistics
from contextlib import ExitStack

import peers
import rows_wire
from report import Details

THREADS = (1, 2, 4)
DEPTHS = (1, 16)
GIL_FIELDS = ("acquisitions", "contended", "drop_requests", "forced_switches")


class ThreadedHeapd(peers.Heapd):
    """heapd with so many I/O threads, on all cores."""

    cores = peers.CORES

    def __init__(self, threads):
        super().__init__("--threads", str(threads))
        self.name = f"heapd-{threads}"


def default_threads():
    with peers.Heapd() as server, peers.Session(server) as session:
        return int(session.call("server.config")["threads"])


def gil(session):
    return session.call("stats", section="gil")


def measure_one(session, server, depth, seconds):
    """The figures of a load, with what the GIL did meanwhile."""
    before = gil(session)
    figures = peers.load(server, [rows_wire.incr_exchange()], depth, seconds)
    after = gil(session)
    for field in GIL_FIELDS:
        figures[field] = after[field] - before[field]
    figures["wait_p99_us"], figures["hold_p99_us"] = after["wait"]["p99_us"], after["hold"]["p99_us"]
    return figures


def line(threads, depth, rounds):
    def middle(field):
        return statistics.median(round_[field] for round_ in rounds)
    share = 100 * middle("contended") / max(middle("acquisitions"), 1)
    return [str(threads), str(depth)] + \
           [f"{middle(field):.0f}" for field in ("rate", "p50_us", "p99_us", "p999_us", "server_cpu_ns",
                                                 "acquisitions")] + \
           [f"{share:.1f} %"] + [f"{middle(field):.0f}" for field in ("forced_switches", "hold_p99_us", "wait_p99_us")]


def measure(arguments, report):
    default = default_threads()
    figures = {(threads, depth): [] for threads in THREADS for depth in DEPTHS}
    with ExitStack() as stack:
        servers = {threads: stack.enter_context(ThreadedHeapd(threads)) for threads in THREADS}
        sessions = {threads: stack.enter_context(peers.Session(server)) for threads, server in servers.items()}
        for session in sessions.values():
            session.call("create", value={}, name="counters")
        for number in range(arguments.rounds):
            report.progress(f"threads, round {number + 1} of {arguments.rounds}")
            for threads, depth in figures:
                figures[threads, depth].append(
                    measure_one(sessions[threads], servers[threads], depth, arguments.seconds))
    add_rows(figures, default, report)


def add_rows(figures, default, report):
    def rates(threads, depth):
        return [round_["rate"] for round_ in figures[threads, depth]]
    def plural(threads):
        return "1 I/O thread" if threads == 1 else f"{threads} I/O threads"
    base = default if default in THREADS else THREADS[0]
    for depth in DEPTHS:
        for threads in THREADS:
            if threads != base:
                report.row("threads", f"heapd with {plural(base)}{' (the default)' if base == default else ''}, "
                           f"pipeline {depth}", plural(threads), "/s", rates(base, depth), rates(threads, depth),
                           goal=1 if base == default else None)
    totals = {threads: sum(statistics.median(rates(threads, depth)) / statistics.median(rates(base, depth))
                           for depth in DEPTHS) for threads in THREADS}
    best = max(totals, key=totals.get)
    report.details.append(Details(
        "I/O threads in detail",
        f"50 connections; the servers have all {len(peers.CORES)} cores. On this machine the daemon takes "
        f"{plural(default)} by itself; {plural(best)} had the best throughput over both depths. The GIL's figures "
        "are those of the measurement, its percentiles those of the daemon's life.",
        ["threads", "pipeline", "requests/s", "p50 us", "p99 us", "p99.9 us", "CPU ns/request", "GIL taken", "contended",
         "forced switches", "hold p99 us", "wait p99 us"],
        [line(threads, depth, rounds) for (threads, depth), rounds in figures.items()]))
