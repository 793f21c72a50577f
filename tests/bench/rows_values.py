"""rows_values.py -- one large value: create and get beside json.loads and json.dumps of the same bytes.

heapd's time runs from the first byte of the request to the last of the reply, as a client on a socket sees it;
json's is that of the call alone, in this process.  json's garbage collector is off, as a program that reads large
files would have it.  What was created is released between two measurements, outside of the clock, as the value
of json.loads is.
"""
import gc
import json
import os
import socket
import time

import peers

TEXTS = {"canada": "canada.json", "citm_catalog": "citm_catalog.json"}
# By text: goal and stretch of create, then of get.
GOALS = {"canada": ((2, 3), (3, 4)), "citm_catalog": ((1.5, 2), (1.5, 2))}
BYTES_MAX = 16 << 20  # of a reply


class Wire:
    """A connection for large messages: one reply is read into the same memory each time."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=peers.PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.memory = memoryview(bytearray(BYTES_MAX))

    def close(self):
        self.socket.close()

    def exchange(self, message):
        """Sends it, returns the reply's bytes and how many ns it all took."""
        length = 0
        start = time.perf_counter_ns()
        self.socket.sendall(message)
        while length == 0 or self.memory[length - 1] != 10:
            some = self.socket.recv_into(self.memory[length:])
            if some == 0:
                raise peers.Misbehaved("heapd closed the connection")
            length += some
        return bytes(self.memory[:length]), time.perf_counter_ns() - start

    def call(self, message):
        """The same, for what must succeed: the result and the time."""
        reply, ns = self.exchange(message)
        answer = json.loads(reply)
        if "result" not in answer:
            raise peers.Misbehaved(f"heapd answered {message[:100]} with {reply[:300]}")
        return answer["result"], ns


def request(method, **params):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"


def create_request(text):
    """A request with the file's own bytes as its value."""
    return b'{"jsonrpc":"2.0","id":1,"method":"create","params":{"value":' + text.replace(b"\n", b" ") + b"}}\n"


def timed(function, argument):
    start = time.perf_counter_ns()
    result = function(argument)
    return result, time.perf_counter_ns() - start


def compare(name, text, rounds, wire, report):
    """Both sides in turn: create/loads, get/dumps."""
    samples = {"create": ([], []), "get": ([], [])}
    message, value = create_request(text), json.loads(text)
    for number in range(rounds + 1):  # the first is a warm-up
        made, create_ns = wire.call(message)
        got, get_ns = wire.call(request("get", object=made["object"], depth=-1))
        if number == 0 and got != value:
            report.fail(f"heapd's get of {name} is not what was created")
        wire.call(request("unref", object=made["object"]))
        value, loads_ns = timed(json.loads, text)
        _, dumps_ns = timed(json.dumps, value)
        if number > 0:
            for what, ours, theirs in (("create", create_ns, loads_ns), ("get", get_ns, dumps_ns)):
                samples[what][0].append(ours)
                samples[what][1].append(theirs)
    for (what, peer), (goal, stretch) in zip((("create", "json.loads"), ("get", "json.dumps")), GOALS[name]):
        report.row("values", f"{what} of {name}, {len(text) / 1e6:.1f} MB", f"CPython {peer}", "ns", *samples[what],
                   goal=goal, stretch=stretch)


def add_missing(name, reason, report):
    report.progress(f"values, {name} skipped: {reason}")
    for (what, peer), (goal, stretch) in zip((("create", "json.loads"), ("get", "json.dumps")), GOALS[name]):
        report.row("values", f"{what} of {name}", f"CPython {peer}", "ns", reason, "", goal=goal, stretch=stretch)


def measure(arguments, report):
    # A value takes tens of milliseconds: more rounds than elsewhere cost nothing.
    rounds = 1 if arguments.smoke else max(arguments.rounds, 15)
    gc.disable()
    os.sched_setaffinity(0, peers.LOAD_CORES)
    try:
        with peers.Heapd() as server:
            report.version("heapd", server.version)
            wire = Wire(server)
            for name, file in TEXTS.items():
                path = os.path.join(peers.data_folder(), file)
                if not os.path.exists(path):
                    add_missing(name, f"{path} is not there", report)
                    continue
                report.progress(f"values, {name}")
                with open(path, "rb") as text:
                    compare(name, text.read(), rounds, wire, report)
            wire.close()
    finally:
        os.sched_setaffinity(0, peers.CORES)
        gc.enable()
