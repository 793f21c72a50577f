#!/usr/bin/env python3
"""A client in another language, with nothing but a socket: what a newcomer would write in ten minutes.

    example_client.py unix:PATH | tcp:HOST:PORT

Exits 0 when everything was as expected.
"""
import json
import socket
import sys


class Heapd:
    def __init__(self, address):
        kind, _, rest = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.lines = self.socket.makefile("rb")
        self.last_id = 0

    def call(self, method, **params):
        self.last_id += 1
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(self.lines.readline())
        assert reply["jsonrpc"] == "2.0" and reply["id"] == self.last_id, reply
        if "error" in reply:
            raise RuntimeError(reply["error"]["data"]["error"])
        return reply["result"]


def main():
    heapd = Heapd(sys.argv[1])
    other = Heapd(sys.argv[1])
    assert heapd.call("ping") == "pong"

    # A graph that two programs share: the second finds it by name.
    heapd.call("create", value={"todo": [], "done": 0}, name="work")
    todo = heapd.call("dict.getitem", object="work", key="todo")["object"]
    for i in range(100):
        heapd.call("list.append", object=todo, value={"task": i, "price": i + 0.1})
    for i in range(100):
        task = other.call("list.pop", object=todo, index=0, depth=-1)
        assert task["value"] == {"task": i, "price": i + 0.1}, task
        other.call("unref", object=task["object"])
        assert other.call("dict.incr", object="work", key="done") == {"value": i + 1}
    assert heapd.call("get", object="work", depth=-1) == {"todo": [], "done": 100}

    # Text and numbers of every size survive.
    for value in [0, -1, 2**63 - 1, -2**63, 1.1, 1e300, 5e-324, "", "\0", "é😀\u2028\"\\", [], {}, [[[]]], None, True]:
        made = heapd.call("create", value=value)
        got = heapd.call("get", object=made["object"], depth=-1)
        assert got == value and type(got) is type(value), (value, got)
        heapd.call("unref", object=made["object"])

    # Errors have a word to program against.
    for word, method, params in [
        ("name_error", "get", {"object": "nobody"}),
        ("not_found", "get", {"object": made["object"] + 1000000}),
        ("type_error", "list.append", {"object": "work", "value": 1}),
        ("key_error", "dict.getitem", {"object": "work", "key": "x"}),
        ("method_not_found", "nope", {}),
        ("invalid_params", "get", {"nope": 1}),
    ]:
        try:
            heapd.call(method, **params)
            raise AssertionError(method)
        except RuntimeError as error:
            assert str(error) == word, (str(error), word)

    # What a program held is let go when its socket closes.
    held = other.call("create", value=["mine"])["object"]
    assert heapd.call("get", object=held) == ["mine"]
    other.lines.close()
    other.socket.close()
    while heapd.call("stats", section="sessions")["count"] > 1:
        pass
    try:
        heapd.call("get", object=held)
        raise AssertionError("still there")
    except RuntimeError as error:
        assert str(error) == "not_found"
    heapd.call("name.unbind", name="work")
    assert heapd.call("heap.check")["ok"]
    assert heapd.call("stats", section="objects")["live"] == 0


main()
