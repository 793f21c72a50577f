"""memory_python.py -- the CPython side of the memory benchmark; bench_memory.c is the other, and says what is done.

    memory_python.py KIND COUNT | memory_python.py trace FILE

`counted` is what sys.getsizeof() says with the collector's header, rounded as CPython's allocators do.
"""
import ctypes
import gc
import json
import os
import sys

from graph_python import Builder, graph_read

GC_HEADER = 16  # bytes before every object that is tracked, or that could be


class Node:
    def __init__(self):
        self.a = 0
        self.b = 1
        self.c = 2


class Slotted:
    __slots__ = ("a", "b", "c")

    def __init__(self):
        self.a = 0
        self.b = 1
        self.c = 2


# Each makes object i.  What it refers to is there already.
MAKERS = {"list": lambda i: [0, 1],
          "dict": lambda i: {"a": 0, "b": 1, "c": 2},
          "instance": lambda i: Node(),
          "slots": lambda i: Slotted(),
          "str": lambda i: f"{i:010d}"}


def resident_bytes():
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def rounded(size):
    """As the allocators do: 16 bytes, and above 512 malloc's header."""
    return (size + (8 if size > 512 else 0) + 15) // 16 * 16


def grown(objects, before):
    print(json.dumps({"objects": objects, "resident": resident_bytes() - before}), flush=True)


def measure_kind(kind, count):
    make = MAKERS[kind]
    # The first instances still settle how large the later ones are.
    first = [make(i) for i in range(100)]
    holder = [None] * count
    before = resident_bytes()
    for i in range(count):
        holder[i] = make(i)
    grown(count, before)
    del first


def measure_trace(path):
    graph = graph_read(path)
    builder = Builder(graph)
    gc.disable()
    gc.collect()
    before = resident_bytes()
    holder = builder.build()
    gc.collect()
    grown(len(graph.kind), before)
    del holder


if sys.argv[1] == "trace":
    measure_trace(sys.argv[2])
else:
    measure_kind(sys.argv[1], int(sys.argv[2]))
