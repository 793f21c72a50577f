"""bench.py -- measures heapd beside its peers, both sides alternately, on this machine.

    bench.py [--rounds N] [--seconds S] [--lists N] [ROW...]

Prints a table, and writes build/bench.json and build/bench.md.  Reading order: report.py (what a row is, and
the output), peers.py (the programs that are started and ended), rows_wire.py, rows_gc.py.
"""
import argparse
import signal
import sys

import report
import rows_gc
import rows_wire

GROUPS = {"wire": rows_wire, "gc": rows_gc}
ROUNDS_FOR_A_MEDIAN = 5


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description="Measures heapd beside its peers.")
    parser.add_argument("groups", metavar="ROW", nargs="*", help=f"{', '.join(GROUPS)}; all when left out")
    parser.add_argument("--rounds", type=int, default=ROUNDS_FOR_A_MEDIAN, help="alternations (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement on the wire (%(default)s)")
    parser.add_argument("--lists", type=int, default=2_000_000, help="of the random graph (%(default)s)")
    arguments = parser.parse_args()
    for group in arguments.groups:
        if group not in GROUPS:
            parser.error(f"there is no row {group}; there are {', '.join(GROUPS)}")
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.lists < 2:
        parser.error("rounds, seconds and lists must be positive")
    return arguments


def main():
    arguments = parse_arguments()
    # A signal unwinds the stack, so that whoever started a program ends it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    result = report.Report(arguments)
    for name, group in GROUPS.items():
        if not arguments.groups or name in arguments.groups:
            group.measure(arguments, result)
    result.print()
    result.write()
    return 1 if result.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
