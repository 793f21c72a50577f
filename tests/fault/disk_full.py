#!/usr/bin/env python3
"""disk_full.py -- a disk of 8 MiB fills up under a journal.

    tests/fault/disk_full.py [--fsync always] [--heapd build/heapd]

The data folder lies on a tmpfs of 8 MiB beside a file that leaves it 5.  Changes are sent until they are
refused: with `unavailable`, and without having changed anything, while reads go on.  When the file is removed changes go
on, too.  Then kill -9: all that was acknowledged is there.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kill9 import Daemon  # noqa: E402

GARBAGE = 40_000


def fill(connection, names, what):
    """Binds names to lists until that is refused; returns the error."""
    while True:
        name = f"{what}{len(names)}"
        reply = connection.call("create", [name, "x" * 2000], name)
        if "error" in reply:
            return reply["error"]
        names.append(name)
        if len(names) > 100000:
            raise AssertionError("the disk never fills up")


def check_names(connection, names):
    found = set()
    after = None
    while True:
        page = connection.result("name.list", "", 100000, after) if after else connection.result("name.list", "", 100000)
        found.update(row["name"] for row in page["names"])
        after = page["next"]
        if after is None:
            break
    if found != set(names):
        raise AssertionError(f"{len(found)} names are there, {len(names)} were acknowledged")


def fill_up(connection, name):
    """A small change may find a place where a larger one did not, and what was gathered leaves some when it is written."""
    while "result" in connection.call("list.append", name, 1):
        while "result" in connection.call("list.append", name, 1):
            pass
        time.sleep(0.1)


def expect_refused(connection, method, *params):
    error = connection.call(method, *params).get("error")
    if error is None or error["data"]["error"] != "unavailable" or "disk" not in error["message"]:
        raise AssertionError(f"{method} on a full disk: {error}")


def make_garbage(connection):
    """Cycles that nobody reaches, each beside an object that is kept: what a collection tells of them takes more than is
    kept free."""
    connection.result("gc.disable")
    connection.result("create", [], "kept")
    labels = {}
    for number in range(1000):
        labels[f"x{number}"] = [{"$label": f"x{number}"}]
        labels[f"k{number}"] = []
    pieces = {"$let": labels, "in": [{"$label": f"k{number}"} for number in range(1000)]}
    for _ in range(GARBAGE // 1000):
        connection.result("list.append", "kept", pieces)


def check_reads(daemon, connection):
    """Reads go on, also when a collection has more to tell than there is room for; the daemon can be asked to end."""
    swept = connection.result("collect")["unreachable"]
    if swept < GARBAGE:
        raise AssertionError(f"only {swept} cycles were swept")
    other = daemon.connect()
    for method, *params in (("ping",), ("list.len", "kept"), ("stats", "server"), ("heap.check",)):
        other.result(method, *params)
    if not other.result("heap.check")["ok"]:
        raise AssertionError("heap.check")
    expect_refused(other, "create", [], "more")
    expect_refused(other, "session.open", 1000)
    other.close()


def run(daemon, filler):
    names = ["kept"]
    connection = daemon.connect()
    make_garbage(connection)
    error = fill(connection, names, "n")
    if error["data"]["error"] != "unavailable" or "disk" not in error["message"]:
        raise AssertionError(f"the disk is full, but: {error}")
    print(f"full after {len(names)} changes: {error['message']}", flush=True)
    # Nothing was changed, and reads go on.
    check_names(connection, names)
    fill_up(connection, names[0])
    for _ in range(100):
        if connection.result("list.getitem", names[-1], 0, False, 0)["value"] != names[-1]:
            raise AssertionError("a read is wrong")
        expect_refused(connection, "list.append", names[0], 1)
    check_reads(daemon, connection)
    os.unlink(filler)
    deadline = time.monotonic() + 60
    while "error" in connection.call("create", ["again"], "again"):
        if time.monotonic() > deadline:
            raise AssertionError("there is room, but changes do not go on")
        time.sleep(0.05)
    names.append("again")
    for number in range(500):
        name = f"later{number}"
        connection.result("create", [name], name)
        names.append(name)
    time.sleep(0 if "always" in daemon.command else 1.5)
    daemon.kill()
    daemon.start()
    check_names(daemon.connect(), names)
    print(f"{len(names)} acknowledged changes are there after kill -9", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fsync", default="always", choices=["always", "everysec", "no"])
    parser.add_argument("--heapd", default="build/heapd")
    options = parser.parse_args()
    options.more = []
    folder = tempfile.mkdtemp(prefix="heapd-full-")
    daemon = Daemon(options, folder)
    disk = os.path.join(folder, "data")
    os.mkdir(disk, 0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", disk], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        shutil.rmtree(folder)
        print("skipped because no tmpfs can be mounted here")
        return 0
    try:
        filler = os.path.join(disk, "filler")
        with open(filler, "wb") as file:
            file.write(b"\0" * (3 << 20))
        daemon.start()
        run(daemon, filler)
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        subprocess.run(["umount", "-l", disk], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
