#!/usr/bin/env python3
"""stress.py -- many clients do everything at once to one daemon, under the switches of HEAPD_STRESS.

    stress.py [--seconds S] [--seed N] [--clients C] [--threads T] [--stress SWITCHES] [--counts]
    stress.py --self-test     falsifies the daemon's answers, a kind at a time, and demands to be told

The seed is printed, and $SEED is one, too; which client comes when is the machine's choice.  The daemon is
$HEAPD_BIN, best one built with a sanitizer: only those know the switches (a collection at the end of every request,
slices of one object, a switch interval of 1 us).

    clients        threads here; each lives many lives: connects, sends random bursts, ends in one of the ways there are
    the caretaker  asks for heap.check, freezes and unfreezes, lets `saveall` fill gc.garbage, unbinds what names keep

What must hold meanwhile: every request is answered in order, with no error but those that its words may have; what a
session holds is there, a weakref to it tells so, and what nobody else knows of has the contents that it was given.
At the end all is let go: nothing lives but the immortals, heap.check is clean, the daemon ends with code 0, and its
sanitizer has said nothing.

    stress_requests.py   what the requests are        side_heapd.py   the daemon
Start at Client.run().
"""
import argparse
import collections
import json
import os
import random
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True

from side_heapd import Daemon
from stress_requests import MAY_BE_WRONG, Requests

PATIENCE = 600  # seconds for a reply: only a hang takes as long
ENDINGS = ("close", "reset", "close unread", "reset unread", "half-close")


class Wrong(Exception):
    """The daemon did what it must not do."""


class World:
    """What the clients share; lists and sets are only added to and read, which threads may do."""

    def __init__(self, path, seed):
        self.path, self.seed = path, seed
        self.lie = None                              # a function that falsifies replies
        self.caretaker = None                        # its number as a client
        self.ids = collections.deque(maxlen=60)      # of objects that anybody may use
        self.of_type = {kind: collections.deque(maxlen=8) for kind in ("list", "dict", "set", "Node")}
        self.tokens = collections.deque(maxlen=4)    # of leased sessions
        self.clients = collections.deque(maxlen=16)  # numbers for server.kill
        self.is_over = False
        self.wrong = []                              # what went wrong, sentences
        self.counts = collections.Counter()          # "method", "method error", "life", "ending ..."
        self.lock = threading.Lock()                 # guards counts

    def count(self, counts):
        with self.lock:
            self.counts.update(counts)


class Line:
    """A connection: lines out, replies in, events left out."""

    def __init__(self, world):
        self.lie = world.lie
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(world.path)
        self.lines = self.socket.makefile("rb")
        self.events = collections.Counter()

    def send(self, requests):
        self.socket.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))

    def reply(self):
        """The next reply, None at the end of the connection."""
        while True:
            try:
                line = self.lines.readline()
            except socket.timeout:
                raise Wrong("no reply within %d s" % PATIENCE) from None
            except OSError:
                return None
            if not line.endswith(b"\n"):
                return None
            reply = json.loads(line)
            if isinstance(reply, dict) and reply.get("method") == "event":
                self.events["event " + reply["params"]["event"]] += 1
            else:
                return self.lie(reply) if self.lie else reply

    def one(self, method, **params):
        self.send([{"id": 0, "method": method, "params": params}])
        reply = self.reply()
        if reply is None or "result" not in reply:
            raise Wrong("%s %s: %s" % (method, params, reply))
        return reply["result"]

    def end(self, how):
        if how.startswith("reset"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half-close":
            self.socket.shutdown(socket.SHUT_WR)
            while self.reply() is not None:
                pass
        self.lines.close()
        self.socket.close()


class Client(threading.Thread):
    """One life after the other."""

    def __init__(self, world, number):
        super().__init__(name="client %d" % number)
        self.world, self.number = world, number
        self.random = random.Random("%s/%d" % (world.seed, number))
        self.waits_for = None
        self.counts = collections.Counter()

    def run(self):
        try:
            while not self.world.is_over:
                self.live()
                self.world.count(self.counts)
                self.counts.clear()
        except (Wrong, OSError, ValueError, KeyError) as error:
            self.world.wrong.append("%s: %s: %s; it had asked %s" % (self.name, type(error).__name__, error,
                                                                   json.dumps(self.waits_for)))
            self.world.is_over = True

    def live(self):
        line = Line(self.world)
        requests = Requests(self.random, self.world)
        self.counts["life"] += 1
        lasts = self.random.choice((1, 5, 20, 60))
        while lasts > 0 and not self.world.is_over:
            lasts -= 1
            if not self.burst(line, requests):
                self.counts["ending killed"] += 1
                return line.end("close")
        how = self.random.choice(ENDINGS)
        self.counts["ending " + how] += 1
        if "unread" in how or how == "half-close":
            try:
                line.send(self.encode(requests.burst()))
            except OSError:  # killed just now
                pass
        try:
            line.end(how)
        except OSError:
            pass
        self.counts.update(line.events)
        return None

    def encode(self, burst):
        """The burst as lines, some of its requests together as batches."""
        lines = []
        for request in burst:
            message = {"method": request.method, "params": request.params}
            if request.is_answered:
                message["id"] = request.number
            if self.random.random() < 0.5:
                message["jsonrpc"] = "2.0"
            if lines and isinstance(lines[-1], list) and self.random.random() < 0.7:
                lines[-1].append(message)
            elif self.random.random() < 0.05:
                lines.append([message])
            else:
                lines.append(message)
        return lines

    def burst(self, line, requests):
        """Sends some requests and reads their replies.  False: the daemon has closed the connection."""
        sent = requests.burst()
        lines = self.encode(sent)
        self.waits_for = lines
        waiting = collections.deque(request for request in sent if request.is_answered)
        try:
            line.send(lines)
        except OSError:
            return False
        while waiting:
            reply = line.reply()
            if reply is None:
                return False
            for one in reply if isinstance(reply, list) else [reply]:
                self.judge(waiting.popleft(), one, requests)
        self.waits_for = None
        return True

    def judge(self, request, reply, requests):
        if reply.get("id") != request.number:
            raise Wrong("%s is answered by %s" % (request, reply))
        if "error" in reply:
            word = reply["error"]["data"]["error"]
            self.counts["%s %s" % (request.method, word)] += 1
            if word not in MAY_BE_WRONG or request.must_succeed:
                raise Wrong("%s: %s" % (request, reply))
            return
        self.counts[request.method] += 1
        found = request.judge(reply["result"]) if request.judge else None
        if found:
            raise Wrong("%s: %s, and was told %s" % (request, found, json.dumps(reply)[:500]))
        requests.learn(request, reply["result"])


# ---- the caretaker ----

def check(line):
    found = line.one("heap.check")
    if not found["ok"]:
        raise Wrong("heap.check: %s" % found["problems"])


def unbind_all(line):
    names = line.one("name.list", limit=100000)["names"]
    line.send([{"method": "name.unbind", "params": [name["name"]]} for name in names])


def care(line, world, daemon, seconds):
    """Until the time is over or something is wrong."""
    chooser = random.Random("%s/caretaker" % world.seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until and not world.is_over:
        time.sleep(chooser.choice((0.05, 0.2, 0.5)))
        if daemon.process.poll() is not None:
            raise Wrong("the daemon has ended with code %s" % daemon.process.returncode)
        what = chooser.randrange(6)
        if what == 0:
            check(line)
        elif what == 1:
            line.one("gc.freeze")
        elif what == 2:
            line.one("gc.unfreeze")
        elif what == 3:
            line.one("gc.set_debug", flags=chooser.choice(([], ["saveall"], [])))
        elif what == 4:
            line.one("gc.garbage", clear=True)
        else:
            unbind_all(line)
        world.clients.extend(row["client"] for row in line.one("server.clients")["clients"]
                             if row["client"] not in (None, world.caretaker))


def let_go(line):
    """Everything.  A finalizer may bring something back under a name, each once."""
    line.one("gc.set_debug", flags=[])
    line.one("gc.unfreeze")
    until = time.monotonic() + PATIENCE
    while line.one("stats", section="sessions")["count"] > 1:  # ends that are under way, leases that run out
        time.sleep(0.1)
        if time.monotonic() > until:
            raise Wrong("sessions do not end: %s" % line.one("server.clients"))
    while True:
        line.one("gc.garbage", clear=True)
        unbind_all(line)
        line.one("collect")
        if not line.one("name.list")["names"]:
            break
    return line.one("stats", section="objects")


def run(daemon, world, arguments):
    """Adds to world.wrong, or raises Wrong."""
    line = Line(world)
    clients = line.one("server.clients")["clients"]
    world.caretaker = clients[0]["client"]
    before = line.one("stats", section="objects")
    threads = [Client(world, i) for i in range(arguments.clients)]
    for thread in threads:
        thread.start()
    try:
        care(line, world, daemon, arguments.seconds)
    finally:
        world.is_over = True
        for thread in threads:
            thread.join()
    if world.wrong:
        return
    after = let_go(line)
    check(line)
    for what in ("live", "immortal"):
        if after[what] != before[what]:
            raise Wrong("%d objects are %s, %d were before: %s" % (after[what], what, before[what], after["types"]))
    world.counts["collections"] = sum(g["collections"] for g in line.one("gc.get_stats"))
    world.counts["forced switches"] = line.one("stats", section="gil")["forced_switches"]
    line.end("close")


def report(world, arguments):
    answered = sum(n for what, n in world.counts.items() if "." in what or what in ("create", "ref", "unref", "get"))
    errors = sum(n for what, n in world.counts.items() if what.split()[-1] in MAY_BE_WRONG)
    print("%d requests answered, %d of them with errors, %d lives, %d collections, %d forced switches in %d s" % (
        answered, errors, world.counts["life"], world.counts["collections"], world.counts["forced switches"],
        arguments.seconds))
    if arguments.counts:
        for what, count in sorted(world.counts.items()):
            print("  %-40s %d" % (what, count))
    if answered - errors < 100 or errors == 0 or (arguments.stress and world.counts["collections"] == 0):
        world.wrong.append("hardly anything was done")


# ---- falsified answers ----

def of_result(member, wrong):
    """A lie about this member of results, or, with member None, about results that are lists."""
    def lie(reply):
        result = reply.get("result") if isinstance(reply, dict) else None
        if isinstance(result, dict) and member in result:
            result[member] = wrong(result[member])
        elif member is None and isinstance(result, list) and result:
            result.append(0)
        return reply
    return lie


def of_errors(reply):
    if isinstance(reply, dict) and "error" in reply:
        reply["error"]["data"]["error"] = "internal_error"
    return reply


def of_ids(reply):
    if isinstance(reply, dict) and reply.get("id"):
        reply["id"] += 1
    return reply


LIES = {"a counter": of_result("value", lambda value: value + 1), "a list": of_result(None, None), "errors": of_errors,
        "ids": of_ids, "heap.check": of_result("ok", lambda ok: False), "what is uncollectable": of_result("uncollectable", lambda none: 1)}


def self_test(arguments):
    failed = 0
    more = iter(range(1000000))
    for what, lie in [*LIES.items(), ("what lives", of_result("live", lambda live: live + next(more)))]:
        wrong = stress(arguments, lie)
        print("%s: %s" % (what, "told" if wrong else "NOT TOLD"))
        failed += not wrong
    return 1 if failed else 0


# ---- the run ----

def stress(arguments, lie=None):
    """What went wrong."""
    environment = {"HEAPD_STRESS": arguments.stress}
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS"):  # an assertion that fails tells where
        environment[name] = os.environ.get(name, "") + ":handle_abort=1"
    daemon = Daemon(os.environ.get("HEAPD_BIN", "build/heapd"),
                    ["--threads", str(arguments.threads), "--log-level", "error"], environment)
    world = World(daemon.path, arguments.seed)
    world.lie = lie
    try:
        run(daemon, world, arguments)
    except (Wrong, OSError) as error:
        world.wrong.append("the caretaker: %s" % error)
    complaint = daemon.stop()
    if complaint:
        world.wrong.append(complaint)
    if not lie:
        report(world, arguments)
    return world.wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.SystemRandom().randrange(10 ** 9)))
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--threads", type=int, default=3, help="of the daemon")
    parser.add_argument("--stress", default="collect=1,slice=1,interval=1", help="HEAPD_STRESS of the daemon")
    parser.add_argument("--counts", action="store_true", help="how often each reply came")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    print("SEED=%s" % arguments.seed, flush=True)
    if arguments.self_test:
        return self_test(arguments)
    wrong = stress(arguments)
    for what in wrong:
        print("FAILED: %s" % what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
