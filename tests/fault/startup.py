#!/usr/bin/env python3
"""startup.py -- every call of the start that can fail fails once, and all that follow it, too.

    tests/fault/startup.py [--seconds N] [--heapd build/address/heapd]

Each way to start the daemon is done once to see from where it calls malloc, mmap, open and so on (faults.c), and then
once for each such site and each error that fits.  The daemon then either ends with exit code 1 or 2 and says why, and
has left no socket behind, or it becomes ready: then it answers, what it had recovered is there, heap.check is clean, and
it ends cleanly.  Built with AddressSanitizer it says what was not freed, in both cases.

--seconds does as many sites, chosen at random, as fit into that time.  SEED=N chooses the same ones.
"""
import argparse
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import ALL_THAT_FOLLOW, FRAMES, ONCE, Clock, Daemon, seed_of_run  # noqa: E402
from kill9 import Connection  # noqa: E402

# How a call of each kind fails: what happens, and to which calls.
WAYS = {
    "memory": [("error", errno.ENOMEM, ONCE), ("error", errno.ENOMEM, ALL_THAT_FOLLOW)],
    "map": [("error", errno.ENOMEM, ONCE), ("error", errno.ENOMEM, ALL_THAT_FOLLOW)],
    "thread": [("error", errno.EAGAIN, ONCE), ("error", errno.EAGAIN, ALL_THAT_FOLLOW)],
    "open": [("error", errno.EMFILE, ONCE), ("error", errno.EACCES, ALL_THAT_FOLLOW)],
    "listen": [("error", errno.ENOBUFS, ONCE)],
    "file-write": [("error", errno.EIO, ONCE), ("error", errno.ENOSPC, ONCE), ("error", errno.EINTR, ONCE), ("short", 0, ONCE)],
    "file-read": [("error", errno.EIO, ONCE), ("error", errno.EINTR, ONCE), ("short", 0, ONCE)],
    "sync": [("error", errno.EIO, ONCE), ("error", errno.ENOSPC, ONCE), ("error", errno.EINTR, ONCE)],
    "rename": [("error", errno.EIO, ONCE)],
    "unlink": [("error", errno.EIO, ONCE)],
    "room": [("error", errno.ENOSPC, ONCE), ("error", errno.EOPNOTSUPP, ONCE), ("error", errno.EINTR, ONCE)],
    "log": [("error", errno.EPIPE, ALL_THAT_FOLLOW), ("short", 0, ONCE)],
}


class Start:
    """A way to start: options, what must be there when it is ready, how many calls make a site."""

    def __init__(self, name, options, template=None, depth=FRAMES):
        self.name, self.options, self.template, self.depth = name, options, template, depth


def make_journal(heapd, folder):
    """A data folder with a snapshot, a journal after it and one that was torn off, as a template."""
    template = os.path.join(folder, "template")
    socket = os.path.join(folder, "make")
    command = [heapd, "--listen", "unix:" + socket, "--data-dir", template, "--fsync", "always", "--log-level", "error"]
    environment = dict(os.environ, HEAPD_SNAPSHOT_BYTES="3000")
    for again in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        process.stdout.readline()
        connection = Connection(socket)
        for number in range(60):
            connection.result("create", [[number], {"key": "v" * 40}], f"n{again}.{number}")
        node = connection.result("create", {"$class": "Node", "slots": ["x", "y"]}, f"Node{again}")["object"]
        connection.result("create", {"$instance": node, "attrs": {"x": {"$weakref": f"n{again}.1"}}}, f"node{again}")
        connection.result("finalizer.set", f"n{again}.1", "token", f"again{again}")
        connection.result("session.open", 3600000)
        connection.result("create", [1, 2.5, 1 << 60])
        connection.close()
        process.kill()
        process.wait()
        process.stdout.close()
    return template


def make_starts(heapd, folder):
    """The ways to start that are tried."""
    cert, key, tokens = (os.path.join(folder, name) for name in ("cert.pem", "key.pem", "tokens"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    with open(tokens, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write("admin 0123456789abcdef0123456789abcdef\nread fedcba9876543210fedcba9876543210\n")
    settings = os.path.join(folder, "heapd.conf")
    with open(settings, "w") as file:
        file.write("max-request = 1m\nallow-host = here.example\nfsync = always\n")
    exports = os.path.join(folder, "exports")
    os.mkdir(exports, 0o700)
    return [
        Start("plain", []),
        Start("a journal to recover", ["--data-dir", os.path.join(folder, "data"), "--fsync", "always"],
              make_journal(heapd, folder)),
        Start("a new journal", ["--data-dir", os.path.join(folder, "data"), "--fsync", "everysec"]),
        Start("tokens", ["--listen", "tcp:127.0.0.1:0", "--auth-token-file", tokens]),
        Start("four threads, a file", ["--listen", "tcp:127.0.0.1:0", "--threads", "4", "--config", settings, "--export-dir", exports]),
        Start("TLS", ["--listen", "tls:127.0.0.1:0", "--tls-cert", cert, "--tls-key", key],
              depth=5),  # OpenSSL has thousands of ways to the same call
    ]


class Starter:
    """Starts the daemon in one way, again and again, with something else failing each time."""

    def __init__(self, start, options, folder):
        self.start, self.folder = start, folder
        self.socket = os.path.join(folder, "heapd.sock")
        self.data = os.path.join(folder, "data")
        self.daemon = Daemon(options.heapd, options.library, folder, ["--listen", "unix:" + self.socket] + start.options)
        self.names = None

    def prepare(self):
        shutil.rmtree(self.data, ignore_errors=True)
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        if self.start.template is not None:
            shutil.copytree(self.start.template, self.data)

    def look(self):
        """What a client sees of a daemon that is ready."""
        connection = Connection(self.socket)
        connection.result("ping")
        names = connection.result("name.list", "", 10000)["names"]
        values = {row["name"]: connection.result("get", row["object"], -1) for row in names if row["name"][0] == "n"}
        report = connection.result("heap.check")
        connection.close()
        if not report["ok"]:
            raise AssertionError(f"heap.check: {report['problems'][:3]}")
        return values

    def find_sites(self):
        self.prepare()
        self.daemon.control.record(self.start.depth)
        if not self.daemon.start():
            raise AssertionError(f"it does not start: {self.daemon.log()}")
        sites = self.daemon.sites()
        self.names = self.look()
        self.expect(self.daemon.stop() == 0, "it does not end cleanly")
        return sites

    def expect(self, condition, what):
        if not condition:
            log = self.daemon.log()
            raise AssertionError(f"{what}\n{log if len(log) < 6000 else log[:3000] + ' ... ' + log[-3000:]}")

    def run(self, site, way):
        """One start with that failing.  "ready", "refused", or "not reached"."""
        outcome, error, goes_on = way
        daemon = self.daemon
        self.prepare()
        daemon.forgive_openssl(site.is_of_openssl)
        daemon.control.arm(site.kind, outcome, error, site.hash, 0, goes_on)
        if not daemon.start():
            hits = daemon.control.disarm()
            code = daemon.process.returncode
            self.expect(code in (1, 2) and daemon.log() != "" and "Sanitizer" not in daemon.log(), f"exit code {code}")
            # A disk that fails ends it at once.
            self.expect(not os.path.exists(self.socket) or "heapd ends" in daemon.log(), "the socket is still there")
            self.expect(hits > 0, "it ended, and nothing had failed")
            return "refused"
        hits = daemon.control.disarm()
        self.expect(self.look() == self.names, "not all is there that was recovered")
        code = daemon.stop()
        self.expect(code == 0 and "Sanitizer" not in daemon.log(), f"exit code {code}")
        return "ready" if hits > 0 else "not reached"


def run_start(start, options, folder, seconds, rng):
    """(sites, runs, what came of them)"""
    starter = Starter(start, options, folder)
    counts = {"ready": 0, "refused": 0, "not reached": 0}
    try:
        clock = Clock(seconds)
        sites = starter.find_sites()
        if not sites:
            raise AssertionError("no call was seen that can fail")
        runs = [(site, way) for site in sites for way in WAYS.get(site.kind, [])]
        rng.shuffle(runs)
        seen = set()
        for site, way in runs:
            if clock.is_over():
                break
            try:
                counts[starter.run(site, way)] += 1
                seen.add(site.hash)
            except Exception as problem:
                starter.daemon.kill()
                frames = "\n".join("    " + name for name in starter.daemon.name_frames(site.frames))
                print(f"{start.name}: {site.kind} {way}\n{frames}\n  {problem}", flush=True)
                if not options.go_on:
                    raise
                counts["WRONG"] = counts.get("WRONG", 0) + 1
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        print(f"{start.name}: {len(seen)} of {len(sites)} sites, {sum(counts.values())} starts: {said}", flush=True)
        return len(seen), sum(counts.values()), counts.get("WRONG", 0)
    finally:
        starter.daemon.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0, help="do not begin another start after so long")
    parser.add_argument("--heapd", default="build/address/heapd")
    parser.add_argument("--library", default="build/tests/fault/faults.so")
    parser.add_argument("--only", default="", help="ways to start whose name contains this")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first problem")
    options = parser.parse_args()
    rng = random.Random(seed_of_run())
    folder = tempfile.mkdtemp(prefix="heapd-startup-")
    sites = starts = wrong = 0
    try:
        ways = [start for start in make_starts(options.heapd, folder) if options.only in start.name]
        for start in ways:
            result = run_start(start, options, folder, options.seconds / len(ways), rng)
            sites, starts, wrong = (before + now for before, now in zip((sites, starts, wrong), result))
        print(f"{sites} sites failed in {starts} starts", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
