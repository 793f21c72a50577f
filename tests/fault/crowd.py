#!/usr/bin/env python3
"""crowd.py -- many connections that want nothing, read nothing or send nothing whole, and what 50 busy clients feel of it.

    tests/fault/crowd.py [--short] [--seconds 60] [SCENARIO]...

    idle       10,000 connections that have asked once, and are silent
    readers    1,000 that each ask for 64 KiB and read 64 bytes a second
    gluttons   1,000 that ask once for 8 MiB, and read nothing
    web        the same over HTTP
    senders    1,000 that send a byte of a request a second
    unfinished 200 lines that stop at 15 MiB, with --max-request 16m
    line       lines of 1 GiB, with a second between two
    nesting    lines of 100,000 brackets, ten a second
    batch      batches of a million requests, one a second, refused; whole-batch, with --max-batch 0: run

Each has a daemon of its own.  The busy clients are the load program of tests/bench (dict.incr, a request at a time each), on
a core without the daemon where there are two, and measured before and with the crowd.  What must hold:

    memory     of the daemon stays below the bound of the scenario, which its row says
    errors     who goes too far is told so, by the documented error
    others     p99.9 of the busy clients' requests is below 5 ms in a whole run.  It is printed in any case, with the
               longest (a line is read in one go, a millisecond a MiB), and not judged with --short, which takes a tenth of
               everything and a few seconds
    heap       what the crowd held is gone after it, heap.check is clean, the daemon ends with code 0

Start at run().
"""
import argparse
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))

import peers
from rows_wire import incr_exchange

MIB = 1 << 20
P999_MS = 5.0
BUSY = 50
FILES_SPARE = 200


class Wrong(Exception):
    """What is not as it must be."""


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


class Watch(threading.Thread):
    """The most memory that the daemon had."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.is_over = pid, 0, False

    def run(self):
        while not self.is_over:
            self.most = max(self.most, rss(self.pid))
            time.sleep(0.01)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=peers.PATIENCE_S)


def answer(line):
    """A reply's error word, or "result"."""
    if b'"result"' in line:
        return "result"
    at = line.find(b'"error":"')
    if at < 0:
        raise Wrong(f"no reply: {line[:200]!r}")
    return line[at + 9:line.index(b'"', at + 9)].decode()


class Crowd:
    """Runs in a process of its own.  begin() connects, go() is called until the time is over."""

    bound_mib = 64  # of the daemon, whatever the scale
    options = ()
    count = 1000

    def __init__(self, port, scale):
        self.port, self.scale = port, scale
        self.many = max(1, self.count // scale)
        self.told = {}  # error words, and how often
        self.connections = []

    def connect_all(self):
        for _ in range(self.many):
            self.connections.append(connect(self.port))

    def begin(self):
        self.connect_all()

    def go(self):
        time.sleep(0.1)

    def end(self):
        for connection in self.connections:
            connection.close()

    def ask(self, connection, request):
        connection.sendall(request + b"\n")
        return answer(self.read_line(connection))

    def read_line(self, connection):
        line = b""
        while not line.endswith(b"\n"):
            some = connection.recv(1 << 16)
            if not some:
                raise Wrong("the daemon closed the connection")
            line = line[-1000:] + some[-1000:]
        return line

    def tell(self, word):
        self.told[word] = self.told.get(word, 0) + 1

    @classmethod
    def judge(cls, told, many):
        """What the crowd was told must be what is documented."""


class Idle(Crowd):
    count = 10000
    bound_mib = 64  # 4 KiB each, and what 50 clients need

    def begin(self):
        super().begin()
        for connection in self.connections:
            connection.sendall(b'{"id":1,"method":"create","params":[[[]]]}\n')
        for connection in self.connections:
            self.tell(answer(self.read_line(connection)))

    @classmethod
    def judge(cls, told, many):
        if told != {"result": many}:
            raise Wrong(f"not all were let in: {told}")


class Readers(Crowd):
    """Never more than 1 MiB waits for each: then the connection is not read from."""

    bound_mib = 768

    def begin(self):
        first = connect(self.port)
        self.ask(first, b'{"id":1,"method":"create","params":["%s","text"]}' % (b"x" * 65536))
        first.close()
        self.connect_all()
        self.at = 0
        for connection in self.connections:
            connection.setblocking(False)

    def go(self):
        """A hundredth of a second's work."""
        began = time.monotonic()
        for _ in range(max(1, self.many // 100)):
            if self.connections:
                self.at = (self.at + 1) % len(self.connections)
                self.turn_of(self.connections[self.at])
        time.sleep(max(0, began + 0.01 - time.monotonic()))

    def turn_of(self, connection):
        try:
            connection.send(b'{"id":1,"method":"get","params":["text"]}\n')
        except BlockingIOError:
            pass
        except ConnectionError:
            self.leave(connection)
            return
        try:
            if not connection.recv(64):
                self.leave(connection)
        except BlockingIOError:
            pass
        except ConnectionError:
            self.leave(connection)

    def leave(self, connection):
        self.tell("closed")
        self.connections.remove(connection)
        connection.close()


class Gluttons(Readers):
    """The sum of what all do not read is bounded."""

    bound_mib = 768
    size = 8 * MIB

    def begin(self):
        first = connect(self.port)
        self.ask(first, b'{"id":1,"method":"create","params":["%s","text"]}' % (b"x" * self.size))
        first.close()
        self.connect_all()
        for connection in self.connections:
            connection.sendall(self.request())
            connection.setblocking(False)

    def request(self):
        return b'{"id":1,"method":"get","params":["text"]}\n'

    def go(self):
        time.sleep(0.2)

    def end(self):
        for connection in self.connections:
            connection.setblocking(True)
            connection.settimeout(0.05)
            try:
                start = connection.recv(2000)
                self.tell(answer(start) if start else "closed")
            except (OSError, ConnectionError):
                self.tell("closed")
            connection.close()


class WebGluttons(Gluttons):
    def request(self):
        body = super().request()
        return b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body)


class Senders(Crowd):
    request = b'{"id":1,"method":"create","params":[["never whole"]]}'

    def begin(self):
        super().begin()
        self.sent = 0

    def go(self):
        began = time.monotonic()
        for connection in self.connections:
            connection.sendall(self.request[self.sent % (len(self.request) - 1):][:1] if self.sent < len(self.request) - 1
                               else b" ")
        self.sent += 1
        time.sleep(max(0, began + 1 - time.monotonic()))


class Once(Crowd):
    """One connection that sends what is refused, again and again."""

    count = 1
    word = "limit_exceeded"
    pause_s = 1

    def go(self):
        connection = self.connections[0]
        self.send(connection)
        self.tell(answer(self.read_line(connection)))
        time.sleep(self.pause_s)

    def send(self, connection):
        raise NotImplementedError

    @classmethod
    def judge(cls, told, many):
        if set(told) != {cls.word}:
            raise Wrong(f"expected {cls.word} alone, told: {told}")


class LongLine(Once):
    bound_mib = 200  # max-request twice, while it grows, and the rest

    def send(self, connection):
        connection.sendall(b'{"id":1,"method":"create","params":["')
        piece = b"x" * MIB
        for _ in range(1024 // self.scale):
            connection.sendall(piece)
        connection.sendall(b'"]}\n')


class Nesting(Once):
    pause_s = 0.1

    def send(self, connection):
        connection.sendall(b'{"id":1,"method":"create","params":[' + b"[" * 100000 + b"]" * 100000 + b"]}\n")


class Batch(Once):
    bound_mib = 256

    def begin(self):
        super().begin()
        one = b'{"method":"create","params":[[1000]]}'
        self.batch = b"[" + (one + b",") * (1000000 // self.scale - 1) + one[:1] + b'"id":1,' + one[1:] + b"]\n"

    def send(self, connection):
        connection.sendall(self.batch)


class WholeBatch(Batch):
    options = ("--max-batch", "0")
    word = "result"
    bound_mib = 512  # a request waits as 64 bytes or so, with its text


class Unfinished(Crowd):
    count = 200
    options = ("--max-request", "16m")
    bound_mib = 176  # four times max-request, in blocks that double, and what malloc keeps of those that are free
    piece = b"[" + b"1," * (MIB // 8)
    pieces = 15 * MIB // len(piece)

    def begin(self):
        super().begin()
        self.left = [self.pieces] * self.many

    def go(self):
        for number, connection in enumerate(self.connections):
            if self.left[number] > 0:
                self.left[number] -= 1
                self.send(number, connection)
        if max(self.left) == 0:
            time.sleep(0.1)

    def send(self, number, connection):
        try:
            connection.sendall(self.piece)
        except ConnectionError:
            self.tell("closed")
            connection.close()
            self.connections[number], self.left[number] = connect(self.port), self.pieces

    @classmethod
    def judge(cls, told, many):
        if told.get("closed", 0) == 0:
            raise Wrong("lines that are not finished may have all memory")


SCENARIOS = {"idle": Idle, "readers": Readers, "gluttons": Gluttons, "web": WebGluttons, "senders": Senders, "unfinished": Unfinished,
             "line": LongLine, "nesting": Nesting, "batch": Batch, "whole-batch": WholeBatch}


def crowd_main(kind, port, scale, pipe_in, pipe_out):
    """The process of the crowd: says when all are there, works until it is told to stop, says what it was told."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    crowd = kind(port, scale)
    crowd.begin()
    print("ready", file=pipe_out, flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe_in, selectors.EVENT_READ)
        while not selector.select(0):
            crowd.go()
    crowd.end()
    print(repr(crowd.told), file=pipe_out, flush=True)


class CrowdProcess:
    def __init__(self, name, port, scale):
        self.process = subprocess.Popen([sys.executable, __file__, "--crowd", name, str(port), str(scale)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=peers.become_child(peers.LOAD_CORES))

    def await_line(self):
        line = self.process.stdout.readline()
        if not line:
            raise Wrong("the crowd came to an end")
        return line.strip()

    def stop(self):
        self.process.stdin.close()
        told = self.await_line()
        self.process.wait(peers.PATIENCE_S)
        return eval(told, {"__builtins__": {}})  # our own repr() of a dict

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def measure(server, seconds):
    """p99.9 and the longest, in milliseconds."""
    figures = peers.load(server, [incr_exchange()], 1, seconds, BUSY)
    return figures["p999_us"] / 1000, figures["max_us"] / 1000


def await_quiet(session):
    """The daemon has noticed that the crowd is gone; what is left are our session and the counter."""
    deadline = time.monotonic() + peers.PATIENCE_S
    while time.monotonic() < deadline:
        clients = session.call("stats", section="server")["connections"]
        if clients <= 1:
            return
        time.sleep(0.1)
    raise Wrong(f"{clients} connections are left")


def run(name, seconds, scale):
    kind = SCENARIOS[name]
    with peers.Heapd(*kind.options) as server, peers.Session(server) as session:
        session.call("create", value={}, name="counters")
        before, longest_before = measure(server, min(seconds, 10))
        watch = Watch(server.process.pid)
        watch.start()
        crowd = CrowdProcess(name, server.port, scale)
        try:
            if crowd.await_line() != "ready":
                raise Wrong("the crowd is not there")
            p999, longest = measure(server, seconds)
            told = crowd.stop()
        finally:
            crowd.kill()
            watch.is_over = True
        watch.join()
        print(f"{name}: p99.9 {p999:.2f} ms (longest {longest:.0f}), before {before:.2f} ({longest_before:.0f}); memory at most {watch.most / MIB:.0f} MiB of "
              f"{kind.bound_mib}; told {told}", flush=True)
        kind.judge(told, max(1, kind.count // scale))
        if watch.most > kind.bound_mib * MIB:
            raise Wrong(f"{watch.most / MIB:.0f} MiB are more than {kind.bound_mib}")
        if scale == 1 and p999 >= P999_MS:
            raise Wrong(f"p99.9 is {p999:.2f} ms")
        await_quiet(session)
        session.call("name.unbind", name="counters")
        if issubclass(kind, Readers):
            session.call("name.unbind", name="text")
        checked = session.call("heap.check")
        if not checked["ok"] or checked["objects"] != 0:
            raise Wrong(f"heap.check: {checked}")
        server.process.terminate()
        if server.process.wait(peers.PATIENCE_S) != 0:
            raise Wrong(f"the daemon ended with code {server.process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a tenth of each, for some seconds; p99.9 is not judged")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    if not set(options.scenarios) <= set(SCENARIOS):
        parser.error("the scenarios are " + ", ".join(SCENARIOS))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < Idle.count // (10 if options.short else 1) + FILES_SPARE:
        print(f"skipped: this machine allows {hard} open files")
        return 77
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wrong = 0
    for name in options.scenarios or SCENARIOS:
        try:
            run(name, options.seconds or (2 if options.short else 60), 10 if options.short else 1)
        except (Wrong, peers.Misbehaved) as reason:
            print(f"{name}: WRONG: {reason}", flush=True)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--crowd"]:
        crowd_main(SCENARIOS[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4]), sys.stdin, sys.stdout)
    else:
        sys.exit(main())
