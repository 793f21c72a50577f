"""gc_python.py -- the CPython side of the collector's benchmark; bench_gc.c is the other.

    gc_python.py random N SEED | gc_python.py trace FILE

Makes the same graph (graph.h says what it is), builds it of Python's own objects, and answers one line of
JSON for each word on stdin: `live` times gc.collect() while the graph is held, `garbage` after it was let go.
Automatic collection is off.  Each graph is collected once, untimed, right after it was built, so that a
timed collection finds it in the oldest generation.
"""
import gc
import json
import sys
import time

from graph_python import LIST, Builder, graph_random, graph_read


def collect():
    start = time.perf_counter_ns()
    unreachable = gc.collect()
    return {"ns": time.perf_counter_ns() - start, "unreachable": unreachable}


def main():
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
