"""bench.py -- measures heapd beside its peers, both sides alternately, on this machine.

    bench.py [--rounds N] [--seconds S] [--scale X] [--smoke] [--output DIR] [GROUP...]

Prints a table, and writes DIR/bench.json and DIR/bench.md (build/).  Reading order: report.py (what a row is,
and the output), peers.py (the programs that are started and ended), then the groups, one file each:
rows_wire.py and its neighbours.  A group is a module with measure(arguments, report).
"""
import argparse
import importlib
import os
import signal
import sys
import traceback

import peers
import report
from notes import NOTES

GROUPS = ("wire", "journal", "clients", "values", "memory", "alloc", "gc", "pauses", "latency", "start",
          "connections", "threads", "load")
ROUNDS_FOR_A_MEDIAN = 5


class Arguments(argparse.Namespace):
    """What every group is told."""

    def sized(self, count):
        """How many objects to take where a full run takes `count`."""
        return max(int(count * self.scale), 20)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description="Measures heapd beside its peers.")
    parser.add_argument("groups", metavar="GROUP", nargs="*", help=f"{', '.join(GROUPS)}; all when left out")
    parser.add_argument("--rounds", type=int, default=ROUNDS_FOR_A_MEDIAN, help="alternations (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement on the wire (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the graphs' sizes (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="everything once and tiny: does it still work?")
    parser.add_argument("--output", metavar="DIR", default=peers.BUILD, help="where results go (%(default)s)")
    arguments = parser.parse_args(namespace=Arguments())
    for group in arguments.groups:
        if group not in GROUPS:
            parser.error(f"there is no group {group}; there are {', '.join(GROUPS)}")
    if arguments.smoke:
        arguments.rounds, arguments.seconds, arguments.scale = 1, 0.05, 0.001
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.scale <= 0:
        parser.error("rounds, seconds and scale must be positive")
    return arguments


def measure(name, arguments, result):
    """Runs one group; what goes wrong in it is reported, and the others go on."""
    before = len(result.rows)
    try:
        importlib.import_module(f"rows_{name}").measure(arguments, result)
    except peers.Missing as reason:
        result.progress(f"{name} skipped: {reason}")
        result.note(f"{name} was skipped: {reason}")
        return
    except Exception as error:  # of whatever kind: an hour of measurements must not go with it
        traceback.print_exc()
        result.fail(f"{name} ended with {error!r}")
        return
    if len(result.rows) == before:
        result.fail(f"{name} measured nothing")


def check_notes(arguments, result):
    """A note on a row that there is no more is of no use."""
    keys = {row.key() for row in result.rows}
    stale = [key for key in NOTES if key not in keys]
    if stale and not arguments.groups and arguments.scale == 1:
        result.note("notes.py has notes on rows that there are not: " + "; ".join(stale))


def main():
    arguments = parse_arguments()
    # A signal unwinds the stack, so that whoever started a program ends it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    os.makedirs(peers.WORK, exist_ok=True)
    result = report.Report(arguments)
    for name in GROUPS:
        if not arguments.groups or name in arguments.groups:
            measure(name, arguments, result)
            result.write()
    check_notes(arguments, result)
    result.write()
    result.print()
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
