"""stress_requests.py -- random requests for stress.py, and what their results must be.

A client knows what it holds (if it shares its session with nobody), a list and a dict that it tells nobody of, with
their contents, and the last few objects that anybody made.  What it wants to be so is said when a request is chosen:
requests of a session run in their order, so a hold that is there then is there when the request runs.
Start at Requests.burst().
"""

# Words of errors that requests about anybody's objects may have; all others mean that something is wrong.
MAY_BE_WRONG = {"not_found", "not_held", "type_error", "name_error", "index_error", "key_error", "attribute_error",
                "value_error"}
NAMES = ["n%d" % i for i in range(6)]
KEYS = ["k0", "k1", 1, 1.5, None, {"$tuple": [1, "x"]}]
ATTRIBUTES = ["a", "b", "c"]
HOLDS_MAX = 10
LARGE = 400  # elements of a literal that takes many slices


class Request:
    def __init__(self, life, number, method, params, is_answered=True, holds=False, must_succeed=False, judge=None,
                 learns=True, then=None):
        self.life, self.number, self.method, self.params = life, number, method, params
        self.is_answered = is_answered
        self.holds = holds                # the session has one more hold on the object in the result
        self.must_succeed = must_succeed  # whatever others do
        self.judge = judge                # from the result to what is wrong with it, or None
        self.learns = learns              # anybody may use the object in the result
        self.then = then                  # is given the object in the result

    def __str__(self):
        return "%s %.500s" % (self.method, self.params)


def expect(expected):
    return lambda result: None if result == expected else "expected %s" % (expected,)


class Requests:
    """Chooses requests for one session."""

    def __init__(self, random, world):
        self.random, self.world = random, world
        self.number = 0
        self.life = 0                        # how often the session has been closed
        self.shares = random.random() < 0.2  # its session with other connections
        self.held = []                       # ids, one for each hold
        self.weakrefs = {}                   # weakref -> its target, both held
        self.list, self.list_items = None, []    # what nobody else knows of
        self.dict, self.dict_value = None, 0

    def burst(self):
        requests = []
        for _ in range(self.random.choice((1, 1, 2, 4, 8, 16))):
            made = getattr(self, "make_" + self.random.choices(WORDS, WEIGHTS)[0])()
            if made is not None:
                requests.append(made)
            if made is not None and made.method == "server.kill":
                break  # it may be this very session, and what comes then has no holds
        return requests or [self.request("ping", {})]

    def learn(self, request, result):
        """What a result tells."""
        found = result.get("object") if isinstance(result, dict) else None
        if found is None:
            return
        if request.method not in ("unref", "name.unbind") and request.learns:
            self.world.ids.append(found)
            if result.get("type") in self.world.of_type:
                self.world.of_type[result["type"]].append(found)
        if request.life != self.life:  # the session has been closed since
            return
        if request.holds and not self.shares:
            self.held.append(found)
        if request.then:
            request.then(found)

    # ---- choosing ----

    def request(self, method, params, **more):
        self.number += 1
        return Request(self.life, self.number, method, params, **more)

    def any(self, kind=None):
        """An id or a name: mostly of something that lives, and is of that type if one is given."""
        chance = self.random.random()
        if kind is not None and chance < 0.7 and self.world.of_type[kind]:
            return self.world.of_type[kind][-1 - self.random.randrange(3) % len(self.world.of_type[kind])]
        if chance < 0.5 and self.held:
            return self.random.choice(self.held)
        if chance < 0.9 and self.world.ids:
            return self.world.ids[self.random.randrange(len(self.world.ids))]
        return self.random.choice(NAMES)

    def literal(self, depth=3, labels=()):
        chance = self.random.random()
        if depth == 0 or chance < 0.15:
            return self.random.choice((None, True, 7, 1000, -1.5, "text", "another text that is longer", {"$bytes": "AAEC"},
                                       {"$int": "123456789012345678901234567890"}))
        if chance < 0.35:
            return {"$ref": self.any()}
        if chance < 0.45 and labels:
            return {"$label": self.random.choice(labels)}
        items = [self.literal(depth - 1, labels) for _ in range(self.random.randrange(4))]
        what = self.random.randrange(9)
        if what < 3:
            return items
        if what == 3:
            return {"$tuple": items}
        if what == 4:
            return {"x%d" % i: item for i, item in enumerate(items)}
        if what == 5:
            return {"$dict": [[self.random.choice(KEYS), item] for item in items]}
        if what == 6:
            return {self.random.choice(("$set", "$frozenset")): [1, "a", {"$tuple": [2, 3]}][:len(items)]}
        if what == 7:
            return {"$instance": "Node", "attrs": dict(zip(ATTRIBUTES, items))}
        return {"$weakref": self.any()}

    def value(self):
        chance = self.random.random()
        if chance < 0.2:  # cycles
            labels = ["x", "y"]
            return {"$let": {"x": [{"$label": "y"}, self.literal(2, labels)],
                             "y": {"$instance": "Node", "attrs": {"a": {"$label": "x"}, "b": self.literal(2, labels)}}},
                    "in": {"$label": self.random.choice(labels)}}
        if chance < 0.21:
            return [[i, "text %d" % i] for i in range(LARGE)]
        return self.literal()

    def is_held(self, target):
        return not self.shares and isinstance(target, int) and target in self.held

    def on(self, method, params=(), kind=None, **more):
        """About any object, which may be of another type."""
        return self.request(method, [self.any(kind), *params], **more)

    # ---- objects ----

    def make_create(self):
        if self.random.random() < 0.1:
            return self.request("create", {"value": {"$class": "Node"}, "name": "Node"}, learns=False)
        params = {"value": self.value()}
        if self.random.random() < 0.3:
            params["name"] = self.random.choice(NAMES)
            return self.request("create", params, is_answered=self.random.random() < 0.8)
        if len(self.held) >= HOLDS_MAX:
            return self.make_unref()
        return self.request("create", params, holds=True)

    def make_ref(self):
        if len(self.held) >= HOLDS_MAX:
            return self.make_unref()
        target = self.any()
        return self.request("ref", [target], holds=True, must_succeed=self.is_held(target))

    def make_unref(self):
        if self.shares:
            return self.on("unref")
        if not self.held:
            return None
        target = self.held.pop(self.random.randrange(len(self.held)))
        if target not in self.held:
            self.weakrefs = {w: t for w, t in self.weakrefs.items() if target not in (w, t)}
        return self.request("unref", [target], is_answered=self.random.random() < 0.8, must_succeed=True)

    def make_see(self):
        """What is held is there."""
        if not self.held or self.shares:
            return self.on("type")
        target = self.random.choice(self.held)
        method, params = self.random.choice((("type", []), ("get", [-1]), ("get", [1, "let"]), ("sys.getsizeof", []),
                                             ("sys.getrefcount", []), ("gc.is_tracked", []), ("gc.get_referents", [])))
        return self.request(method, [target, *params], must_succeed=True)

    def make_list(self):
        method = self.random.choice(("append", "insert", "getitem", "setitem", "delitem", "pop", "clear", "extend", "len"))
        value, index = [self.literal(2)], [self.random.choice((0, -1, 1, 5))]
        params = {"append": value, "insert": index + value, "getitem": index, "setitem": index + value, "delitem": index,
                  "pop": index + [False], "extend": [[self.literal(1), self.literal(1)]]}.get(method, [])
        return self.on("list." + method, params, "list", is_answered=self.random.random() < 0.8)

    def make_dict(self):
        method = self.random.choice(("setitem", "getitem", "setdefault", "delitem", "pop", "contains", "keys", "clear",
                                     "len", "incr", "update"))
        value, key = [self.literal(2)], [self.random.choice(KEYS)]
        params = {"setitem": key + value, "setdefault": key + value, "pop": key + [False], "keys": [], "clear": [],
                  "len": [], "update": [{"k0": 1, "k2": []}]}.get(method, key)
        return self.on("dict." + method, params, "dict", is_answered=self.random.random() < 0.8)

    def make_set(self):
        method = self.random.choice(("add", "discard", "contains", "clear", "len"))
        params = [] if method in ("clear", "len") else [self.random.choice((1, "a", {"$frozenset": [1]}))]
        return self.on("set." + method, params, "set")

    def make_attr(self):
        method = self.random.choice(("set", "set", "get", "del", "list"))
        params = [] if method == "list" else [self.random.choice(ATTRIBUTES)]
        return self.on("attr." + method, params + ([self.literal(2)] if method == "set" else []), "Node")

    def make_name(self):
        name = self.random.choice(NAMES)
        method = self.random.choice(("bind", "bind", "unbind", "unbind", "lookup", "list"))
        params = {"bind": [name, self.any()], "list": []}.get(method, [name])
        return self.request("name." + method, params, is_answered=self.random.random() < 0.8)

    # ---- what nobody else knows of ----

    def make_private_list(self):
        if self.shares:
            return None
        if self.list is None:
            self.list = 0  # being made
            return self.request("create", {"value": []}, learns=False, must_succeed=True,
                                then=lambda found: setattr(self, "list", found))
        if self.list == 0:
            return None
        if len(self.list_items) > 20:
            self.list_items = []
            return self.request("list.clear", [self.list], is_answered=False)
        if self.random.random() < 0.5:
            return self.request("get", [self.list], must_succeed=True, judge=expect(list(self.list_items)))
        self.list_items.append(self.random.randrange(10 ** 6))
        return self.request("list.append", [self.list, self.list_items[-1]], is_answered=False)

    def make_private_dict(self):
        if self.shares:
            return None
        if self.dict is None:
            self.dict = 0
            return self.request("create", {"value": {}}, learns=False, must_succeed=True,
                                then=lambda found: setattr(self, "dict", found))
        if self.dict == 0:
            return None
        self.dict_value += 1
        return self.request("dict.incr", [self.dict, "n"], must_succeed=True, judge=expect({"value": self.dict_value}))

    # ---- memory manager ----

    def make_collect(self):
        return self.request("collect", [self.random.choice((0, 1, 2, 2))], must_succeed=True,
                            judge=lambda result: "uncollectable" if result["uncollectable"] else None)

    def make_weakref(self):
        if not self.held or self.shares or len(self.held) >= HOLDS_MAX:
            return self.on("weakref.get", [False])
        target = self.random.choice(self.held)
        return self.request("weakref.create", [target, self.random.random() < 0.5], holds=True,
                            then=lambda found: self.note_weakref(found, target))

    def note_weakref(self, weakref, target):
        if target in self.held:  # in the rest of the burst it was perhaps let go
            self.weakrefs[weakref] = target

    def make_weakref_told(self):
        """A weakref to what is held tells of it."""
        if not self.weakrefs:
            return None
        weakref = self.random.choice(list(self.weakrefs))
        return self.request("weakref.get", [weakref, False], must_succeed=True,
                            judge=expect({"object": self.weakrefs[weakref]}))

    def make_finalizer(self):
        if self.random.random() < 0.2:
            return self.on("finalizer.clear")
        return self.request("finalizer.set", {"object": self.any(), "token": self.random.choice(("t", None)),
                                              "clear": self.random.random() < 0.4,
                                              "resurrect_as": self.random.choice(NAMES + [None] * 10)})

    def make_gc(self):
        method = self.random.choice(("get_count", "get_threshold", "get_stats", "get_objects", "get_freeze_count",
                                     "isenabled", "get_debug", "garbage"))
        return self.request("gc." + method, [], must_succeed=True)

    # ---- questions, sessions, administration ----

    def make_question(self):
        method = self.random.choice(("heap.inspect", "heap.why", "heap.retained", "gc.get_referrers", "weakref.count",
                                     "gc.is_finalized"))
        return self.on(method, [True] if method == "heap.inspect" else [])

    def make_whole(self):
        method = self.random.choice(("heap.dominators", "heap.types", "heap.map", "heap.check", "heap.mark", "heap.diff",
                                     "stats", "server.slowlog", "name.list"))
        params = {"heap.mark": [self.random.choice("ab")], "heap.diff": [self.random.choice("ab")]}.get(method, [])
        judge = (lambda result: None if result["ok"] else "unsound") if method == "heap.check" else None
        return self.request(method, params, judge=judge, must_succeed=not params)

    def make_subscribe(self):
        method = self.random.choice(("subscribe", "subscribe", "unsubscribe"))
        return self.request(method, [self.random.choice((["gc"], ["finalized", "weakref"], ["clients"], ["journal", "gc"]))],
                            must_succeed=True)

    def make_session(self):
        if not self.shares:
            if self.random.random() < 0.1:
                self.life += 1
                self.held, self.weakrefs = [], {}
                self.list, self.list_items, self.dict, self.dict_value = None, [], None, 0
                return self.request("session.close", [], must_succeed=True)
            return None
        what = self.random.randrange(4)
        if what == 0 and self.world.tokens:
            return self.request("session.resume", [self.world.tokens[-1]])
        if what == 1:
            return self.request("session.close", [])
        return self.request("session.open", [self.random.choice((1, 50, 1000))], judge=self.note_token)

    def note_token(self, result):
        self.world.tokens.append(result["session"])

    def make_kill(self):
        if self.random.random() < 0.7 or not self.world.clients:
            return self.request("server.clients", [self.random.random() < 0.3], must_succeed=True)
        return self.request("server.kill", [self.world.clients[self.random.randrange(len(self.world.clients))]])


# How often what is chosen.
CHANCES = {"create": 14, "ref": 4, "unref": 10, "see": 6, "list": 10, "dict": 8, "set": 3, "attr": 5, "name": 8,
           "private_list": 5, "private_dict": 5, "collect": 3, "weakref": 5, "weakref_told": 4, "finalizer": 5, "gc": 2,
           "question": 3, "whole": 1.5, "subscribe": 1, "session": 2, "kill": 0.7}
WORDS, WEIGHTS = list(CHANCES), list(CHANCES.values())
