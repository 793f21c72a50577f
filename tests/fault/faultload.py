"""faultload.py -- a load that goes through all of the daemon, and a model of what it has acknowledged.

Changes go to one dict, `ledger`, each to two keys at once.  The model knows for each pair which values it may have: the
one that was acknowledged last, or, where a reply has never come, that one and the one that was sent.
"""
import json
import socket
import ssl
import time

TOKEN = "0123456789abcdef0123456789abcdef"
# What a request may be refused with, whatever it asks, where something fails.
REFUSALS = {"memory_error", "unavailable"}
PATIENCE_S = 60


class Wire:
    """Lines out, replies in, over any transport; what ends it is a ConnectionError."""

    def __init__(self, address):
        kind, where = address.split(":", 1)
        self.socket = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        self.socket.settimeout(PATIENCE_S)
        self.file = None
        try:
            self.socket.connect(where if kind == "unix" else ("127.0.0.1", int(where.rsplit(":", 1)[1])))
            if kind == "tls":
                context = ssl._create_unverified_context()  # it is about what fails, not about whom to trust
                self.socket = context.wrap_socket(self.socket)
            self.file = self.socket.makefile("rb")
        except OSError as error:
            self.close()
            raise as_lost(error) from None
        if kind != "unix":
            self.call("auth", TOKEN)

    def send(self, text):
        try:
            self.socket.sendall(text)
        except OSError as error:
            raise as_lost(error) from None

    def line(self):
        try:
            line = self.file.readline()
        except OSError as error:
            raise as_lost(error) from None
        if not line.endswith(b"\n"):
            raise ConnectionError("it is closed")
        return line

    def reply(self):
        while True:
            reply = json.loads(self.line())
            if not isinstance(reply, dict) or reply.get("method") != "event":
                return reply

    def call(self, method, *params):
        self.send(request(method, params))
        return self.reply()

    def result(self, method, *params):
        reply = self.call(method, *params)
        if "result" not in reply:
            raise AssertionError(f"{method} {params}, and nothing fails: {reply}")
        return reply["result"]

    def close(self):
        if self.file is not None:
            self.file.close()
        self.socket.close()


def as_lost(error):
    """A timeout is no lost connection: the daemon must not leave anybody waiting."""
    return AssertionError("no answer") if isinstance(error, TimeoutError) else ConnectionError(str(error))


def request(method, params):
    return (json.dumps({"id": 1, "method": method, "params": list(params)}) + "\n").encode()


def check_error(reply):
    error = reply["error"]
    if not (isinstance(error.get("code"), int) and error.get("message") and error.get("data", {}).get("error")):
        raise AssertionError(f"no error of the protocol: {reply}")
    return error["data"]["error"]


class Ledger:
    """The model."""

    def __init__(self):
        self.allowed = {}  # key -> values it may have
        self.value = 0
        self.refused = 0
        self.acknowledged = 0

    def next_change(self):
        """(key, value, request): both keys of a pair get the value."""
        self.value += 1
        key = f"k{self.value % 40}"
        return key, self.value, request("dict.update", ["ledger", {key + "a": self.value, key + "b": [self.value]}])

    def settle(self, key, value, reply):
        """What came of a change; None: nothing is known."""
        if reply is None:
            self.allowed.setdefault(key, {None}).add(value)
        elif "result" in reply:
            self.allowed[key] = {value}
            self.acknowledged += 1
        elif check_error(reply) in REFUSALS:
            self.refused += 1
        else:
            raise AssertionError(f"a change: {reply}")

    def check(self, found):
        """What was found is true from now on."""
        for key in set(self.allowed) | {name[:-1] for name in found}:
            value, other = found.get(key + "a"), found.get(key + "b")
            if other != (None if value is None else [value]):
                raise AssertionError(f"{key} is half there: {value}, {other}")
            if value not in self.allowed.get(key, {None}):
                raise AssertionError(f"{key} is {value}, but may be {self.allowed.get(key)}")
            self.allowed[key] = {value}


# ---- the load ----

def change_some(wire, ledger, count):
    """Changes in one pipeline."""
    changes = [ledger.next_change() for _ in range(count)]
    done = 0
    try:
        wire.send(b"".join(text for _, _, text in changes))
        for key, value, _ in changes:
            ledger.settle(key, value, wire.reply())
            done += 1
    finally:
        for key, value, _ in changes[done:]:
            ledger.settle(key, value, None)


# One of each kind of question and of change; what they answer is other tests' business.
REQUESTS = [
    ("create", [[1, 2.5, "text", {"$bytes": "AAEC"}, {"$tuple": [1, 2]}], "temporary"]),
    ("create", [{"$let": {"x": [{"$label": "y"}], "y": [{"$label": "x"}]}, "in": {"$label": "x"}}, "ring"]),
    ("create", [{"$class": "Node"}, "Node"]),
    ("create", [{"$instance": "Node", "attrs": {"x": 1}}, "node"]),
    ("attr.set", ["node", "y", [1]]),
    ("list.append", ["temporary", "more"]),
    ("dict.incr", ["ledger", "count"]),
    ("get", ["temporary", -1]),
    ("finalizer.set", ["ring", "gone"]),
    ("weakref.create", ["temporary", True]),
    ("subscribe", [["gc", "weakref", "finalized", "clients", "journal"]]),
    ("name.unbind", ["ring"]),
    ("collect", []),
    ("name.bind", ["temporary", "other"]),
    ("heap.mark", ["mark"]),
    ("heap.diff", ["mark"]),
    ("heap.why", ["node"]),
    ("heap.dominators", []),
    ("heap.inspect", ["node"]),
    ("heap.types", []),
    ("stats", []),
    ("server.clients", [True]),
    ("server.config", []),
    ("name.list", ["", 100]),
    ("rpc.discover", []),
    ("session.open", [60000]),
    ("create", [["x" * 300] * 200]),
    ("create", [["y" * 300] * 200]),
    ("no.such.method", []),
    ("name.unbind", ["temporary"]),
    ("name.unbind", ["other"]),
    ("name.unbind", ["node"]),
    ("name.unbind", ["Node"]),
]


def speak(address, ledger, export):
    """A connection that does one of each, with changes in between."""
    wire = Wire(address)
    try:
        change_some(wire, ledger, 1)
        token = None
        for number, (method, params) in enumerate(REQUESTS):
            reply = wire.call(method, *params)
            if "result" not in reply:
                check_error(reply)
            elif method == "session.open":
                token = reply["result"]["session"]
            if number % 8 == 0:
                change_some(wire, ledger, 4)
        wire.call("heap.export", "jsonl", export)
        wire.send(b'[{"id":1,"method":"ping"},{"id":2,"method":"stats"},7]\n{"id":3,\n')
        wire.reply()
        wire.reply()
        if token is not None:
            wire.call("session.close")
        change_some(wire, ledger, 16)
    finally:
        wire.close()


def ask_http(address, path, body=None, more=""):
    """Status and body of an answer; the connection is closed behind it."""
    wire = Wire.__new__(Wire)
    wire.file = None
    wire.socket = socket.socket()
    wire.socket.settimeout(PATIENCE_S)
    try:
        port = int(address.rsplit(":", 1)[1])
        wire.socket.connect(("127.0.0.1", port))
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{more}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        wire.send(head.encode() + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode() + (body or b""))
        answer = b""
        while True:
            piece = wire.socket.recv(65536)
            if not piece:
                break
            answer += piece
    except OSError as error:
        raise as_lost(error) from None
    finally:
        wire.close()
    if not answer.startswith(b"HTTP/1.1 ") or b"\r\n\r\n" not in answer:
        raise ConnectionError("it is closed")
    return int(answer[9:12]), answer.split(b"\r\n\r\n", 1)[1]


def speak_http(address, ledger):
    key, value, text = ledger.next_change()
    reply = None
    try:
        status, body = ask_http(address, "/", text)
        if status == 200:
            reply = json.loads(body)
        elif status in (401, 403, 500, 503):
            reply = {"error": {"code": -1, "message": "HTTP", "data": {"error": "unavailable"}}}
    except json.JSONDecodeError:
        pass  # it was cut off
    finally:
        ledger.settle(key, value, reply)
    for path in ("/metrics", "/healthz", "/readyz", "/heap.jsonl", "/nothing"):
        ask_http(address, path)


def load(listen, ledger, export):
    """All of it once.  Whether it came through without losing a connection."""
    is_whole = True
    for address in listen:
        try:
            speak(address, ledger, export)
        except ConnectionError:
            is_whole = False
    tcp = [address for address in listen if address.startswith("tcp:")]
    for address in tcp:
        try:
            speak_http(address, ledger)
        except ConnectionError:
            is_whole = False
    return is_whole


def look(listen, ledger):
    """What is there is what the model knows, and the heap is sound.  Whether changes go on."""
    wire = Wire(listen[0])
    reply = wire.call("get", "ledger", -1)
    if "started anew" in reply.get("error", {}).get("message", ""):
        wire.close()
        return False
    found = reply["result"]
    ledger.check({key: value for key, value in found.items() if key[0] == "k"})
    report = wire.result("heap.check")
    if not report["ok"]:
        raise AssertionError(f"heap.check: {report['problems'][:5]}")
    deadline = time.monotonic() + PATIENCE_S
    while len(wire.result("server.clients")) > 1:
        if time.monotonic() > deadline:
            raise AssertionError("connections that are gone are still there")
        time.sleep(0.005)
    goes_on = go_on(wire, ledger, deadline)
    wire.close()
    return goes_on


def go_on(wire, ledger, deadline):
    """Whether changes go on, if need be after a moment; if not heapd has said that it wants a new start."""
    while True:
        key, value, text = ledger.next_change()
        wire.send(text)
        reply = wire.reply()
        ledger.settle(key, value, reply)
        if "result" in reply:
            return True
        if "started anew" in reply["error"]["message"]:
            return False
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing fails any more, but: {reply}")
        time.sleep(0.01)
