"""rows_connections.py -- throughput with few and with very many connections, beside the bare echo and Redis.

Every connection has one request in flight.  The servers and the load program may open as many files as the hard
limit allows; where that is too few for a row, the row says so.
"""
import statistics
from contextlib import ExitStack

import peers
import rows_wire
from report import Details

COUNTS = (50, 1000, 10_000)
FILES_BESIDE = 200  # that a server has open, connections left aside
GOAL_ECHO, GOAL_REDIS = 0.85, 1


def start(stack, report):
    """Servers with what they are asked, by name, or the reason why one is not there."""
    found = {}
    for name, kind, exchange in (("heapd", peers.Heapd, rows_wire.incr_exchange()),
                                 ("redis", peers.Redis, (rows_wire.REDIS_INCR, ":")),
                                 ("echo", peers.Echo, (rows_wire.INCR + "\n", rows_wire.INCR))):
        try:
            found[name] = (stack.enter_context(kind()), exchange)
        except peers.Missing as reason:
            found[name] = str(reason)
            continue
        report.version("libuv" if name == "echo" else name, found[name][0].version)
    with peers.Session(found["heapd"][0]) as session:
        session.call("create", value={}, name="counters")
    return found


def measure_count(connections, subjects, arguments, report):
    """Figures by name: one a round, or a reason."""
    if peers.FILES < connections + FILES_BESIDE:
        reason = f"a process may open only {peers.FILES} files here (ulimit -Hn)"
        report.progress(f"connections, {connections} skipped: {reason}")
        return {name: reason for name in subjects}
    figures = {name: subject if isinstance(subject, str) else [] for name, subject in subjects.items()}
    for number in range(arguments.rounds):
        report.progress(f"connections, {connections}, round {number + 1} of {arguments.rounds}")
        for name, subject in subjects.items():
            if isinstance(figures[name], str):
                continue
            server, exchange = subject
            try:
                figures[name].append(peers.load(server, [exchange], 1, arguments.seconds, connections))
            except peers.Misbehaved as reason:
                report.fail(str(reason))
                figures[name] = str(reason)
    return figures


def rates(figures):
    return figures if isinstance(figures, str) else [round_["rate"] for round_ in figures]


def measure(arguments, report):
    lines = []
    with ExitStack() as stack:
        subjects = start(stack, report)
        for count in COUNTS:
            connections = count if not arguments.smoke else min(count, 200)
            figures = measure_count(connections, subjects, arguments, report)
            what = f"dict.incr, {count:,} connections"
            report.row("connections", what, "bare libuv echo", "/s", rates(figures["heapd"]), rates(figures["echo"]),
                       goal=GOAL_ECHO)
            report.row("connections", what, "redis INCR", "/s", rates(figures["heapd"]), rates(figures["redis"]),
                       goal=GOAL_REDIS)
            for name, rounds in figures.items():
                if not isinstance(rounds, str):
                    lines.append([name, f"{count:,}"] + [f"{statistics.median(round_[field] for round_ in rounds):.0f}"
                                 for field in ("rate", "p50_us", "p99_us", "p999_us", "server_cpu_ns")])
    report.details.append(Details(
        "Connections in detail", "One request in flight on each connection; medians of the rounds.",
        ["server", "connections", "requests/s", "p50 us", "p99 us", "p99.9 us", "CPU ns/request"], lines))
