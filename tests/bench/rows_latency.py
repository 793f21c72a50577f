"""rows_latency.py -- what full collections of a large heap do to the requests of others.

The daemon has ten million objects, and one more client that asks for a full collection again as soon as it has the
reply.  Each load is measured without that client, and directly after with it.
"""
import statistics
from contextlib import ExitStack

import peers
import rows_wire
from report import Details

MS = 1_000_000
OBJECTS = 10_000_000
BATCH = 20_000  # lists of a request
CONNECTIONS = (8, 50)
COLLECT = '{"jsonrpc":"2.0","id":@,"method":"collect"}\n'


def build(session, objects):
    """So many lists of two ints, in lists of BATCH that have names.  Automatic collection is off."""
    session.call("gc.disable")
    session.call("create", value={}, name="counters")
    batch = min(BATCH, objects)
    value = "[" + ",".join(["[1,2]"] * batch) + "]"
    for number in range(objects // batch):
        session.call_text(f'{{"id":1,"method":"create","params":{{"value":{value},"name":"part {number}"}}}}')
    session.call("collect")


def measure_load(server, connections, seconds, with_collector):
    with ExitStack() as stack:
        if with_collector:
            collector = stack.enter_context(peers.Load(server, [(COLLECT, rows_wire.REPLY + '{"generation":2')], 1,
                                                       seconds + 0.4, connections=1, warmup=0))
        figures = peers.load(server, [rows_wire.incr_exchange()], 1, seconds, connections)
        figures["collections"] = collector.figures()["requests"] if with_collector else 0
        return figures


def line(connections, with_collector, rounds):
    def middle(field):
        return statistics.median(round_[field] for round_ in rounds)
    worst = max(round_["max_us"] for round_ in rounds)
    return [str(connections), "yes" if with_collector else "no"] + \
           [f"{middle(field):.0f}" for field in ("rate", "p50_us", "p99_us", "p999_us")] + \
           [f"{worst:.0f}", f"{middle('collections'):.0f}"]


def measure(arguments, report):
    objects = arguments.sized(OBJECTS)
    figures = {(connections, on): [] for connections in CONNECTIONS for on in (False, True)}
    with peers.Heapd() as server:
        report.version("heapd", server.version)
        report.progress(f"latency, {objects / 1e6:g} M objects are made")
        with peers.Session(server) as session:
            build(session, objects)
        for number in range(arguments.rounds):
            report.progress(f"latency, round {number + 1} of {arguments.rounds}")
            for connections, on in figures:
                figures[connections, on].append(measure_load(server, connections, 2 * arguments.seconds, on))
    add_rows(figures, objects, report)


def add_rows(figures, objects, report):
    def p999(connections, on):
        return [round_["p999_us"] * 1000 for round_ in figures[connections, on]]
    beside = f"beside full collections of {objects / 1e6:g} M objects"
    report.limit("latency", f"p99.9 of 8 connections {beside}", "ns", p999(8, True), 2 * MS, MS,
                 "no collector", p999(8, False))
    report.excess("latency", f"p99.9 of 50 connections {beside}", "no collector", "ns", p999(50, True),
                  p999(50, False), MS, MS // 2)
    report.details.append(Details(
        "Latency beside the collector in detail",
        "dict.incr, pipeline 1. Medians of the rounds; max is the worst of all.",
        ["connections", "collector", "requests/s", "p50 us", "p99 us", "p99.9 us", "max us", "collections"],
        [line(connections, on, rounds) for (connections, on), rounds in figures.items()]))
