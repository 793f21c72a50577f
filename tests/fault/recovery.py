#!/usr/bin/env python3
"""recovery.py -- how fast a heap of many objects is there again, from its journal and from a snapshot.

    tests/fault/recovery.py [--objects 10000000] [--heapd build/heapd]

Lists of one float, a hundred thousand objects a name, of which each tenth is made twice and each twentieth let go of again,
so that the journal has more than the heap.  Prints objects a second from the start of the process to its first answer; what is
there must be what was made, and heap.check clean.  The goal is a million a second; a slow machine fails nothing here.
While it loads, what may answer answers, and all else is `unavailable`, or 503.
Start at main().
"""
import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 600
LISTS = 50000  # of a name: a list of so many lists of one float each
EACH = 1 + 2 * LISTS
STATUS_WHILE_LOADING = {"/healthz": 200, "/readyz": 503, "/": 503, "/metrics": 503, "/heap.dot": 503}
ASKED_WHILE_LOADING = (("ping", []), ("stats", ["server"]), ("list.len", ["n0"]), ("name.list", []))


class Wrong(Exception):
    """What is not as it must be."""


class Daemon:
    def __init__(self, heapd, folder, snapshot_bytes=None, more=()):
        self.path = os.path.join(folder, "socket")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEAPD_")}
        if snapshot_bytes is not None:
            environment["HEAPD_SNAPSHOT_BYTES"] = str(snapshot_bytes)
        began = time.monotonic()
        self.process = subprocess.Popen(
            [heapd, "--listen", "unix:" + self.path, "--data-dir", os.path.join(folder, "data"), "--log-level", "error",
             *more], stdout=subprocess.PIPE, env=environment)
        self.socket = self.connect()
        self.lines = self.socket.makefile("rb")
        self.was_seen_loading = self.look_while_it_loads()
        while self.is_loading():
            time.sleep(0.005)
        self.seconds = time.monotonic() - began

    def connect(self):
        """As soon as it listens, which is before it is ready."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(PATIENCE_S)
            try:
                peer.connect(self.path)
                return peer
            except (FileNotFoundError, ConnectionRefusedError):
                peer.close()
                time.sleep(0.001)
        raise Wrong("it does not listen")

    def is_loading(self):
        return "unavailable" in json.dumps(self.ask("stats", ["objects"]))

    def look_while_it_loads(self):
        """Whether it still loaded when all had been asked; only then can the answers be judged.  What SIGHUP reads again, the
        limits of the heap among it, does not hold for what is loaded."""
        self.process.send_signal(signal.SIGHUP)
        webs = {path: self.begin_get(path) for path in STATUS_WHILE_LOADING}
        self.socket.sendall(b"".join(json.dumps({"id": method, "method": method, "params": params}).encode() + b"\n"
                                     for method, params in ASKED_WHILE_LOADING))
        replies = {reply["id"]: reply for reply in (json.loads(self.lines.readline()) for _ in ASKED_WHILE_LOADING)}
        seen = {path: int(web.recv(64).split()[1]) for path, web in webs.items()}
        for web in webs.values():
            web.close()
        if not self.is_loading():
            return False
        if seen != STATUS_WHILE_LOADING:
            raise Wrong(f"while it loads: {seen}")
        words = {method: reply.get("error", {}).get("data", {}).get("error") for method, reply in replies.items()}
        if words != {"ping": None, "stats": None, "list.len": "unavailable", "name.list": "unavailable"}:
            raise Wrong(f"while it loads: {words}")
        return True

    def begin_get(self, path):
        web = self.connect()
        web.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return web

    def ask(self, method, params):
        return self.send(json.dumps({"id": 1, "method": method, "params": params}))

    def send(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return json.loads(self.lines.readline())

    def call(self, method, params):
        reply = self.ask(method, params)
        if "result" not in reply:
            raise Wrong(f"{method}: {reply}")
        return reply["result"]

    def stop(self):
        self.lines.close()
        self.socket.close()
        self.process.terminate()
        if self.process.wait(PATIENCE_S) != 0:
            raise Wrong(f"the daemon ended with code {self.process.returncode}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def make(daemon, objects):
    """How many objects there are then."""
    names = max(1, objects // EACH)
    count = 0
    for i in range(names):
        value = "[" + ",".join(f"[{i * LISTS + k}.5]" for k in range(LISTS)) + "]"
        line = f'{{"id":1,"method":"create","params":[{value},"n{i}"]}}'
        for _ in range(2 if i % 10 == 0 else 1):
            if "result" not in daemon.send(line):
                raise Wrong("create")
        daemon.ask("session.close", [])
        if i % 20 == 19:
            daemon.call("name.unbind", [f"n{i}"])
        else:
            count += EACH
    return count


def await_snapshot(data):
    deadline = time.monotonic() + PATIENCE_S
    while not any(name.endswith(".snapshot") for name in os.listdir(data)):
        if time.monotonic() > deadline:
            raise Wrong("no snapshot was written")
        time.sleep(0.05)


def size_of(data, kind):
    return sum(os.path.getsize(os.path.join(data, name)) for name in os.listdir(data) if name.endswith(kind)) / 1e6


def check(daemon, count, what, megabytes):
    print(f"{what}: {count} objects in {daemon.seconds:.2f} s, {count / daemon.seconds / 1e6:.2f} million a second, "
          f"{megabytes:.0f} MB", flush=True)
    checked = daemon.call("heap.check", [])
    if not checked["ok"] or checked["objects"] != count:
        raise Wrong(f"{what}: wanted {count} objects, heap.check says {checked}")
    if daemon.call("get", ["n0", -1])[LISTS - 1] != [LISTS - 0.5]:
        raise Wrong(f"{what}: another value")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, default=10000000)
    parser.add_argument("--heapd", default="build/heapd")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="heapd-recovery-")
    data = os.path.join(folder, "data")
    daemon = None
    try:
        daemon = Daemon(options.heapd, folder, 1 << 40)
        count = make(daemon, options.objects)
        daemon.stop()
        daemon = Daemon(options.heapd, folder, 1 << 40, ["--max-memory", "1m"])
        check(daemon, count, "from the journal", size_of(data, ".journal"))
        was_seen_loading = daemon.was_seen_loading
        daemon.stop()
        daemon = Daemon(options.heapd, folder, 1)
        daemon.call("create", [[], "last"])
        daemon.call("name.unbind", ["last"])
        await_snapshot(data)
        daemon.stop()
        daemon = Daemon(options.heapd, folder, 1 << 40, ["--max-memory", "1m"])
        check(daemon, count, "from a snapshot", size_of(data, ".snapshot"))
        daemon.stop()
        if not was_seen_loading and not daemon.was_seen_loading:
            raise Wrong("it had loaded before it could be asked, both times")
    except Wrong as reason:
        print(f"WRONG: {reason}")
        return 1
    finally:
        if daemon is not None:
            daemon.kill()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
