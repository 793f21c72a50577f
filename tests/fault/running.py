#!/usr/bin/env python3
"""running.py -- every call of the running daemon that can fail fails, under a load, beside a model.

    tests/fault/running.py [--seconds N] [--only memory] [--kills 1] [--heapd build/address/heapd]

A load (faultload.py) goes through all of a daemon with a journal (--fsync always), snapshots, TCP with a token, TLS and
HTTP, to see from where it calls malloc, write, fsync, accept and so on (faults.c).  Then it goes through it once for each
such site and each thing that can happen there: an error, less than was asked for, kill -9 before or after it.  Replies are
results, errors of the protocol, or do not come; then all that was acknowledged is there, nothing is half there, heap.check
is clean, no connection was forgotten, and changes go on.  The daemon lives on (where it was its disk that failed it is then
killed), but for

  a disk that fails otherwise than by being full   exit code 1, and it has said so
  no memory to keep what no request did            changes are refused until it is started anew, and it has said so
  kill -9

and after a restart all that was acknowledged is there, too.  A site that is only reached by a young daemon fails in one.
At last the wall clock jumps: nothing happens.  When it stops AddressSanitizer says what was not freed.

--seconds does as much of it, chosen at random, as fits into that time.  SEED=N chooses the same.
"""
import argparse
import collections
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import ALL_THAT_FOLLOW, ONCE, THAT_SITE, Clock, Daemon, seed_of_run  # noqa: E402
from faultload import TOKEN, Ledger, Wire, load, look  # noqa: E402

# How a call of each kind fails: what happens, and to which calls.
WAYS = {
    "memory": [("error", errno.ENOMEM, ONCE), ("error", errno.ENOMEM, ALL_THAT_FOLLOW)],
    "map": [("error", errno.ENOMEM, ONCE), ("error", errno.ENOMEM, ALL_THAT_FOLLOW)],
    "thread": [("error", errno.EAGAIN, ONCE)],
    "open": [("error", errno.EMFILE, ONCE), ("error", errno.ENOSPC, ONCE), ("error", errno.EIO, ONCE)],
    "file-write": [("error", errno.EIO, ONCE), ("error", errno.ENOSPC, ONCE), ("error", errno.EINTR, ONCE), ("short", 0, THAT_SITE),
                   ("short-error", errno.ENOSPC, THAT_SITE), ("short-error", errno.EIO, THAT_SITE)],
    "sync": [("error", errno.EIO, ONCE), ("error", errno.ENOSPC, ONCE), ("error", errno.EINTR, ONCE)],
    "rename": [("error", errno.EIO, ONCE), ("error", errno.ENOSPC, ONCE)],
    "unlink": [("error", errno.EIO, ONCE)],
    "room": [("error", errno.ENOSPC, ONCE), ("error", errno.EINTR, ONCE), ("error", errno.EIO, ONCE)],
    "socket-write": [("error", errno.ECONNRESET, ONCE), ("error", errno.EINTR, ONCE), ("error", errno.EAGAIN, ONCE),
                     ("short", 0, THAT_SITE), ("short-error", errno.ECONNRESET, THAT_SITE)],
    "socket-read": [("error", errno.ECONNRESET, ONCE), ("error", errno.EINTR, ONCE), ("error", errno.EAGAIN, ONCE),
                    ("short", 0, THAT_SITE)],
    "accept": [("error", errno.EMFILE, ONCE), ("error", errno.EINTR, ONCE), ("error", errno.ECONNABORTED, ONCE),
               ("error", errno.ENOBUFS, ONCE)],
    "log": [("error", errno.EPIPE, ALL_THAT_FOLLOW)],
}
KILLS = [("kill-before", 0, ONCE), ("kill-after", 0, ONCE)]
KILLED_AT = ("file-write", "sync", "rename", "unlink", "room", "open")
# Kinds whose errors may end the daemon.
OF_THE_DISK = ("open", "file-write", "sync", "room")
# Loads that show which sites there are.
LOADS_RECORDED = 5
# Then it stops, and the sanitizer says what was not freed.
LOADS_A_DAEMON = 50
# So many calls from a site are let pass, at the most, chosen at random.
SKIP_MOST = 6


class Run:
    def __init__(self, options, folder, rng):
        self.folder, self.rng = folder, rng
        cert, key, tokens = (os.path.join(folder, name) for name in ("cert.pem", "key.pem", "tokens"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True,
                       stderr=subprocess.DEVNULL)
        with open(tokens, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"admin {TOKEN}\n")
        self.exports = os.path.join(folder, "exports")
        os.mkdir(self.exports, 0o700)
        self.data = os.path.join(folder, "data")
        self.daemon = Daemon(options.heapd, options.library, folder, [
            "--listen", "unix:" + os.path.join(folder, "heapd.sock"), "--listen", "tcp:127.0.0.1:0", "--listen",
            "tls:127.0.0.1:0", "--auth-token-file", tokens, "--tls-cert", cert, "--tls-key", key, "--data-dir", self.data,
            "--fsync", "always", "--export-dir", self.exports], {"HEAPD_SNAPSHOT_BYTES": "20000"})
        self.ledger = Ledger()
        self.counts = collections.Counter()
        self.exported = 0

    def expect(self, condition, what):
        if not condition:
            log = self.daemon.log()
            raise AssertionError(f"{what}\n{log if len(log) < 6000 else log[:3000] + ' ... ' + log[-3000:]}")

    def begin(self):
        """A daemon on the folder as it is, with what was acknowledged in it."""
        self.expect(self.daemon.start(), "it does not start")
        wire = Wire(self.daemon.listen[0])
        if "error" in wire.call("name.lookup", "ledger"):
            self.expect(not self.ledger.allowed, "the ledger is gone")
            wire.call("create", {}, "ledger")
        wire.close()
        self.expect(look(self.daemon.listen, self.ledger), "it wants a new start already")

    def end(self):
        code = self.daemon.stop()
        self.expect(code == 0 and "Sanitizer" not in self.daemon.log(), f"exit code {code}")

    def restart(self):
        if self.daemon.is_running():
            self.end()
        self.begin()

    def load(self):
        self.exported += 1
        self.daemon.process.send_signal(signal.SIGHUP)  # limits, tokens and certificate are read again beside it
        load(self.daemon.listen, self.ledger, f"{self.exported}.jsonl")
        for name in os.listdir(self.exports):
            os.unlink(os.path.join(self.exports, name))
        time.sleep(0.02)  # for the snapshot; where it takes longer it goes on beside the next load

    def find_sites(self):
        self.begin()
        self.daemon.control.record(self.depth())
        for _ in range(LOADS_RECORDED):
            self.load()
        sites = self.daemon.sites()
        self.expect(look(self.daemon.listen, self.ledger), "it wants a new start, and nothing has failed")
        return sites

    @staticmethod
    def depth():
        return 8

    def may_end(self, site):
        """The daemon has ended, and its log says why."""
        self.daemon.wait()
        log = self.daemon.log()
        return (self.daemon.process.returncode == 1 and site.kind in OF_THE_DISK and "heapd ends" in log
                and "Sanitizer" not in log)

    def run(self, site, way, most_skipped=SKIP_MOST):
        """One load with that failing; whether it was reached."""
        outcome, error, goes_on = way
        control = self.daemon.control
        skip = self.rng.randrange(max(1, min(most_skipped, site.calls // LOADS_RECORDED))) if goes_on != THAT_SITE else 0
        control.arm(site.kind, outcome, error, site.hash, skip, goes_on)
        for _ in range(3 if site.kind in KILLED_AT else 1):  # not each load has a snapshot
            self.load()
            if control.hits() > 0:
                break
        hits = control.disarm()
        if hits > 0 and outcome.startswith("kill"):
            self.expect(self.daemon.wait() == -9, "it was not killed")
            self.counts["killed"] += 1
            self.restart()
        elif not self.daemon.is_running():
            self.expect(hits > 0 and self.may_end(site), f"it has ended: {self.daemon.process.returncode}")
            self.counts["ended"] += 1
            self.restart()
        elif not look(self.daemon.listen, self.ledger):
            self.counts["changes refused"] += 1
            self.restart()
        elif hits > 0 and site.kind in KILLED_AT:
            self.daemon.kill()
            self.counts["went on, and was killed then"] += 1
            self.restart()
        else:
            self.counts["went on" if hits > 0 else "not reached"] += 1
        return hits > 0

    def jump_clock(self):
        """The wall clock jumps while leases and connections wait: nothing ends, and the heap goes on."""
        control = self.daemon.control
        wire = Wire(self.daemon.listen[0])
        token = wire.call("session.open", 20000)["result"]["session"]
        for seconds in (86400 * 3650, -86400 * 3650, 3600, -3600, 0):
            control.set_wall_offset(seconds)
            self.load()
            self.expect(look(self.daemon.listen, self.ledger) or False, "changes do not go on")
            other = Wire(self.daemon.listen[1])
            self.expect("result" in other.call("session.resume", token), "a lease is over")
            other.close()
            self.expect("result" in wire.call("ping"), "a connection is closed")
            self.counts["clock jumps"] += 1
        wire.close()


def choose(run, sites, options):
    runs = []
    for site in sites:
        if options.only in site.kind:
            runs += [(site, way) for way in WAYS.get(site.kind, [])]
            runs += [(site, way) for way in KILLS * options.kills if site.kind in KILLED_AT]
    run.rng.shuffle(runs)
    # One of each kind, then a second one of each: most sites are those of memory.
    turns = collections.Counter()
    order = []
    for site, way in runs:
        turns[site.kind] += 1
        order.append(turns[site.kind])
    runs = [pair for _, pair in sorted(zip(order, runs), key=lambda both: both[0])]
    # OpenSSL may lose memory of its own where it finds none: those come last, in a daemon to which that is forgiven.
    return [pair for pair in runs if not pair[0].is_of_openssl], [pair for pair in runs if pair[0].is_of_openssl]


def go_through(run, runs, clock, options, is_fresh=False):
    """(sites that were reached, pairs that were not)"""
    reached, missed = set(), []
    for number, (site, way) in enumerate(runs):
        if clock.is_over():
            break
        try:
            if is_fresh or number % LOADS_A_DAEMON == LOADS_A_DAEMON - 1:
                run.restart()
            if run.run(site, way, 0 if is_fresh else SKIP_MOST):
                reached.add(site.hash)
            else:
                missed.append((site, way))
        except Exception as problem:
            frames = "\n".join("    " + name for name in run.daemon.name_frames(site.frames))
            print(f"{site.kind} {way}\n{frames}\n  {type(problem).__name__}: {problem}", flush=True)
            if not options.go_on:
                raise
            run.counts["WRONG"] += 1
            run.daemon.kill()
            shutil.rmtree(run.data)
            run.ledger = Ledger()
            run.begin()
    return reached, missed


def run_all(run, options):
    clock = Clock(options.seconds)
    sites = run.find_sites()
    ours, openssls = choose(run, sites, options)
    reached, missed = go_through(run, ours, clock, options)
    run.restart()
    reached |= go_through(run, missed, clock, options, is_fresh=True)[0]
    run.jump_clock()
    run.end()
    run.daemon.forgive_openssl(True)
    run.begin()
    clock = Clock(options.seconds / 4)
    more, missed = go_through(run, openssls, clock, options)
    reached |= more | go_through(run, missed, clock, options, is_fresh=True)[0]
    run.restart()
    run.end()
    return sites, reached


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0, help="do not begin another load after so long")
    parser.add_argument("--kills", type=int, default=1, help="so often at each site, before and after the call")
    parser.add_argument("--heapd", default="build/address/heapd")
    parser.add_argument("--library", default="build/tests/fault/faults.so")
    parser.add_argument("--only", default="", help="kinds of calls whose name contains this")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first problem")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="heapd-running-")
    run = Run(options, folder, random.Random(seed_of_run()))
    try:
        sites, reached = run_all(run, options)
        print(f"{len(reached)} of {len(sites)} sites failed in {sum(run.counts.values())} loads: "
              + ", ".join(f"{count} {word}" for word, count in run.counts.most_common())
              + f"; {run.ledger.acknowledged} changes acknowledged and there, {run.ledger.refused} refused", flush=True)
    finally:
        run.daemon.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if run.counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
