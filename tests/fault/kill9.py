#!/usr/bin/env python3
"""kill9.py -- kill -9 at random moments, and an independent model of what must be there afterwards.

    tests/fault/kill9.py [--rounds 20] [--writers 8] [--fsync always] [--heapd build/heapd] [--snapshots]

A round: writers, each with a connection, a leased session and names of its own, send random changes in small
pipelines; at a random moment the daemon is killed, and started again on the same folder.  Each writer knows from its
own model what it was answered.  What it finds afterwards must be the model's state after all that was acknowledged, or
after some more of what was sent, in order: so nothing acknowledged is missing, and nothing is half there.  With
--fsync everysec what was acknowledged in the last second may be missing, still in order; only rounds that are longer,
--longest 4, can break that, and --within 3 lets a disk that others keep busy be late.

Besides: ids are those that were told, and are never given again; a counter that all writers increment is between what was
acknowledged and what was sent; rings of garbage come back by their finalizers, whole or not yet; stars of garbage, which
are swept in slices, with a line of the journal for each, are no damage; heap.check is clean.

SEED=N repeats a run, as far as the machine's timing lets it.
"""
import argparse
import collections
import copy
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE_S = 120


class Connection:
    """Lines out, replies in; events are passed over."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, requests):
        text = "".join(json.dumps({"id": number, "method": method, "params": params}) + "\n"
                       for number, (method, params) in enumerate(requests))
        self.socket.sendall(text.encode())

    def receive(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("the daemon is gone")
            reply = json.loads(line)
            if reply.get("method") != "event":
                return reply

    def call(self, method, *params):
        self.send([(method, list(params))])
        return self.receive()

    def result(self, method, *params):
        reply = self.call(method, *params)
        if "result" not in reply:
            raise AssertionError(f"{method} {params}: {reply}")
        return reply["result"]

    def close(self):
        self.file.close()
        self.socket.close()


class Daemon:
    def __init__(self, options, folder):
        self.path = os.path.join(folder, "heapd.sock")
        self.command = [options.heapd, "--listen", "unix:" + self.path, "--data-dir", os.path.join(folder, "data"),
                        "--fsync", options.fsync, "--log-level", "warning"] + options.more
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE)
        if not self.process.stdout.readline():
            raise AssertionError(f"the daemon did not start: exit code {self.process.wait()}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def connect(self):
        return Connection(self.path)


def random_value(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 4)
    if kind == 0:
        return rng.randrange(-1000, 100000)
    if kind == 1:
        return "".join(rng.choice("abc\u00e9\n\"") for _ in range(rng.randrange(12)))
    if kind == 2:
        return rng.choice([None, True, False, 1.5, -0.25])
    if kind == 3:
        return rng.choice([[], {}])
    if kind < 6:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice("pqrst") + str(rng.randrange(20)): random_value(rng, depth + 1) for _ in range(rng.randrange(5))}


fresh = copy.deepcopy  # a value is one object in the request, and another one in each state


class Change:
    """A request, and what it does to a writer's state when it is answered."""

    def __init__(self, method, params, apply):
        self.method, self.params, self.apply = method, params, apply


class Writer:
    """One client: what it believes, and what it does."""

    NAMES = 5

    def __init__(self, number, seed, daemon):
        self.number = number
        self.rng = random.Random(seed)
        self.daemon = daemon
        self.state = {"names": {}, "holds": 0, "held": []}  # after all that was acknowledged
        self.old = []           # (time, state) before changes of the last seconds
        self.pending = []       # sent, not acknowledged
        self.counted = 0        # acknowledged increments of the shared counter
        self.counting = 0       # sent ones
        self.rings = {}         # name -> whether its finalizer was set for sure
        self.ring_number = 0
        self.is_making = False  # garbage, of which it has a hold for a while
        self.ids = {}           # name -> id, as it was told
        self.token = None
        self.connection = None
        self.error = None

    def name(self):
        return f"w{self.number}.{self.rng.randrange(self.NAMES)}"

    def begin(self):
        self.connection = self.daemon.connect()
        if self.token is None:
            self.token = self.connection.result("session.open", 3600000)["session"]
        else:
            self.connection.result("session.resume", self.token)

    # ---- changes: each takes the state as the writer expects it to be ----

    def next_change(self, state):
        rng, names = self.rng, state["names"]
        name = self.name()
        value = random_value(rng)
        kind = rng.randrange(20)
        if name not in names or kind == 0:
            return Change("create", [value if isinstance(value, (list, dict)) else [value], name],
                          lambda s: s["names"].__setitem__(name, fresh(value) if isinstance(value, (list, dict)) else [value]))
        if kind == 1:
            return Change("name.unbind", [name], lambda s: s["names"].pop(name))
        if kind == 2:
            return Change("create", [value], lambda s: s.__setitem__("holds", s["holds"] + 1))
        if kind == 4 and state["held"]:
            held = rng.choice(state["held"])
            return Change("unref", [held], lambda s: (s.__setitem__("holds", s["holds"] - 1), s["held"].remove(held)))
        if kind == 3:
            return Change("dict.incr", ["shared", "count"], lambda s: None)
        there = names[name]
        if isinstance(there, list):
            return self.change_of_list(name, there, value)
        return self.change_of_dict(name, there, value)

    def change_of_list(self, name, there, value):
        rng = self.rng
        kind = rng.randrange(8)
        at = rng.randrange(len(there)) if there else 0
        if kind == 0 and there:
            return Change("list.pop", [name, at, False], lambda s: s["names"][name].pop(at))
        if kind == 1 and there:
            return Change("list.setitem", [name, at, value], lambda s: s["names"][name].__setitem__(at, fresh(value)))
        if kind == 2:
            return Change("list.insert", [name, at, value], lambda s: s["names"][name].insert(at, fresh(value)))
        if kind == 3 and there:
            return Change("list.delitem", [name, at], lambda s: s["names"][name].pop(at))
        if kind == 4 and len(there) > 20:
            return Change("list.clear", [name], lambda s: s["names"][name].clear())
        if kind == 5:
            more = [value, 7]
            return Change("list.extend", [name, more], lambda s: s["names"][name].extend(fresh(more)))
        return Change("list.append", [name, value], lambda s: s["names"][name].append(fresh(value)))

    def change_of_dict(self, name, there, value):
        rng = self.rng
        kind = rng.randrange(8)
        key = rng.choice("pqrst") + str(rng.randrange(20))
        if kind == 0 and there:
            key = rng.choice(list(there))
            return Change("dict.delitem", [name, key], lambda s: s["names"][name].pop(key))
        if kind == 1 and there:
            key = rng.choice(list(there))
            return Change("dict.pop", [name, key, False], lambda s: s["names"][name].pop(key))
        if kind == 2:
            return Change("dict.setdefault", [name, key, value], lambda s: s["names"][name].setdefault(key, fresh(value)))
        if kind == 3:
            return Change("dict.update", [name, {key: value}], lambda s: s["names"][name].update({key: fresh(value)}))
        if kind == 4 and len(there) > 15:
            return Change("dict.clear", [name], lambda s: s["names"][name].clear())
        return Change("dict.setitem", [name, key, value], lambda s: s["names"][name].__setitem__(key, fresh(value)))

    # ---- a writer's life ----

    def make_ring(self):
        """A ring that only its finalizer can bring back, some time later."""
        self.ring_number += 1
        name = f"ring{self.number}.{self.ring_number}"
        self.rings[name] = False
        self.is_making = True
        ring = self.connection.call("create", {"$let": {"A": [{"$label": "A"}, name]}, "in": {"$label": "A"}})
        ring = ring["result"]["object"]
        self.connection.result("finalizer.set", ring, name, name)
        self.connection.result("unref", ring)
        self.rings[name] = True
        self.is_making = False
        # What is refused leaves nothing behind that a collection could tell of.
        self.connection.call("dict.setitem", "shared", {"$let": {"A": [{"$label": "A"}]}, "in": {"$label": "A"}}, 1)
        if self.rng.randrange(3) == 0:
            self.connection.result("collect", self.rng.randrange(3))

    def make_star(self):
        """A list of lists, and of itself: more of them than a collection sweeps at a time."""
        self.is_making = True
        star = self.connection.result("create", [[] for _ in range(self.rng.choice([10, 1000, 40000]))])["object"]
        self.connection.result("list.append", star, {"$ref": star})
        self.connection.result("unref", star)
        self.is_making = False
        self.connection.result("collect", 2)

    def run(self):
        try:
            while True:
                if self.rng.randrange(30) == 0:
                    self.make_ring()
                if self.rng.randrange(60) == 0:
                    self.make_star()
                self.send_some()
        except (ConnectionError, OSError):
            pass
        except Exception as error:  # told by the main thread
            self.error = error

    def send_some(self):
        ahead = copy.deepcopy(self.state)
        changes = []
        for _ in range(self.rng.choice([1, 1, 1, 4, 16])):
            change = self.next_change(ahead)
            change.apply(ahead)
            changes.append(change)
            self.counting += change.method == "dict.incr"
        self.pending = changes
        self.connection.send([(change.method, change.params) for change in changes])
        while self.pending:
            reply = self.connection.receive()
            change = self.pending[0]
            if "result" not in reply:
                raise AssertionError(f"{change.method} {change.params}: {reply}")
            self.old.append((time.monotonic(), copy.deepcopy(self.state)))
            self.old = self.old[-400:]
            change.apply(self.state)
            self.pending.pop(0)
            self.counted += change.method == "dict.incr"
            if change.method == "create" and len(change.params) == 1:
                self.state["held"].append(reply["result"]["object"])
            elif change.method == "create":
                self.ids[change.params[1]] = reply["result"]["object"]

    # ---- after the restart ----

    def candidates(self, sure_until, everysec):
        """The states that may be found, the most likely first."""
        state = copy.deepcopy(self.state)
        yield state
        for change in self.pending:
            state = copy.deepcopy(state)
            change.apply(state)
            yield state
        if everysec:
            for when, old in reversed(self.old):
                if when >= sure_until:
                    yield old

    def check(self, sure_until, everysec):
        self.connection = self.daemon.connect()
        holds = self.connection.call("session.resume", self.token)
        if "result" not in holds:
            if everysec and not self.old:
                self.token = None
                return
            raise AssertionError(f"the leased session of writer {self.number} is gone: {holds}")
        candidates = list(self.candidates(sure_until, everysec))
        found = {"names": {}, "holds": holds["result"]["holds"],
                 "held": self.find_held({held for state in candidates for held in state["held"]})}
        for row in self.connection.result("name.list", f"w{self.number}.", 1000)["names"]:
            found["names"][row["name"]] = self.connection.result("get", row["object"], -1)
        for state in candidates:
            # Garbage that was being made may be held, or no more.
            extra = found["holds"] - state["holds"]
            if (state["names"] == found["names"] and self.are_held(state, found)
                    and (extra == 0 or extra == 1 and (self.is_making or everysec))):
                self.state = {"names": state["names"], "holds": found["holds"], "held": list(found["held"].elements())}
                break
        else:
            raise AssertionError(f"writer {self.number} finds {json.dumps(found)}, but knows "
                                 f"{json.dumps(self.state)} and {[(c.method, c.params) for c in self.pending]}")
        self.check_ids(everysec)
        self.check_rings(everysec)
        self.connection.close()
        self.pending, self.old, self.is_making = [], [], False

    def find_held(self, ids):
        """The holds of this writer's session on each of these, by what the daemon says of the objects."""
        probe = self.connection.result("create", [])["object"]
        ids = [probe, *ids]
        self.connection.send([("heap.inspect", [held]) for held in ids])
        rows = [self.connection.receive().get("result", {"sessions": []})["sessions"] for _ in ids]
        self.connection.result("unref", probe)
        session = rows[0][0]["session"]
        return collections.Counter({held: sum(row["holds"] for row in sessions if row["session"] == session)
                                    for held, sessions in zip(ids[1:], rows[1:])})

    @staticmethod
    def are_held(state, found):
        """Each hold is on the object that it was on.  Atoms have one id, however often they are created, so creates that
        were not answered may be further holds on ids that are known."""
        known = collections.Counter(state["held"])
        further = found["held"] - known
        return not known - found["held"] and further.total() <= found["holds"] - known.total()

    def check_ids(self, everysec):
        for name, told in self.ids.items():
            if name in self.state["names"] and not everysec:
                at = self.connection.result("name.lookup", name)["object"]
                if at < told % (1 << 32):
                    raise AssertionError(f"{name} was {told}, and is {at}")

    def check_rings(self, everysec):
        for name, is_sure in list(self.rings.items()):
            reply = self.connection.call("name.lookup", name)
            if "result" in reply:
                ring = reply["result"]["object"]
                value = self.connection.result("get", ring)
                if value != [{"$ref": ring}, name] or not self.connection.result("gc.is_finalized", ring):
                    raise AssertionError(f"{name} came back as {value}")
                self.connection.result("name.unbind", name)
            elif is_sure and not everysec:
                # After a restart everything unreachable has been collected, so its finalizer has run.
                raise AssertionError(f"{name} is lost")
            del self.rings[name]


def check_counter(connection, writers, before, everysec):
    value = connection.result("dict.getitem", "shared", "count", False, 0)["value"]
    least = before + sum(writer.counted for writer in writers)
    most = before + sum(writer.counting for writer in writers)
    if value > most or (value < least and not everysec):
        raise AssertionError(f"the counter is {value}, expected {least} to {most}")
    for writer in writers:
        writer.counted = writer.counting = 0
    return value


def check_heap(connection):
    report = connection.result("heap.check")
    if not report["ok"]:
        raise AssertionError(f"heap.check: {report['problems'][:5]}")


def run_round(daemon, writers, counter, options, rng):
    threads = []
    for writer in writers:
        writer.begin()
        threads.append(threading.Thread(target=writer.run))
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.01, options.longest))
    daemon.kill()
    sure_until = time.monotonic() - options.within
    for thread in threads:
        thread.join()
    for writer in writers:
        if writer.error is not None:
            raise writer.error
        writer.connection.close()
    daemon.start()
    everysec = options.fsync != "always"
    for writer in writers:
        writer.check(sure_until, everysec)
    connection = daemon.connect()
    counter = check_counter(connection, writers, counter, everysec)
    check_heap(connection)
    connection.close()
    return counter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--fsync", default="always", choices=["always", "everysec"])
    parser.add_argument("--heapd", default="build/heapd")
    parser.add_argument("--longest", type=float, default=0.25, help="seconds of a round at the most")
    parser.add_argument("--within", type=float, default=1.0, help="seconds that everysec may lose")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind when something is wrong")
    parser.add_argument("more", nargs="*", help="further options of heapd, behind --")
    options = parser.parse_args()
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="heapd-kill9-")
    daemon = Daemon(options, folder)
    changes, ok = 0, False
    try:
        daemon.start()
        connection = daemon.connect()
        connection.result("create", {"count": 0}, "shared")
        if options.fsync != "always":
            time.sleep(1.5)
        connection.close()
        writers = [Writer(number, rng.randrange(1 << 32), daemon) for number in range(options.writers)]
        counter = 0
        for number in range(options.rounds):
            counter = run_round(daemon, writers, counter, options, rng)
            if number % 50 == 49:
                print(f"{number + 1} rounds", flush=True)
        ok = True
        print(f"{options.rounds} rounds of kill -9, {options.writers} writers, --fsync {options.fsync}: nothing lost",
              flush=True)
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        if ok or not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"left in {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
