"""rows_journal.py -- throughput with a journal, beside the same daemon without one.

Each daemon has its folder on the disk of build/; its first measurement begins with an empty journal, and what the
load writes takes a snapshot now and then, which is part of what is measured.
"""
import os
import shutil
import statistics
from contextlib import ExitStack

import peers
import rows_wire
from report import Details

DEPTHS = (1, 16, 64)
# Policies of --fsync, with the goal of the ratio by pipeline depth.
GOALS = {"everysec": {1: 0.9, 16: 0.8, 64: 0.5}, "always": {}}


class JournalHeapd(peers.Heapd):
    """heapd with a folder of its own."""

    def __init__(self, policy):
        self.folder = os.path.abspath(f"{peers.WORK}/journal-{policy}")
        super().__init__("--data-dir", self.folder, "--fsync", policy)
        self.name = f"heapd-{policy}"

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        super().start()

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(arguments, report):
    with ExitStack() as stack:
        servers = {"none": stack.enter_context(peers.Heapd())}
        servers.update({policy: stack.enter_context(JournalHeapd(policy)) for policy in GOALS})
        sessions = {policy: stack.enter_context(peers.Session(server)) for policy, server in servers.items()}
        for session in sessions.values():
            session.call("create", value={}, name="counters")
        figures = {(policy, depth): [] for depth in DEPTHS for policy in servers}
        for depth in DEPTHS:
            for number in range(arguments.rounds):
                report.progress(f"journal, pipeline {depth}, round {number + 1} of {arguments.rounds}")
                for policy, server in servers.items():
                    figures[policy, depth].append(
                        peers.load(server, [rows_wire.incr_exchange()], depth, arguments.seconds))
        check_counters(sessions, figures, report)
    add_rows(figures, report)


def check_counters(sessions, figures, report):
    """The counters stand where the load program says it put them."""
    for policy, session in sessions.items():
        value = session.call("dict.getitem", object="counters", key="k", depth=0)["value"]
        sent = sum(round_["requests_in_all"] for depth in DEPTHS for round_ in figures[policy, depth])
        if value != sent:
            report.fail(f"the counter of the heapd with journal {policy} is {value}, but it must be {sent}")


def add_rows(figures, report):
    def rates(policy, depth):
        return [round_["rate"] for round_ in figures[policy, depth]]
    for policy, goals in GOALS.items():
        for depth in DEPTHS:
            report.row("journal", f"dict.incr with --fsync {policy}, pipeline {depth}", "heapd without a journal", "/s",
                       rates(policy, depth), rates("none", depth), goal=goals.get(depth))
    report.details.append(Details(
        "The journal in detail",
        "50 connections; medians of the rounds. CPU is the server's, all threads, user and system.",
        ["journal", "pipeline", "requests/s", "p50 us", "p99 us", "p99.9 us", "CPU ns/request"],
        [[policy, str(depth)] + [f"{statistics.median(round_[field] for round_ in rounds):.0f}" for field in
                                 ("rate", "p50_us", "p99_us", "p999_us", "server_cpu_ns")]
         for (policy, depth), rounds in figures.items()]))
