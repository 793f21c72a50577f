"""worker.py -- a program that measures when told: one side of a comparison.

It reads words from its standard input, a line each, and answers each with a line of JSON; it ends when its
input does.  Both sides of a comparison run at the same time, and one waits while the other works.
"""
import json
import os
import select
import subprocess

import peers

PYTHONS = ("/usr/bin/python3", "python3")
# Building a graph takes Python seconds; only a hang takes so long.
PATIENCE_S = 600


class Worker:
    def __init__(self, command, environment=None, cores=None):
        """`environment` comes on top of ours; `cores` are all if left out."""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(environment or {})},
                                        preexec_fn=peers.become_child(cores or peers.CORES))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Its input ends, and so does it; after an error it is not waited for."""
        if exception[0] is not None:
            self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE_S)

    def code(self):
        """Its exit code, after the `with`."""
        return self.process.returncode

    def answer(self):
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            raise peers.Misbehaved(f"{' '.join(self.process.args)} gave no answer")
        return json.loads(line)

    def send(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def ask(self, word):
        self.send(word)
        return self.answer()


def trace_path():
    """The real heap trace, or Missing."""
    path = os.path.join(peers.data_folder(), "cpython-heap.jsonl.gz")
    if not os.path.exists(path):
        raise peers.Missing(f"{path} is not there")
    return path


def python_path(report):
    """The Python to measure, whose version goes into the report."""
    for python in PYTHONS:
        try:
            path = peers.need(python, "deploy/install-deps.sh bench installs it")
        except peers.Missing as reason:
            missing = reason  # the name of the exception itself ends with its block
            continue
        printed = subprocess.run([path, "-V"], capture_output=True, text=True, check=True).stdout
        report.version("CPython", printed.split()[1])
        return path
    raise missing
