#!/usr/bin/env python3
"""soak.py -- an hour of everything at once: memory and latencies stay flat, what lives is what the clients know of.

    tests/fault/soak.py [--seconds 3600] [--sanitizer] [--heapd build/heapd] [-- options of heapd]
    tests/fault/soak.py --self-test     the judges, on figures that are wrong on purpose and on an object too many

Clients of soak_load.py work on one daemon with automatic collection.  After a warm-up (five minutes, or a quarter
of the time) the rest is ten tenths; each ends with a moment without work, and has a line of figures:

    rss       median of Rss (smaps_rollup), once a second, while there is work
    live      objects after a collection, which must be those that the clients know of, not one more
    cpu       of the daemon, a request
    p50, p99  of small requests, and of an echo between two other processes asked beside each: the machine's own part

Flat means: rss of the second five tenths within 2 % of the first five's, and no tenth far off (questions about the
whole heap take memory for a moment); p50, p99 and cpu of the last three tenths no worse than of the first three by
more than the factors below, as they are or as multiples of the echo's.  At the end everything is let go: nothing lives
but the immortals, heap.check is clean, the daemon ends with code 0.

--sanitizer takes build/address/heapd; its leak check ends the run.  rss, latencies and cpu are not judged then, nor
in runs of less than two minutes.
SEED=N repeats a run, as far as the machine's timing lets it.  Start at soak().
"""
import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from soak_load import PATIENCE_S, Churner, Keeper, Line, Prober, Web

TENTHS = 10
RSS_FACTOR = 1.02
RSS_SPREAD = 1.1  # the highest tenth beside the lowest
P50_FACTOR = 1.25
P99_FACTOR = 2.0  # of a machine that others use, too
CPU_FACTOR = 1.25


class Wrong(Exception):
    """What is not as it must be."""


class Daemon:
    def __init__(self, options):
        self.folder = tempfile.mkdtemp(prefix="heapd-soak-")
        self.path = os.path.join(self.folder, "socket")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEAPD_")}
        self.process = subprocess.Popen(
            [options.heapd, "--listen", "unix:" + self.path, "--listen", "tcp:127.0.0.1:0", "--log-level", "error",
             *options.more], stdout=subprocess.PIPE, stderr=self.log, env=environment)
        ready = self.process.stdout.readline().decode()
        if not ready.startswith("heapd ready"):
            raise Wrong("heapd does not start: %s" % self.stop())
        self.port = int(ready.rsplit(":", 1)[1])

    def rss(self):
        """Bytes."""
        with open("/proc/%d/smaps_rollup" % self.process.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) * 1024

    def cpu(self):
        """Seconds."""
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Ends it; returns what is wrong with how it ended, or None."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.process.stdout.close()
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        self.log.close()
        shutil.rmtree(self.folder)
        if code != 0 or "Sanitizer" in log or "runtime error" in log:
            return "heapd ended with code %d:\n%s" % (code, log)
        return None


# ---- the clients ----

class Clients:
    """All of them, and a connection of our own."""

    def __init__(self, daemon, seed):
        self.line = Line(daemon.path)
        self.line.one("create", {"$class": "Kept"}, "keep-class")
        kinds = [Keeper, Keeper, Churner, Web, Prober]
        self.workers = [kind(number, seed, daemon) for number, kind in enumerate(kinds)]
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            self.hear(worker)

    def hear(self, worker):
        """What the worker has to say; a sentence is a complaint."""
        if not worker.pipe.poll(PATIENCE_S):
            raise Wrong("%s says nothing" % worker.name)
        said = worker.pipe.recv()
        if isinstance(said, str) and said != "ready":
            raise Wrong("%s: %s" % (worker.name, said))
        return said

    def look(self):
        """Raises when a worker has given up."""
        for worker in self.workers:
            if worker.pipe.poll():
                self.hear(worker)

    def pause(self):
        """The workers' reports, as one."""
        for worker in self.workers:
            worker.pipe.send("pause")
        reports = [self.hear(worker) for worker in self.workers]
        self.settle()
        found = {name: value for report in reports for name, value in report.items()}
        found["objects"] = sum(report["objects"] for report in reports) + 1  # the class
        return found

    def settle(self):
        """Until sessions that end have ended, and nothing of the churners is left."""
        ours = 1 + sum(isinstance(worker, (Keeper, Prober)) for worker in self.workers)
        until = time.monotonic() + PATIENCE_S
        while (count := self.line.one("stats", "sessions")["count"]) != ours:
            if time.monotonic() > until:
                raise Wrong("%d sessions, %d would be right: %s" % (count, ours, self.line.one("server.clients")))
            time.sleep(0.05)
        self.unbind()

    def unbind(self):
        """A finalizer may bring something back under a name, each once."""
        while True:
            self.line.one("collect")
            bound = [row["name"] for prefix in ("n", "Node") for row in self.line.one("name.list", prefix)["names"]]
            if not bound:
                return
            self.line.many([("name.unbind", [name]) for name in bound])

    def tell(self, word):
        for worker in self.workers:
            worker.pipe.send(word)
        if word == "end":
            for worker in self.workers:
                worker.join(PATIENCE_S)

    def give_up(self):
        for worker in self.workers:
            worker.terminate()


# ---- figures ----

def at(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e6


def figures(daemon, clients, rss, began):
    """Of the tenth that ends now; the clients are made to pause, and go on."""
    cpu = daemon.cpu()
    found = clients.pause()
    objects, server = clients.line.one("stats", "objects"), clients.line.one("stats", "server")
    requests = server["requests"] + server["notifications"]
    row = {"rss": statistics.median(rss) / 2 ** 20, "rss_max": max(rss) / 2 ** 20, "live": objects["live"],
           "known": found["objects"], "bytes": objects["bytes"] / 2 ** 20, "requests": requests - began["requests"],
           "cpu": (cpu - began["cpu"]) / max(1, requests - began["requests"]) * 1e6,
           "p50": at(found["took"], 0.5), "p99": at(found["took"], 0.99),
           "echo_p50": at(found["echo"], 0.5), "echo_p99": at(found["echo"], 0.99),
           "errors": sum(server["errors"].values()), "churned": found["churned"],
           "collections": [generation["collections"] for generation in clients.line.one("gc.get_stats")]}
    check = clients.line.one("heap.check")
    if not check["ok"]:
        raise Wrong("heap.check: %s" % check["problems"][:5])
    if row["live"] != row["known"]:
        raise Wrong("%(live)d objects live, the clients know of %(known)d" % row)
    clients.tell("go")
    began.update(requests=requests, cpu=daemon.cpu())
    return row


HEAD = "          rss MiB    max    live  data MiB  requests  cpu us  p50 us (echo)    p99 us (echo)  collections"
ROW = ("%(what)-8s %(rss)8.2f %(rss_max)6.2f %(live)7d %(bytes)9.2f %(requests)9d %(cpu)7.1f %(p50)7.1f"
       " (%(echo_p50)5.1f) %(p99)8.1f (%(echo_p99)6.1f)  %(collections)s")


def work(daemon, clients, seconds, began, what):
    """Lets them work; the line of figures."""
    until, rss = time.monotonic() + seconds, []
    while time.monotonic() < until:
        time.sleep(min(1, seconds / 5))
        clients.look()
        if daemon.process.poll() is not None:
            raise Wrong("the daemon has ended with code %d" % daemon.process.returncode)
        rss.append(daemon.rss())
    row = figures(daemon, clients, rss, began)
    print(ROW % dict(row, what=what), flush=True)
    return row


# ---- judges ----

def judge_flat(rows):
    """What is not flat: sentences."""
    wrong = []
    drift, low, high = rss_drift(rows), min(row["rss"] for row in rows), max(row["rss"] for row in rows)
    if not 1 / RSS_FACTOR <= drift <= RSS_FACTOR or high > low * RSS_SPREAD:
        wrong.append("rss is not flat: %.2f to %.2f MiB, drift %+.2f %%" % (low, high, 100 * (drift - 1)))
    for name, factor, beside in (("p50", P50_FACTOR, "echo_p50"), ("p99", P99_FACTOR, "echo_p99"),
                                 ("cpu", CPU_FACTOR, None)):
        as_it_is = growth(rows, lambda row: row[name])
        of_echo = growth(rows, lambda row: row[name] / row[beside]) if beside else as_it_is
        if min(as_it_is, of_echo) > factor:
            wrong.append("%s is %.2f times what it was at first, %.2f times beside the echo" % (
                name, as_it_is, of_echo))
    return wrong


def rss_drift(rows):
    """The second half's as a multiple of the first half's."""
    values = [row["rss"] for row in rows]
    half = len(values) // 2
    return statistics.mean(values[half:]) / statistics.mean(values[:half])


def growth(rows, figure):
    """The last three tenths' median as a multiple of the first three's."""
    values = [figure(row) for row in rows]
    return statistics.median(values[-3:]) / statistics.median(values[:3])


def judge_work(rows):
    """Whether enough was done for the rest to mean something."""
    last = rows[-1]
    if last["requests"] < 10 or last["churned"] < 50 or last["errors"] == 0 or not all(last["collections"]):
        return ["hardly anything was done"]
    return []


def self_test(options, seed):
    flat = {"rss": 100.0, "p50": 50.0, "p99": 200.0, "cpu": 20.0, "echo_p50": 10.0, "echo_p99": 40.0}
    cases = [("flat", {}, 0), ("rss grows", {"rss": lambda i: 100 + i * 0.5}, 1),
             ("rss grows a little", {"rss": lambda i: 100 + i * 0.1}, 0),
             ("rss shrinks", {"rss": lambda i: 100 - i * 0.5}, 1),
             ("rss jumps once", {"rss": lambda i: 112 if i == 4 else 100}, 1),
             ("p50 grows", {"p50": lambda i: 50 + 3 * i}, 1), ("p99 grows", {"p99": lambda i: 200 + 50 * i}, 1),
             ("cpu grows", {"cpu": lambda i: 20 + i}, 1),
             ("one slow tenth", {"p99": lambda i: 900 if i == 5 else 200}, 0),
             ("the machine is slower", {"p50": lambda i: 50 + 10 * i, "echo_p50": lambda i: 10 + 2 * i}, 0)]
    failed = 0
    for what, series, expected in cases:
        rows = [dict(flat, **{name: value(i) for name, value in series.items()}) for i in range(TENTHS)]
        found = judge_flat(rows)
        failed += len(found) != expected
        print("%s: %s" % (what, found or "fine"))
    idle = {"requests": 5, "churned": 0, "errors": 0, "collections": [0, 0, 0]}
    failed += not judge_work([idle])
    options.seconds = 8
    found = soak(options, seed, planted=1)
    print("one object too many: %s" % found)
    failed += not (len(found) == 1 and "the clients know of" in found[0])
    return 1 if failed else 0


# ---- the run ----

def end(daemon, clients):
    """Everything is let go of, and is gone."""
    clients.pause()
    clients.tell("end")
    clients.line.one("name.unbind", "keep-class")
    until = time.monotonic() + PATIENCE_S
    while clients.line.one("stats", "sessions")["count"] > 1 and time.monotonic() < until:
        time.sleep(0.05)
    clients.line.one("collect")
    left = clients.line.one("stats", "objects")
    if left["live"] != 0:
        raise Wrong("%d objects are left: %s" % (left["live"], left["types"]))
    if not clients.line.one("heap.check")["ok"]:
        raise Wrong("heap.check at the end")
    print("all let go: rss %.2f MiB" % (daemon.rss() / 2 ** 20))
    clients.line.close()


def soak(options, seed, planted=0):
    """What went wrong: sentences.  `planted` objects are made that nobody counts."""
    warm_up = min(300, options.seconds / 4)
    daemon = Daemon(options)
    clients, wrong, rows = None, [], []
    try:
        clients = Clients(daemon, seed)
        for i in range(planted):
            clients.line.one("create", 1.5 + i, "planted-%d" % i)
        print(HEAD, flush=True)
        began = {"requests": 0, "cpu": 0.0}
        work(daemon, clients, warm_up, began, "warm-up")
        for i in range(TENTHS):
            rows.append(work(daemon, clients, (options.seconds - warm_up) / TENTHS, began, "%d/10" % (i + 1)))
        end(daemon, clients)
    except (Wrong, AssertionError, OSError) as error:
        wrong.append(str(error))
    finally:
        if clients is not None:
            clients.give_up()
    complaint = daemon.stop()
    wrong += [complaint] if complaint else []
    if not wrong:
        low, high = min(row["rss"] for row in rows), max(row["rss"] for row in rows)
        print("rss of the tenths: %.2f to %.2f MiB (%.2f %%), the second half %+.2f %%" % (
            low, high, 100 * (high / low - 1), 100 * (rss_drift(rows) - 1)))
        wrong += judge_work(rows)
        wrong += [] if options.sanitizer or options.seconds < 120 else judge_flat(rows)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--sanitizer", action="store_true", help="build/address/heapd; only what lives is judged")
    parser.add_argument("--heapd")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("more", nargs="*", help="further options of heapd, behind --")
    options = parser.parse_args()
    options.heapd = options.heapd or ("build/address/heapd" if options.sanitizer else "build/heapd")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the daemon is ended, too
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(10 ** 9))
    if options.self_test:
        return self_test(options, seed)
    print("SEED=%s, %d s on %s" % (seed, options.seconds, options.heapd), flush=True)
    wrong = soak(options, seed)
    for what in wrong:
        print("FAILED: %s" % what)
    print("soak of %d s: %s" % (options.seconds, "FAILED" if wrong else "nothing left over, flat where it is judged"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
