"""clients_python.py -- a Python process that uses shared objects: over heapd's socket, or multiprocessing.Manager's.

    clients_python.py serve ADDRESS                   the Manager's server; prints `ready`, runs until it is ended
    clients_python.py manager|heapd ADDRESS           a client

A client connects, answers `"ready"`, and for each line `OPERATION SECONDS` on stdin does the operation again and
again for so long, and answers with one line of JSON: how often, and the seconds it took.

    append    an int to the list that all clients share
    create    a new list of three ints, kept; let go afterwards, outside of the clock
    drop      lets go of a list that was created before, outside of the clock

ADDRESS is the path of a Unix socket.  The client of heapd has nothing but a socket: it writes its requests and
looks at its replies as the bytes they are.
"""
import json
import socket
import sys
import time
from multiprocessing.managers import ListProxy, SyncManager

KEY = b"heapd bench"
SHARED = []
DROP_BATCH = 100  # lists that are made ahead for `drop`


class Manager(SyncManager):
    """A manager with one list that everybody can get."""


Manager.register("shared", callable=lambda: SHARED, proxytype=ListProxy)


def serve(address):
    server = Manager(address=address, authkey=KEY).get_server()
    print("ready", flush=True)
    server.serve_forever()


class ManagerClient:
    """The operations on the proxies of a manager."""

    def __init__(self, address):
        self.manager = Manager(address=address, authkey=KEY)
        self.manager.connect()
        self.shared = self.manager.shared()

    def append(self):
        self.shared.append(1)

    def create(self):
        return self.manager.list([1, 2, 3])

    def drop(self, made):
        """The last reference to the proxy goes with the list that had it."""
        made.pop()


class HeapdClient:
    """The same as requests; the list that all share has the name `shared`.  A reply is one line, and one recv."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)

    def call(self, request, expected):
        """Sends a line.  Returns what the reply has after `expected`."""
        self.socket.sendall(request)
        reply = self.socket.recv(4096)
        if not reply.startswith(expected) or not reply.endswith(b"\n"):
            raise RuntimeError(f"the reply to {request} is {reply}")
        return reply[len(expected):]

    def append(self):
        self.call(b'{"id":1,"method":"list.append","params":["shared",1]}\n', b'{"id":1,"result":null')

    def create(self):
        rest = self.call(b'{"id":2,"method":"create","params":[[1,2,3]]}\n', b'{"id":2,"result":{"object":')
        return int(rest[:rest.index(b",")])

    def drop(self, made):
        self.call(b'{"id":3,"method":"unref","params":[%d]}\n' % made.pop(), b'{"id":3,"result":')


def run(client, operation, seconds):
    """Does it for so long; the clock runs only while the operation itself does."""
    done, spent, made = 0, 0.0, []
    end = time.monotonic() + 10 * seconds + 1  # `drop` must also make what it drops
    while spent < seconds and time.monotonic() < end:
        made = [client.create() for _ in range(DROP_BATCH)] if operation == "drop" else []
        start = time.perf_counter()
        if operation == "append":
            for _ in range(DROP_BATCH):
                client.append()
        elif operation == "create":
            for _ in range(DROP_BATCH):
                made.append(client.create())
        else:
            for _ in range(DROP_BATCH):
                client.drop(made)
        spent += time.perf_counter() - start
        done += DROP_BATCH
        while made:
            client.drop(made)
    return {"operations": done, "seconds": spent}


def main():
    side, address = sys.argv[1:3]
    if side == "serve":
        serve(address)
        return
    client = ManagerClient(address) if side == "manager" else HeapdClient(address)
    print('"ready"', flush=True)
    for line in sys.stdin:
        operation, seconds = line.split()
        print(json.dumps(run(client, operation, float(seconds))), flush=True)


if __name__ == "__main__":
    main()
