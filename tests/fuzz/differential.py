#!/usr/bin/env python3
"""differential.py -- runs random programs on heapd and on CPython 3.11 and compares all they show.

    differential.py [--programs N] [--seed S]    N programs (200); the seed is printed, and $SEED is one, too
    differential.py --replay FILE                one program, as a failure prints it
    differential.py --self-test                  falsifies heapd's answers, a kind at a time, and demands to be told

Program number i of a seed is made from "SEED/i".  All run on one daemon ($HEAPD_BIN, else build/heapd); after
each everything is let go, and as many objects must live as before, and heap.check be clean.  A failing
program is shrunk, each try on a fresh daemon, and printed with what differs.  Exit code 0: all agreed.

    program.py        what programs are and how they are chosen
    side_cpython.py   runs them in this process       side_heapd.py   runs them over the wire
    compare.py        what must be equal
Start at run().
"""
import argparse
import gc
import json
import os
import random
import sys
import time

sys.dont_write_bytecode = True  # the sources' folder stays as it was

from compare import difference
from program import Generator
from side_cpython import Cpython
from side_heapd import Daemon, Gone, Heapd

LENGTHS = (20, 30, 40, 60, 80, 120, 200, 400)


class Failure(Exception):
    """The two sides differ; `program` has the operations up to there."""

    def __init__(self, program, what):
        super().__init__(what)
        self.program = program


def play(heapd, operations, world, done):
    """Applies operations on both sides; `done` gets those that could be applied.  Raises Failure."""
    for op in operations:
        expected = world.apply(op)
        if expected is None:
            continue
        done.append(op)
        try:
            found = difference(op, expected, heapd.apply(op), heapd, world.kinds)
        except Gone as gone:
            raise Failure(done, str(gone)) from None
        if found:
            raise Failure(done, "%s: %s" % (json.dumps(op), found))
        if world.ended:
            break


def run(heapd, make_operations):
    """Runs one program to its end, `make_operations` being given the CPython side.  Raises Failure."""
    gc.collect()
    gc.freeze()  # this program's own objects make every collection slow otherwise
    heapd.forget()
    world, done = Cpython(), []
    try:
        play(heapd, make_operations(world), world, done)
        held = {label: len(objects) for label, objects in world.holds.items()}
        try:
            found = heapd.release_all(held)
        except Gone as gone:
            found = str(gone)
        if found:
            raise Failure(done, "at the end: " + found)
    finally:
        left = world.release_all()
        world.close()
    if left:
        raise Failure(done, "at the end: " + left)


# ---- shrinking ----

def fails(binary, operations, connect=Heapd):
    """What differs when these operations run on a daemon of their own, or None."""
    daemon = Daemon(binary)
    try:
        heapd = connect(daemon.path)
        try:
            run(heapd, lambda world: operations)
        except Failure as failure:
            return failure
        finally:
            heapd.close()
    finally:
        complaint = daemon.stop()
    return Failure(operations, complaint) if complaint else None


def shrink(binary, failure, connect=Heapd):
    """The smallest program found that still fails, leaving out ever smaller pieces."""
    size = len(failure.program) // 2
    while size > 0:
        at, smaller = 0, False
        while at < len(failure.program):
            tried = fails(binary, failure.program[:at] + failure.program[at + size:], connect)
            if tried is not None:
                failure, smaller = tried, True
            else:
                at += size
        size = size if smaller and size == 1 else size // 2
    return failure


def report(binary, failure, origin):
    print("FAILED %s: %s\nshrinking..." % (origin, failure), flush=True)
    if fails(binary, failure.program) is None:
        print("it passes on a fresh daemon: what came before matters; not shrunk")
    else:
        failure = shrink(binary, failure)
        print("%s" % failure)
    print("the program, for --replay:")
    for op in failure.program:
        print(json.dumps(op))


# ---- many programs ----

def random_program(seed, number):
    source = random.Random("%s/%d" % (seed, number))
    length = source.choice(LENGTHS)
    return lambda world: Generator(source, world).program(length)


def run_many(binary, seed, programs):
    print("seed %s, %d programs" % (seed, programs), flush=True)
    began, daemon = time.monotonic(), Daemon(binary)
    try:
        heapd = Heapd(daemon.path)
        for number in range(programs):
            try:
                run(heapd, random_program(seed, number))
            except Failure as failure:
                report(binary, failure, "program %d of seed %s" % (number, seed))
                return 1
        heapd.close()
    finally:
        complaint = daemon.stop()
    if complaint:
        print(complaint)
        return 1
    print("%d programs agree (%.1f s)" % (programs, time.monotonic() - began))
    return 0


# ---- the self-test: a heapd that lies must be found out ----

class Liar(Heapd):
    """Falsifies the answers of one method."""

    def __init__(self, path, method, falsify):
        self.method, self.falsify, self.lies = None, falsify, 0
        super().__init__(path)
        self.method = method

    def many(self, requests):
        replies = super().many(requests)
        for request, reply in zip(requests, replies):
            if request[0] == self.method and "result" in reply:
                lie = self.falsify(reply["result"])
                self.lies += lie != reply["result"]
                reply["result"] = lie
        if self.method == "event":
            truth = list(self.events)
            self.events[:] = [event for event in truth if not self.falsify(event)]
            self.lies += len(truth) - len(self.events)
        return replies


def more(key):
    return lambda result: {**result, key: result[key] + 1} if result.get(key) else result


# A lie of any of these kinds shows in so many operations: a ring of four, made, closed, dropped and collected.
SMALL = 12
LIES = {
    "a refcount too high": ("sys.getrefcount", lambda count: count + 1),
    "the refcount of a new object": ("create", more("refcount")),
    "the refcount after unref": ("unref", more("refcount")),
    "one more unreachable": ("collect", more("unreachable")),
    "a count of collections": ("gc.get_count", lambda counts: [counts[0], counts[1] + 1, counts[2]]),
    "statistics": ("gc.get_stats", lambda stats: [{**s, "collected": 2 * s["collected"]} for s in stats]),
    "a dead weakref that lives": ("weakref.get", lambda item: {"object": item["object"] or 10**15}),
    "a live weakref that is dead": ("weakref.get", lambda item: {"object": None}),
    "a weakref not counted": ("weakref.count", lambda count: 0),
    "one referent forgotten": ("gc.get_referents", lambda result: {**result, "objects": result["objects"][1:]}),
    "finalized, too early": ("gc.is_finalized", lambda _: True),
    "untracked": ("gc.is_tracked", lambda _: False),
    "a generation forgotten": ("gc.get_objects", lambda page: {**page, "objects": []}),
    "no finalizer runs": ("event", lambda event: event["event"] == "finalized"),
    "no weakref is notified": ("event", lambda event: event["event"] == "weakref"),
    "no gc event": ("event", lambda event: event["event"] == "gc"),
}


def found_out(binary, seed, connect):
    """Runs programs until one fails; the failure, or None, and how many lies were told."""
    daemon, failure = Daemon(binary), None
    heapd = connect(daemon.path)
    for number in range(50):
        try:
            run(heapd, random_program(seed, number))
        except Failure as caught:
            failure = caught
            break
    heapd.close()
    daemon.stop()
    return failure, heapd.lies


def self_test(binary, seed):
    """How many lies were not found out, or not shrunk to a few operations."""
    print("seed %s" % seed)
    bad = 0
    for name, (method, falsify) in LIES.items():
        def connect(path, method=method, falsify=falsify):
            return Liar(path, method, falsify)
        failure, lies = found_out(binary, seed, connect)
        if failure is None or lies == 0:
            bad += 1
            print("NOT FOUND OUT: %s (%d lies)" % (name, lies))
            continue
        small = shrink(binary, failure, connect)
        bad += len(small.program) > SMALL
        print("%s: %s, in %d operations of %d: %s" % (
            "found out" if len(small.program) <= SMALL else "NOT SHRUNK", name, len(small.program),
            len(failure.program), small))
    return bad


# ---- options ----

def main():
    parser = argparse.ArgumentParser(description="heapd against CPython, with random programs")
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.SystemRandom().randrange(10**9)))
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    binary = os.environ.get("HEAPD_BIN") or os.path.join(root, "build", "heapd")
    if sys.version_info[:2] != (3, 11):
        print("CPython here is %s; some numbers are those of 3.11" % sys.version.split()[0])
    gc.disable()
    if options.replay:
        with open(options.replay) as lines:
            failure = fails(binary, [json.loads(line) for line in lines])
        print(failure if failure else "both sides agree")
        return 1 if failure else 0
    if options.self_test:
        return 1 if self_test(binary, options.seed) else 0
    return run_many(binary, options.seed, options.programs)


if __name__ == "__main__":
    sys.exit(main())
