"""gc_python.py -- the CPython side of the collector's benchmark; bench_gc.c is the other.

    gc_python.py random N SEED | gc_python.py trace FILE | gc_python.py young

Makes the same graph (graph.h says what it is), builds it of Python's own objects, and answers one line of
JSON for each word on stdin: `live` times gc.collect() while the graph is held, `garbage` after it was let go.
Automatic collection is off then.  Each graph is collected once, untimed, right after it was built, so that a
timed collection finds it in the oldest generation.
With `young` each line is a number: of lists that refer to themselves, made and dropped one after another, with
automatic collection as it is at first (700/10/10).
What is measured is CPU time.
"""
import gc
import json
import sys
import time
from itertools import repeat

from graph_python import LIST, Builder, graph_random, graph_read


def collect():
    start = time.process_time_ns()
    unreachable = gc.collect()
    return {"ns": time.process_time_ns() - start, "unreachable": unreachable}


def make_cycles(count):
    before = [generation["collections"] for generation in gc.get_stats()]
    start = time.process_time_ns()
    for _ in repeat(None, count):
        it = []
        it.append(it)
    elapsed = time.process_time_ns() - start
    after = [generation["collections"] for generation in gc.get_stats()]
    return {"ns": elapsed, "collections": [b - a for a, b in zip(before, after)]}


def main():
    if sys.argv[1] == "young":
        for line in sys.stdin:
            print(json.dumps(make_cycles(int(line))), flush=True)
        return
    if sys.argv[1] == "random":
        graph = graph_random(int(sys.argv[2]), int(sys.argv[3]))
    else:
        graph = graph_read(sys.argv[2])
    containers = sum(kind >= LIST for kind in graph.kind)
    print(json.dumps({"objects": len(graph.kind), "containers": containers, "edges": len(graph.edge),
                      "crc": graph.crc()}), flush=True)
    builder = Builder(graph)
    gc.disable()
    gc.collect()
    gc.freeze()  # what the interpreter itself is made of is not part of the graph
    holder = None
    for line in sys.stdin:
        if holder is None:
            holder = builder.build()
            gc.collect()
        if line.strip() == "garbage":
            holder = None
        print(json.dumps(collect()), flush=True)


main()
