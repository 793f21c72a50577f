"""side_heapd.py -- runs the same program over the wire against a live daemon and says what it saw.

Labels become object ids.  The requests of one operation go out in one write, and their replies are read
together; events that came between them are kept for the operation that caused them.
Start at Heapd.apply().
"""
import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile

ATOM = 1000
FORMS = {"tuple": "$tuple", "Tuple": "$tuple", "set": "$set", "Set": "$set", "frozenset": "$frozenset",
         "Frozenset": "$frozenset"}


class Daemon:
    """A heapd of our own in a temporary folder; of HEAPD_.. in the environment it is given HEAPD_STRESS alone."""

    def __init__(self, program, arguments=(), more=None):
        if not os.access(program, os.X_OK):
            raise RuntimeError("there is no %s: run make first" % program)
        self.folder = tempfile.mkdtemp(prefix="heapd-fuzz-")
        self.path = os.path.join(self.folder, "socket")
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("HEAPD_") or name == "HEAPD_STRESS"}
        environment.update(more or {})
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.process = subprocess.Popen([program, "--listen", "unix:" + self.path, *arguments], stdout=subprocess.PIPE,
                                        stderr=self.log, env=environment)
        if not self.process.stdout.readline().startswith(b"heapd ready"):
            self.stop()
            raise RuntimeError("heapd does not start")

    def stop(self):
        """Ends it; returns what is wrong with how it ended, or None."""
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


class Gone(Exception):
    """The daemon closed the connection."""


class Refused(Exception):
    """The daemon answered with an error."""


class Connection:
    """Sends requests and reads their replies; events that come between them go to a list."""

    def __init__(self, path, events):
        self.events = events
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def close(self):
        self.lines.close()
        self.socket.close()

    def many(self, requests):
        """The replies, results or errors, of requests: a list of (method, params)."""
        text = "".join(['{"id":1,"method":"%s","params":%s}\n' % (method, json.dumps(params))
                        for method, params in requests])
        self.socket.sendall(text.encode())
        replies = []
        while len(replies) < len(requests):
            line = self.lines.readline()
            if not line:
                raise Gone("the daemon closed the connection during %s" % text[:500])
            reply = json.loads(line)
            if reply.get("method") == "event":
                self.events.append(reply["params"])
            else:
                replies.append(reply)
        return replies

    def one(self, method, **params):
        reply = self.many([(method, params)])[0]
        if "error" in reply:
            raise Refused("%s %s: %s" % (method, params, reply["error"]))
        return reply["result"]


class Heapd(Connection):
    """The session that a program runs in, a second one that only holds, and the program's labels."""

    def __init__(self, path):
        super().__init__(path, [])
        self.other = Connection(path, [])
        self.classes = {}
        self.forget()
        slotted = {"$class": "Slots", "slots": ["a0", "a1", "a2", "a3"]}
        self.classes["slots"] = self.one("create", value=slotted)["object"]
        self.classes["plain"] = self.one("create", value={"$class": "Plain"})["object"]
        self.classes["Plain"] = self.classes["plain"]
        self.one("gc.disable")
        self.one("subscribe", events=["gc"])
        self.baseline = self.live()

    def close(self):
        self.other.close()
        super().close()

    def forget(self):
        """Begins a new program."""
        self.ids, self.labels, self.kinds = {}, {}, {}
        self.stats = self.stats_since([(0, 0, 0)] * 3)
        self.events.clear()

    def is_alive(self, label):
        return label in self.ids and "result" in self.many([("type", [self.ids[label]])])[0]

    def live(self):
        return self.one("stats", section="objects")["live"]

    # ---- operations ----

    def apply(self, op):
        """What was seen, in the words of side_cpython.py."""
        self.events.clear()
        try:
            result = getattr(self, "op_" + op[0])(*op[1:])
        except Refused as error:
            result = {"error": str(error)}
        events, gc_events = collections.defaultdict(list), []
        for event in self.events:
            if event["event"] == "gc":
                gc_events.append((event["phase"], event["generation"], event.get("unreachable")))
            elif event["event"] == "finalized":
                events[self.label(event["object"])].append(("finalized", event["token"], event["resurrected"]))
            elif event["event"] == "weakref":
                events[self.label(event["object"])].append(("weakref", self.label(event["weakref"])))
            else:
                events[None].append(event)
        return {"result": result, "events": dict(events), "gc": gc_events}

    def register(self, label, kind, identity):
        self.ids[label], self.labels[identity], self.kinds[label] = identity, label, kind

    def label(self, identity):
        return self.labels.get(identity, -1)  # -1: an object that this program did not make

    def literal(self, label):
        return ATOM if label is None else {"$ref": self.ids[label]}

    def key(self, key):
        return self.literal(key) if isinstance(key, int) else key

    def value(self, kind, arguments):
        if kind in self.classes:
            return {"$instance": self.classes[kind], "attrs": {name: self.literal(child) for name, child in arguments}}
        if kind in ("dict", "Dict"):
            return {"$dict": [[self.key(key), self.literal(child)] for key, child in arguments]}
        items = [self.literal(child) for child in arguments]
        return {FORMS[kind]: items} if kind in FORMS else items

    def op_create(self, label, kind, arguments, name, finalizer):
        params = {"value": self.value(kind, arguments)}
        if name is not None:
            params["name"] = name
        made = self.one("create", **params)
        self.register(label, kind, made["object"])
        if finalizer is not None:
            self.op_finalizer(label, *finalizer)
        return {"refcount": made["refcount"]}

    def op_hold(self, label):
        return {"refcount": self.one("ref", object=self.ids[label])["refcount"]}

    def op_drop(self, label):
        return {"refcount": self.one("unref", object=self.ids[label])["refcount"]}

    def op_bind(self, name, label):
        return {"refcount": self.one("name.bind", name=name, object=self.ids[label])["refcount"]}

    def op_unbind(self, name):
        return {"refcount": self.one("name.unbind", name=name)["refcount"]}

    def op_share(self, label):
        return {"refcount": self.other.one("ref", object=self.ids[label])["refcount"]}

    def op_leave(self):
        released = self.other.one("session.close")["released"]
        self.one("ping")  # what its end caused is told before this reply
        return {"released": released}

    def op_append(self, label, child):
        self.one("list.append", object=self.ids[label], value=self.literal(child))
        return {}

    def op_insert(self, label, index, child):
        self.one("list.insert", object=self.ids[label], index=index, value=self.literal(child))
        return {}

    def op_setitem(self, label, index, child):
        self.one("list.setitem", object=self.ids[label], index=index, value=self.literal(child))
        return {}

    def op_delitem(self, label, index):
        self.one("list.delitem", object=self.ids[label], index=index)
        return {}

    def op_clear(self, label):
        self.one(self.kinds[label].lower() + ".clear", object=self.ids[label])
        return {}

    def op_dset(self, label, key, child):
        self.one("dict.setitem", object=self.ids[label], key=self.key(key), value=self.literal(child))
        return {}

    def op_ddel(self, label, key):
        self.one("dict.delitem", object=self.ids[label], key=self.key(key))
        return {}

    def op_add(self, label, child):
        return {"added": self.one("set.add", object=self.ids[label], value=self.literal(child))["added"]}

    def op_discard(self, label, child):
        return {"removed": self.one("set.discard", object=self.ids[label], value=self.literal(child))["removed"]}

    def op_aset(self, label, attribute, child):
        self.one("attr.set", object=self.ids[label], attr=attribute, value=self.literal(child))
        return {}

    def op_adel(self, label, attribute):
        self.one("attr.del", object=self.ids[label], attr=attribute)
        return {}

    # ---- weakrefs and finalizers ----

    def op_weakref(self, label, target):
        identity = self.one("weakref.create", object=self.ids[target])["object"]
        if identity not in self.labels:
            self.register(label, "weakref", identity)
        return {"weakref": self.labels[identity]}

    def op_notify(self, label, target):
        identity = self.one("weakref.create", object=self.ids[target], notify=True)["object"]
        self.register(label, "notify", identity)
        return {"weakref": label}

    def op_finalizer(self, label, token, clear, resurrect_as):
        params = {"object": self.ids[label], "clear": clear, "token": token, "resurrect_as": resurrect_as}
        reply = self.many([("finalizer.set", params)])[0]
        return {"error": reply["error"]["data"]["error"]} if "error" in reply else {}

    def op_unfinalizer(self, label):
        return {"was": self.one("finalizer.clear", object=self.ids[label])}

    # ---- the collector ----

    def stats_since(self, before):
        after = [(s["collections"], s["collected"], s["uncollectable"]) for s in self.one("gc.get_stats")]
        return [tuple(a - b for a, b in zip(*pair)) for pair in zip(after, before)]

    def op_collect(self, generation):
        unreachable = self.one("collect", generation=generation)["unreachable"]
        return {"unreachable": unreachable, "count": tuple(self.one("gc.get_count")[1:]),
                "stats": self.stats_since(self.stats)}

    def op_freeze(self):
        self.one("gc.freeze")
        return {"count": tuple(self.one("gc.get_count")[1:])}

    def op_unfreeze(self):
        self.one("gc.unfreeze")
        return {}

    def op_saveall(self, on):
        self.one("gc.set_debug", flags=["saveall"] if on else [])
        return {}

    def op_garbage(self, clear):
        garbage = self.one("gc.garbage", clear=clear)["objects"]
        return {"garbage": sorted(self.label(identity) for identity in garbage)}

    # ---- the whole state ----

    def op_check(self):
        """Of every object ever made; side_cpython.py cannot see all of them (see compare.py)."""
        generations = self.generations()
        labels = sorted(self.ids)
        alive = self.many([("sys.getrefcount", [self.ids[label]]) for label in labels])
        counts = {label: reply["result"] - 1 for label, reply in zip(labels, alive) if "result" in reply}
        dead = [label for label, reply in zip(labels, alive) if "result" not in reply]
        requests = []
        for label in counts:
            identity = self.ids[label]
            requests += [("gc.is_tracked", [identity]), ("gc.is_finalized", [identity]),
                         ("gc.get_referents", [identity])]
            if self.kinds[label] in ("weakref", "notify"):
                requests.append(("weakref.get", [identity, False]))
            else:
                requests.append(("weakref.count", [identity]))
        replies = iter(self.many(requests))
        state = {}
        for label, refcount in counts.items():
            tracked, finalized, referents, weak = [next(replies).get("result") for _ in range(4)]
            state[label] = {"refcount": refcount, "tracked": tracked, "finalized": finalized,
                            "generation": generations.get(self.ids[label], "frozen")}
            state[label]["referents"] = sorted(self.labels[r] for r in referents["objects"] if r in self.labels)
            if self.kinds[label] in ("weakref", "notify"):
                state[label]["target"] = None if weak["object"] is None else self.label(weak["object"])
            else:
                state[label]["weakrefs"] = weak
        for label in dead:  # dead for ever: nobody needs to ask again
            del self.ids[label]
        return {"state": state, "dead": dead}

    def generations(self):
        found = {}
        for generation in range(3):
            after = None
            while True:
                page = self.one("gc.get_objects", generation=generation, after=after)
                found.update((identity, generation) for identity in page["objects"])
                after = page["next"]
                if after is None:
                    break
        return found

    # ---- the end of a program ----

    def release_all(self, holds):
        """Lets go of everything; returns what is left over, as a sentence, or None."""
        self.one("gc.set_debug", flags=[])
        self.one("gc.unfreeze")
        self.other.one("session.close")
        for label, held in holds.items():
            for _ in range(held):
                self.one("unref", object=self.ids[label])
        for _ in range(100):
            self.one("gc.garbage", clear=True)
            for name in self.one("name.list")["names"]:
                self.one("name.unbind", name=name["name"])
            self.one("collect")
            if not self.one("name.list")["names"]:  # else finalizers have bound them
                break
        live, check = self.live(), self.one("heap.check")
        if live != self.baseline:
            return "%d objects live, %d did before" % (live, self.baseline)
        if not check["ok"]:
            return "heap.check: %s" % check["problems"]
        return None
