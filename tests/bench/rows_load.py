"""rows_load.py -- latency against load: requests come at a fixed rate, whether the server keeps up or not.

The rates are shares of what heapd and Redis reach at most, taken as the mean of the two, so that both are measured at
the same points up to where they saturate.  A request's latency counts from when it was due.
"""
import statistics
from contextlib import ExitStack

import peers
import plot
import rows_wire
from report import Details

SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HALF = 0.5
ROUNDS_MAX = 3
CONNECTIONS = 50


def start(stack, report):
    found = {}
    for name, kind, exchange in (("heapd", peers.Heapd, rows_wire.incr_exchange()),
                                 ("redis", peers.Redis, (rows_wire.REDIS_INCR, ":"))):
        found[name] = (stack.enter_context(kind()), exchange)
        report.version(name, found[name][0].version)
    with peers.Session(found["heapd"][0]) as session:
        session.call("create", value={}, name="counters")
    return found


def measure(arguments, report):
    rounds = min(arguments.rounds, ROUNDS_MAX)
    with ExitStack() as stack:
        subjects = start(stack, report)
        top = statistics.mean(peers.load(server, [exchange], 1, arguments.seconds, CONNECTIONS)["rate"]
                              for server, exchange in subjects.values())
        figures = {(name, share): [] for share in SHARES for name in subjects}
        for number in range(rounds):
            report.progress(f"load, round {number + 1} of {rounds}")
            for (name, share), list_ in figures.items():
                server, exchange = subjects[name]
                list_.append(peers.load(server, [exchange], 1, arguments.seconds, CONNECTIONS, share * top))
    add_results(figures, top, report)


def add_results(figures, top, report):
    def middle(name, share, field):
        return statistics.median(round_[field] for round_ in figures[name, share])
    def column(name):
        return [round_["p999_us"] * 1000 for round_ in figures[name, HALF]]
    report.row("load", f"p99.9 at {HALF * top / 1000:.0f} k requests/s, half of what is possible", "redis INCR", "ns",
               column("heapd"), column("redis"))
    curves = [(f"{name}, {title}", [(share * top / 1000, middle(name, share, field) / 1000) for share in SHARES])
              for name in ("heapd", "redis") for title, field in (("p50", "p50_us"), ("p99.9", "p999_us"))]
    plot.draw(report, "latency", f"Latency against load, {CONNECTIONS} connections",
              ("thousand requests a second", "ms"), curves, logscale="y")
    report.details.append(Details(
        "Latency against load in detail",
        f"{CONNECTIONS} connections, dict.incr or INCR, requests at even distances; medians of the rounds.",
        ["server", "requests/s asked", "done", "p50 us", "p99 us", "p99.9 us", "max us", "CPU ns/request"],
        [[name, f"{share * top:.0f}"] + [f"{middle(name, share, field):.0f}" for field in
         ("rate", "p50_us", "p99_us", "p999_us", "max_us", "server_cpu_ns")] for name, share in figures]))
