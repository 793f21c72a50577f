"""graph_python.py -- the graphs of graph.h, and what builder.c makes of them, of Python's own objects."""
import gzip
import json
import sys
import zlib
from array import array

KINDS = ["none", "bool", "int", "float", "str", "bytes", "list", "tuple", "dict", "set", "object"]
NONE, BOOL, INT, FLOAT, STR, BYTES, LIST, TUPLE, DICT, SET, OBJECT = range(len(KINDS))


class Graph:
    """The arrays of graph.h: kind, start, edge, root."""

    def __init__(self, kind, start, edge, root):
        self.kind, self.start, self.edge, self.root = kind, start, edge, root

    def refs(self, i):
        return self.edge[self.start[i]:self.start[i + 1]]

    def size(self, i):
        return self.start[i + 1] - self.start[i]

    def crc(self):
        crc = zlib.crc32(self.kind)
        for part in (self.start, self.edge, self.root):
            crc = zlib.crc32(part, crc)
        return crc


def graph_random(n, state):
    """The graph of graph.c:graph_random, number for number."""
    mask = (1 << 64) - 1
    edge = array("I", bytes(8 * n))
    for j in range(2 * n):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        other = (state >> 32) * (n - 1) >> 32
        edge[j] = other + (other >= j >> 1)
    return Graph(bytes([LIST]) * n, array("I", range(0, 2 * n + 1, 2)), edge, array("I", range(n)))


def graph_read(path):
    """The graph of graph.c:graph_read."""
    kind, start, edge = bytearray(), array("I", [0]), array("I")
    number = {name: i for i, name in enumerate(KINDS)}
    with gzip.open(path, "rt") as lines:
        root = array("I", json.loads(next(lines))["roots"])
        for line in lines:
            name, _, refs = json.loads(line)
            kind.append(number[name])
            edge.extend(refs)
            start.append(len(edge))
    return Graph(bytes(kind), start, edge, root)


class Builder:
    """Builds the objects of a graph: atoms and empty containers, then tuples, then what they all refer to."""

    def __init__(self, graph):
        self.graph = graph
        longest = max(b - a for a, b in zip(graph.start, graph.start[1:]))
        # The names of an object's references, and the keys of a dict's: the same few everywhere.
        self.names = [sys.intern(f"r{j}") for j in range(longest)]
        # Nodes of kind `object` with equally many attributes are of one class.
        sizes = {graph.size(i) for i, kind in enumerate(graph.kind) if kind == OBJECT}
        self.classes = {size: self.make_class(size) for size in sizes}

    def make_class(self, size):
        """A class whose instances share their keys, as they do where __init__ sets all attributes at once;
        without this first instance CPython would give most objects a dict of their own and be slower."""
        made = type(f"Node{size}", (), {})
        first = made()
        for name in self.names[:size]:
            setattr(first, name, None)
        return made

    def make(self, i, kind):
        """A node that needs no other: each atom is an object of its own."""
        if kind == LIST:
            return []
        if kind == INT:
            return 1000 + i
        if kind == FLOAT:
            return i + 0.5
        if kind == STR:
            return f"s{i}"
        if kind == BYTES:
            return b"b%d" % i
        if kind == DICT:
            return {}
        if kind == SET:
            return set()
        if kind == OBJECT:
            return self.classes[self.graph.size(i)]()
        return True if kind == BOOL else None

    def make_tuples(self):
        """Tuples come after the tuples they refer to; no cycle goes through tuples alone."""
        graph, nodes = self.graph, self.nodes
        for first, kind in enumerate(graph.kind):
            waiting = [first] if kind == TUPLE else []
            while waiting:
                i = waiting[-1]
                missing = [j for j in graph.refs(i) if graph.kind[j] == TUPLE and nodes[j] is None]
                if missing:
                    waiting.extend(missing)
                else:
                    waiting.pop()
                    if nodes[i] is None:
                        nodes[i] = tuple([nodes[j] for j in graph.refs(i)])

    def fill(self, i, kind):
        nodes, refs = self.nodes, self.graph.refs(i)
        node = nodes[i]
        if kind == LIST:
            for j in refs:
                node.append(nodes[j])
        elif kind == DICT:
            for name, j in zip(self.names, refs):
                node[name] = nodes[j]
        elif kind == SET:
            for j in refs:
                node.add(nodes[j])
        elif kind == OBJECT:
            for name, j in zip(self.names, refs):
                setattr(node, name, nodes[j])

    def build(self):
        """Returns the holder: a list of the roots and itself, so that what is let go hangs from a cycle.  It
        is made first, as by a program that fills a list; CPython is much slower where roots come late."""
        holder = []
        kinds = self.graph.kind
        self.nodes = [None] * len(kinds)
        for i, kind in enumerate(kinds):
            self.nodes[i] = self.make(i, kind)
        self.make_tuples()
        for i, kind in enumerate(kinds):
            self.fill(i, kind)
        for i in self.graph.root:
            holder.append(self.nodes[i])
        holder.append(holder)
        del self.nodes
        return holder
