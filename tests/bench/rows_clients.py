"""rows_clients.py -- Python clients with nothing but a socket, beside multiprocessing.Manager.

clients_python.py is one client process of either side, and the Manager's server; both sides use a Unix socket.  A
single client waits for each reply, so it and the server take turns: they share one core, on both sides, or the time
that a core takes to wake up would be most of what is measured.  Eight clients and the server have all cores.
"""
import os
import subprocess
import tempfile
from contextlib import ExitStack

import peers
from worker import Worker, python_path

SCRIPT = "tests/bench/clients_python.py"
PROCESSES = 8
# By operation and number of processes: goal.
GOALS = {("append", 1): 1.5, ("append", PROCESSES): 5, ("create", 1): 20, ("create", PROCESSES): 20,
         ("drop", 1): 1.5, ("drop", PROCESSES): 5}
WHAT = {"append": "list.append", "create": "create of a list of 3", "drop": "drop of such a list"}


class Server:
    """The server of a side, ended with the `with`."""

    def __init__(self, command, cores):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=peers.plain_environment(),
                                        preexec_fn=peers.become_child(cores))

    def __enter__(self):
        if not self.process.stdout.readline():
            raise peers.Misbehaved(f"{' '.join(self.process.args)} does not start")
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.stdout.close()
        self.process.wait(peers.STOP_S)


class Side:
    """A server and its clients."""

    def __init__(self, stack, name, python, folder, clients):
        cores = peers.SERVER_CORES[:1] if clients == 1 else peers.CORES
        address = os.path.join(folder, f"{name}-{clients}.sock")
        if name == "heapd":
            server = [peers.heapd_program(), "--listen", f"unix:{address}"]
        else:
            server = [python, "-B", SCRIPT, "serve", address]
        stack.enter_context(Server(server, cores))
        if name == "heapd":
            with peers.Session(address) as session:
                session.call("create", value=[], name="shared")
        self.clients = [stack.enter_context(Worker([python, "-B", SCRIPT, name, address], cores=cores))
                        for _ in range(clients)]
        for client in self.clients:
            client.answer()

    def rate(self, operation, seconds):
        """Operations a second, of all clients together."""
        for client in self.clients:
            client.send(f"{operation} {seconds}")
        answers = [client.answer() for client in self.clients]
        return sum(answer["operations"] / answer["seconds"] for answer in answers)


def compare(clients, python, folder, arguments, report):
    rates = {(side, operation): [] for side in ("heapd", "manager") for operation in WHAT}
    with ExitStack() as stack:
        sides = {name: Side(stack, name, python, folder, clients) for name in ("heapd", "manager")}
        for number in range(arguments.rounds):
            report.progress(f"clients, {clients} processes, round {number + 1} of {arguments.rounds}")
            for operation in WHAT:
                for name in sides:
                    rates[name, operation].append(sides[name].rate(operation, arguments.seconds / 2))
    who = "1 client" if clients == 1 else f"{clients} processes"
    for operation, what in WHAT.items():
        report.row("clients", f"{what}, {who}", "multiprocessing.Manager", "/s", rates["heapd", operation],
                   rates["manager", operation], goal=GOALS[operation, clients])


def measure(arguments, report):
    python = python_path(report)
    with tempfile.TemporaryDirectory() as folder:
        for clients in (1, PROCESSES):
            compare(clients, python, folder, arguments, report)
