"""soak_load.py -- the clients of soak.py, a process each, and what they know of the objects they have made.

    Keeper   replaces values of all kinds and sizes in slots (names, holds, entries of a dict): it counts their objects
    Churner  the random requests of tests/fuzz/stress.py, by short-lived connections; nothing of it lasts
    Web      HTTP: requests, leased sessions, metrics, exports, a stream of events, and connections that just go away
    Prober   measures how long small requests take, and beside each one how long an echo of the same size takes

A worker does step() after step().  On "pause" it answers with report() and waits for "go" or "end"; what the daemon has
then for it is known: report()["objects"].
Start at Worker.run().
"""
import array
import http.client
import json
import multiprocessing
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz"))

import stress

PATIENCE_S = 600  # for a reply: only a hang takes as long
LARGE_TEXTS = [1 << 22, 1 << 22, 1 << 22, 1 << 21, 1 << 20, 1 << 18, 1 << 16, 1 << 15, 1 << 14]  # bytes
LARGE = LARGE_TEXTS + [100, 1000, 10000, 20000]  # and items of lists


class Line:
    """A connection that sends lines and reads replies."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def many(self, requests):
        """The results of requests: a list of (method, params)."""
        text = "".join('{"id":1,"method":"%s","params":%s}\n' % (method, json.dumps(params))
                       for method, params in requests)
        self.socket.sendall(text.encode())
        return [self.result(requests[i]) for i in range(len(requests))]

    def result(self, request):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise AssertionError("the daemon has closed a connection, asked for %.200s" % (request,))
        reply = json.loads(line)
        if "result" not in reply:
            raise AssertionError("%.200s: %s" % (request, reply))
        return reply["result"]

    def one(self, method, *params):
        return self.many([(method, list(params))])[0]

    def close(self):
        self.file.close()
        self.socket.close()


class Worker(multiprocessing.Process):
    pause_s = 0.02  # between two steps

    def __init__(self, number, seed, daemon):
        super().__init__(daemon=True, name="%s %d" % (type(self).__name__.lower(), number))
        self.number, self.daemon_path, self.port = number, daemon.path, daemon.port
        self.random = random.Random("%s/%d" % (seed, number))
        self.pipe, self.far_end = multiprocessing.Pipe()

    def run(self):
        try:
            self.begin()
            self.far_end.send("ready")
            while True:
                if not self.far_end.poll(self.pause_s):
                    self.step()
                    continue
                self.far_end.recv()
                self.far_end.send(self.report())
                if self.far_end.recv() == "end":
                    self.end()
                    return
        except Exception as error:
            self.far_end.send("%s: %s" % (type(error).__name__, error))
            raise

    def begin(self):
        """Connects, makes what is there from the start."""

    def report(self):
        """Ends what is under way; tells what is there."""
        return {"objects": 0}

    def end(self):
        """Lets go of everything."""


# ---- values that are counted ----

class Values:
    """Random literals, each with the number of its objects: no text or number of theirs is shared or immortal."""

    def __init__(self, rng, prefix):
        self.random, self.prefix, self.count = rng, prefix, 0

    def text(self, length):
        self.count += 1
        return ("%s-%d-" % (self.prefix, self.count)).ljust(length, "x")

    def atom(self):
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.random() + 2
        if kind == 1:
            return self.random.randrange(1 << 20, 1 << 60)
        if kind == 2:
            return {"$int": str(self.random.randrange(1 << 80, 1 << 200))}
        return self.text(self.random.choice((12, 20, 60, 200)))

    def value(self):
        """(literal, objects)"""
        items = [self.atom() for _ in range(self.random.choice((1, 2, 3, 5, 8, 13, 21)))]
        n = len(items)
        kind = self.random.randrange(8)
        if kind == 0:
            return items, 1 + n
        if kind == 1:
            return [{"$tuple": items}, [[self.atom()]]], 1 + 1 + n + 3
        if kind == 2:
            return {self.text(12): item for item in items}, 1 + 2 * n
        if kind == 3:
            return {"$set": [self.text(16) for _ in items]}, 1 + n
        if kind == 4:
            return {"$dict": [[{"$tuple": [self.text(12)]}, item] for item in items]}, 1 + 3 * n
        if kind == 5:
            return {"$instance": "keep-class", "attrs": {"a": self.atom(), "b": items}}, 1 + 1 + 1 + n
        if kind == 6:
            return self.text(self.random.choice((30, 300, 3000))), 1
        return self.ring(items), 2 * n

    def ring(self, items):
        """A list for each item, which has the item and the next list."""
        n = len(items)
        lists = {"r%d" % i: [{"$label": "r%d" % ((i + 1) % n)}, item] for i, item in enumerate(items)}
        return {"$let": lists, "in": {"$label": "r0"}}

    def large(self, which):
        if which < len(LARGE_TEXTS):
            return self.text(LARGE[which]), 1
        return [self.random.random() + 2 for _ in range(LARGE[which])], 1 + LARGE[which]


# ---- workers ----

class Keeper(Worker):
    """Slot i is a name, a hold, or an entry of a dict, by i modulo 3; the first ones have large values."""

    SLOTS = 3000
    STEP = 8

    def begin(self):
        self.values = Values(self.random, "keeper%d" % self.number)
        self.line = Line(self.daemon_path)
        self.root = self.line.one("create", {})["object"]
        self.objects = [None] * self.SLOTS  # of the value of each slot
        self.held = {}                      # slot -> id
        for first in range(0, self.SLOTS, self.STEP):
            self.replace(range(first, min(first + self.STEP, self.SLOTS)))

    def replace(self, slots):
        requests, held = [], []
        for slot in slots:
            large = slot < len(LARGE)
            value, objects = self.values.large(slot) if large else self.values.value()
            self.objects[slot] = objects
            if slot % 3 == 0:
                requests.append(("create", {"value": value, "name": "keep-%d-%d" % (self.number, slot)}))
            elif slot % 3 == 1:
                requests.append(("create", [value]))
                held.append((slot, len(requests) - 1))
            else:
                requests.append(("dict.setitem", [self.root, "keep-%d-%d" % (self.number, slot), value]))
        results = self.line.many(requests)
        # A name needs no hold beside it.
        gone = [self.held[slot] for slot, _ in held if slot in self.held]
        self.held.update((slot, results[i]["object"]) for slot, i in held)
        self.line.many([("unref", [found]) for found in gone])

    def step(self):
        slots = self.random.sample(range(len(LARGE), self.SLOTS), self.STEP)
        if self.random.random() < 0.02:
            slots[0] = self.random.randrange(len(LARGE))
        self.replace(slots)
        slot = self.random.choice(slots)
        target = "keep-%d-%d" % (self.number, slot - slot % 3)
        self.line.many([("type", [target]), ("sys.getsizeof", [target]), ("gc.get_referents", [target]),
                        ("get", [target, 1])])

    def report(self):
        keys = len(range(2, self.SLOTS, 3))
        return {"objects": 1 + keys + sum(self.objects)}

    def end(self):
        self.line.many([("name.unbind", ["keep-%d-%d" % (self.number, slot)]) for slot in range(0, self.SLOTS, 3)])
        self.line.close()


class PacedClient(stress.Client):
    def burst(self, line, requests):
        time.sleep(self.random.choice((0.02, 0.1, 0.3)))
        return super().burst(line, requests)


class Churner(Worker):
    """Many short lives.  Whoever pauses us waits for the ends of our sessions and unbinds our names."""

    CLIENTS = 4
    pause_s = 0.2

    def begin(self):
        self.rounds, self.requests = 0, 0
        self.start_clients()

    def start_clients(self):
        self.rounds += 1
        self.world = stress.World(self.daemon_path, "%s/%d" % (self.random.random(), self.rounds))
        self.clients = [PacedClient(self.world, i) for i in range(self.CLIENTS)]
        for client in self.clients:
            client.start()

    def step(self):
        if self.world.wrong:
            raise AssertionError(self.world.wrong[0])
        if self.world.is_over:
            self.start_clients()

    def report(self):
        self.world.is_over = True
        for client in self.clients:
            client.join()
        if self.world.wrong:
            raise AssertionError(self.world.wrong[0])
        self.requests += sum(self.world.counts.values())
        return {"objects": 0, "churned": self.requests}


class Web(Worker):
    """HTTP over TCP."""

    pause_s = 0.05

    def begin(self):
        self.connection, self.stream, self.exported = None, None, time.monotonic()

    def ask(self, method, path, body=None, **headers):
        """The body of an answer with status 200 or 204."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            headers["Content-Type"], body = "application/json", json.dumps(body)
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 204):
            raise AssertionError("%s %s: %d %.300r" % (method, path, answer.status, text))
        return text

    def post(self, method, *params, **headers):
        reply = json.loads(self.ask("POST", "/", {"id": 1, "method": method, "params": params}, **headers))
        if "result" not in reply:
            raise AssertionError("%s %s: %s" % (method, params, reply))
        return reply["result"]

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def step(self):
        what = self.random.randrange(8)
        if what == 0:
            self.ask("GET", self.random.choice(("/metrics", "/healthz", "/readyz")))
        elif what == 1:
            self.leased()
        elif what == 2 and self.random.random() < 0.2:
            self.close()
        elif what == 3:
            self.vanish()
        elif what == 4:
            self.listen()
        elif what == 5 and time.monotonic() - self.exported > 30:
            self.exported = time.monotonic()
            self.ask("GET", self.random.choice(("/heap.dot", "/heap.heapsnapshot")))
        else:
            made = self.post("create", [[1.5, "a text"], {"k": [2.5]}])["object"]
            self.post("list.append", made, {"$ref": made})  # a cycle, which a collection must find
            self.ask("POST", "/", [{"id": i, "method": "get", "params": [made, 1]} for i in range(5)])
            self.post("unref", made)

    def leased(self):
        token = self.post("session.open", 1000)["session"]
        for _ in range(3):
            self.post("create", [["x", 1.5]], Heapd_Session=token)
        if self.random.random() < 0.5:  # else it runs out
            self.post("session.close", Heapd_Session=token)
        self.close()  # or its next objects would be that session's, too, and go when the lease has run out

    def vanish(self):
        """A connection that is worth nothing."""
        with socket.create_connection(("127.0.0.1", self.port)) as lost:
            lost.sendall(self.random.choice((b"", b"POST / HT", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
                                             b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
                                             b'{"id":1,"method":"create","params":[[1,2', b"no JSON\n",
                                             b"\x16\x03\x01")))

    def listen(self):
        """Reads what a stream of events has brought, now and then another one."""
        if self.stream is None:
            self.stream = socket.create_connection(("127.0.0.1", self.port))
            self.stream.sendall(b"GET /events?events=gc,pressure HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.stream.setblocking(False)
            return
        try:
            while self.stream.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        if self.random.random() < 0.1:
            self.stop_listening()

    def stop_listening(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def report(self):
        self.close()
        self.stop_listening()
        return {"objects": 0}


def echo(there):
    """Until the other end is closed; this process has nothing else to do."""
    try:
        while data := there.recv(4096):
            there.sendall(data)
    finally:
        os._exit(0)


class Prober(Worker):
    """Small requests one after the other."""

    pause_s = 0.01

    def begin(self):
        self.line = Line(self.daemon_path)
        self.counter = self.line.one("create", {"count": 1000})["object"]
        self.here, there = socket.socketpair()
        if os.fork() == 0:
            self.here.close()
            echo(there)
        there.close()
        self.took, self.echo = array.array("d"), array.array("d")
        self.kind = 0

    def step(self):
        self.kind = (self.kind + 1) % 4
        begun = time.perf_counter()
        if self.kind == 0:
            self.line.one("ping")
        elif self.kind == 1:
            self.line.one("dict.incr", self.counter, "count")
        elif self.kind == 2:
            made = self.line.one("create", [1.5, 2.5, 3.5])["object"]
        else:
            self.line.one("get", self.counter, 1)
        self.took.append(time.perf_counter() - begun)
        if self.kind == 2:
            self.line.one("unref", made)
        begun = time.perf_counter()
        self.here.sendall(b"x" * 60)
        self.here.recv(4096)
        self.echo.append(time.perf_counter() - begun)

    def report(self):
        found = {"objects": 3, "took": sorted(self.took), "echo": sorted(self.echo)}
        self.took, self.echo = array.array("d"), array.array("d")
        return found

    def end(self):
        self.line.close()
        self.here.close()
