"""program.py -- random programs for the heap: what an operation is, and how they are chosen.

A program is a list of operations, each a list of a word and its arguments, so that it can be printed, shrunk
and played again as JSON.  Objects are named by labels, small ints; null stands for an atom (the int 1000).

    create LABEL KIND ARGUMENTS NAME FINALIZER   NAME null: held by the session; FINALIZER null or as below
    hold L   drop L   share L   leave     a hold of a second session, and the end of that session
    bind NAME L   unbind NAME
    append L CHILD   insert L INDEX CHILD   setitem L INDEX CHILD   delitem L INDEX   clear L
    dset L KEY CHILD   ddel L KEY     KEY: a str, or the label of an instance
    add L CHILD   discard L CHILD   aset L ATTRIBUTE CHILD   adel L ATTRIBUTE
    weakref LABEL TARGET   notify LABEL TARGET      LABEL is unused when TARGET's shared weakref is there
    finalizer L TOKEN CLEAR RESURRECT_AS   unfinalizer L
    collect GENERATION   freeze   unfreeze   saveall ON   garbage CLEAR   check

An operation that cannot be done when its turn comes (its object is dead, or was never made because the
shrinker left that out) is passed over by both sides.  What the two sides would do in an order that nobody
promises never shows: each resurrecting finalizer has a name of its own.

Kinds with a capital can have weakrefs and finalizers in CPython, as `slots` can; see side_cpython.py.
Start at Generator.program().
"""
from side_cpython import ATTRIBUTES, WEAKREFABLE

SEQUENCES = ("list", "List")
DICTS = ("dict", "Dict")
SETS = ("set", "Set")
INSTANCES = ("slots", "plain", "Plain")
FINALIZABLE = ("List", "Dict", "Set", "Frozenset", "Tuple", "slots")
KINDS = ("list", "List", "List", "dict", "Dict", "tuple", "Tuple", "set", "Set", "frozenset", "Frozenset", "slots",
         "slots", "slots", "plain", "Plain")
EVERY_KIND = set(KINDS) | {"weakref", "notify"}
RING_KINDS = ("list", "List", "List", "slots", "slots", "slots", "plain", "Plain", "Plain")
NAMES = ("n0", "n1", "n2", "n3")
KEYS = ("k0", "k1", "k2", "k3")
ANCHOR = "anchor"  # of a plain dict: the container that stays in it

# How often which operation is tried.
WEIGHTS = {"create": 9, "ring": 16, "link": 16, "unlink": 7, "hold": 3, "drop": 7, "share": 2, "leave": 1, "bind": 2,
           "unbind": 5, "weakref": 3, "notify": 3, "finalizer": 6, "unfinalizer": 1, "collect": 9, "freeze": 0.5,
           "unfreeze": 0.5, "saveall": 0.3, "garbage": 0.6, "check": 5}


class Generator:
    """Chooses operations for the state that CPython's side is in."""

    def __init__(self, random, world):
        self.random, self.world = random, world
        self.next_label = 1
        self.locality = random.choice((0.5, 0.9, 0.97, 1))
        self.weights = dict(WEIGHTS)
        for word in self.weights:  # each program has habits of its own
            self.weights[word] *= random.choice((0.3, 1, 1, 2))
        if random.random() < 0.6:  # few programs need these, and they make others slow
            for word in ("freeze", "unfreeze", "saveall"):
                self.weights[word] = 0

    def program(self, length):
        """Makes a program of so many operations and yields each before it is to be applied."""
        words, weights = list(self.weights), list(self.weights.values())
        made = 0
        while made < length and not self.world.ended:
            found = {label: len(obj) if hasattr(obj, "__len__") else 0 for label, obj in self.world.visible().items()}
            ops = getattr(self, "make_" + self.random.choices(words, weights)[0])(found)
            if ops is None:
                continue
            for op in ops if isinstance(ops[0], list) else [ops]:
                made += 1
                yield op
        if not self.world.ended:
            yield ["check"]

    # ---- choosing objects ----

    def of(self, found, kinds, near=None):
        """A live object of one of these kinds, or None.  Mostly one made shortly before or after object `near`
        (None: the youngest), so that many small graphs come and go instead of one that holds everything."""
        labels = sorted(label for label in found if self.world.kinds[label] in kinds)
        if not labels:
            return None
        if self.random.random() < self.locality:
            near = labels[-1] if near is None else near
            labels = [label for label in labels if abs(label - near) <= 4] or labels
        return self.random.choice(labels)

    def any(self, found, near=None):
        return self.of(found, EVERY_KIND, near)

    def value(self, found, near=None):
        return None if self.random.random() < 0.1 else self.any(found, near)

    def key(self, found, near=None):
        return self.of(found, INSTANCES, near) if self.random.random() < 0.3 else self.random.choice(KEYS)

    def new_label(self):
        self.next_label += 1
        return self.next_label - 1

    def finalizer(self, label):
        token = "t%d" % self.random.randrange(9) if self.random.random() < 0.5 else None
        resurrect_as = "r%d" % label if self.random.random() < 0.4 else None
        return [token, self.random.random() < 0.4, resurrect_as]

    # ---- operations; None when there is nothing to do it to ----

    def make_create(self, found):
        kind = self.random.choice(KINDS)
        n = self.random.choice((0, 1, 1, 2, 2, 3))
        if kind in ("tuple", "Tuple", "dict"):
            n = max(n, 1)
        if kind in INSTANCES:
            names = self.random.sample(ATTRIBUTES, n)
            arguments = [[name, self.value(found)] for name in names]
        elif kind in DICTS:
            arguments = [[self.key(found), self.value(found)] for _ in range(n)]
            if kind == "dict":
                arguments = [[ANCHOR, self.any(found)]] + arguments
            if any(key is None for key, _ in arguments) or (kind == "dict" and arguments[0][1] is None):
                return None
        elif kind in SETS or kind in ("frozenset", "Frozenset"):
            arguments = [self.of(found, INSTANCES) for _ in range(n)]
            if None in arguments or (kind == "frozenset" and not arguments):
                return None
        else:
            arguments = [self.value(found) for _ in range(n)]
            if kind in ("tuple", "Tuple") and all(argument is None for argument in arguments):
                return None
        label = self.new_label()
        name = self.random.choice(NAMES) if self.random.random() < 0.1 else None
        return ["create", label, kind, arguments, name, self.finalizer(label) if kind == "Plain" else None]

    def make_hold(self, found):
        label = self.any(found)
        return None if label is None else ["hold", label]

    def make_drop(self, _):
        """One, or, as a function that returns, the youngest few, or all."""
        held = sorted(label for label, objects in self.world.holds.items() for _ in objects)
        if not held:
            return None
        chance = self.random.random()
        if chance < 0.6:
            return ["drop", self.random.choice(held)]
        if chance < 0.9:
            return [["drop", label] for label in held[-self.random.randint(1, 12):]]
        return [["drop", label] for label in held]

    def make_share(self, found):
        label = self.any(found)
        return None if label is None else ["share", label]

    def make_leave(self, _):
        return ["leave"]

    def make_bind(self, found):
        label = self.any(found)
        return None if label is None else ["bind", self.random.choice(NAMES), label]

    def make_unbind(self, _):
        return ["unbind", self.random.choice(sorted(self.world.names))] if self.world.names else None

    def make_ring(self, found):
        """A cycle of new objects, with finalizers and weakrefs perhaps, let go or not."""
        n, first = self.random.choice((1, 1, 2, 2, 3, 4)), self.next_label
        labels = list(range(first, first + n))
        self.next_label += n
        ops = []
        for label in labels:
            kind = self.random.choice(RING_KINDS)
            before = [label - 1] if label > first else []
            arguments = [["a0", child] for child in before] if kind in INSTANCES else before
            ops.append(["create", label, kind, arguments, None, self.finalizer(label) if kind == "Plain" else None])
        ops.append(["aset" if ops[0][2] in INSTANCES else "append", first] + ["a0"] * (ops[0][2] in INSTANCES) +
                   [labels[-1]])
        for made in list(ops[:n]):
            if made[2] in FINALIZABLE and self.random.random() < 0.4:
                ops.append(["finalizer", made[1]] + self.finalizer(made[1]))
            if made[2] in WEAKREFABLE and self.random.random() < 0.3:
                weak = self.new_label()
                ops.append([self.random.choice(("weakref", "notify")), weak, made[1]])
                if self.random.random() < 0.4:  # a part of the ring
                    ops.append(["aset", first, "a1", weak] if ops[0][2] in INSTANCES else ["append", first, weak])
                    ops.append(["drop", weak])
        other = self.any(found)
        if other is not None and self.random.random() < 0.3:
            ops.append(["aset", first, "a2", other] if ops[0][2] in INSTANCES else ["append", first, other])
        let_go = self.random.random()
        if let_go < 0.6:
            ops += [["drop", label] for label in labels]
        elif let_go < 0.8:
            ops += [["drop", label] for label in labels[1:]]
        return ops

    def make_link(self, found):
        label = self.of(found, SEQUENCES + DICTS + SETS + INSTANCES)
        if label is None:
            return None
        kind, child = self.world.kinds[label], self.value(found, label)
        if kind in SEQUENCES:
            n, word = found[label], self.random.choice(("append", "append", "insert", "setitem"))
            if word == "setitem" and n > 0:
                return ["setitem", label, self.random.randrange(n), child]
            if word == "insert":
                return ["insert", label, self.random.randrange(n + 1), child]
            return ["append", label, child]
        if kind in INSTANCES:
            return ["aset", label, self.random.choice(ATTRIBUTES), child]
        if kind in DICTS:
            key = self.key(found, label)
            return None if key is None else ["dset", label, key, child]
        child = self.of(found, INSTANCES, label)
        return None if child is None else ["add", label, child]

    def make_unlink(self, found):
        label = self.of(found, SEQUENCES + DICTS + SETS + INSTANCES)
        if label is None:
            return None
        kind = self.world.kinds[label]
        if kind in SEQUENCES + ("Dict",) + SETS and self.random.random() < 0.15:
            return ["clear", label]
        if kind in SEQUENCES:
            return ["delitem", label, self.random.randrange(found[label])] if found[label] else None
        if kind in INSTANCES:
            return ["adel", label, self.random.choice(ATTRIBUTES)]
        if kind in DICTS:
            key = self.key(found, label)
            return None if key is None else ["ddel", label, key]
        child = self.of(found, INSTANCES, label)
        return None if child is None else ["discard", label, child]

    def make_weakref(self, found, word="weakref"):
        target = self.of(found, WEAKREFABLE)
        return None if target is None else [word, self.new_label(), target]

    def make_notify(self, found):
        return self.make_weakref(found, "notify")

    def make_finalizer(self, found):
        label = self.of(found, FINALIZABLE + ("Plain",))
        return None if label is None else ["finalizer", label] + self.finalizer(label)

    def make_unfinalizer(self, found):
        label = self.of(found, FINALIZABLE)
        return None if label is None else ["unfinalizer", label]

    def make_collect(self, _):
        return ["collect", self.random.choice((0, 0, 1, 2, 2))]

    def make_freeze(self, _):
        return ["freeze"]

    def make_unfreeze(self, _):
        return ["unfreeze"]

    def make_saveall(self, _):
        return ["saveall", self.random.random() < 0.5]

    def make_garbage(self, _):
        return ["garbage", self.random.random() < 0.7]

    def make_check(self, _):
        return ["check"]
