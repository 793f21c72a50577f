"""side_cpython.py -- runs a program (see program.py) with CPython's own objects and says what it saw.

Who refers to what must be exactly what heapd's side has, so references of the harness itself are few:

    holds     {label: [object, ..]}  one reference for each hold of the session
    shared    [object, ..]           one for each hold of a second session
    names     {name: object}         one for each bound name
    tags      {label: Tag}           a weakref of a subclass, so that it is never the program's shared one;
                                     says whether an object that nothing roots still lives
    by_id     {id(object): label}    the latest object made at an address.  It may be dead, so only objects
                                     found by walking from the four above may be looked up

A heapd list is either a plain `list` or a `List`: CPython gives weakrefs and finalizers to instances of
Python classes only.  Finalizers are set and taken away by changing `__class__` to one that has `__del__`;
where that would make an instance's `__dict__` an object of its own (class Plain), the class is chosen for good when
the instance is made.  Plain dicts keep a container for ever, so that 3.11 never stops tracking them.

Start at Cpython.apply().
"""
import collections
import gc
import sys
import weakref


class Tag(weakref.ref):
    """The harness's own weakref to an object of the program."""

    __slots__ = ()


class Finalized:
    """What gives a class its finalizer; `world` is the Cpython whose program runs."""

    __slots__ = ()
    world = None

    def __del__(self):
        if Finalized.world is not None:
            Finalized.world.finalize(self)


class List(list):
    __slots__ = ("__weakref__",)


class Dict(dict):
    __slots__ = ("__weakref__",)


class Set(set):
    __slots__ = ()


class Frozenset(frozenset):
    __slots__ = ()


class Tuple(tuple):
    __slots__ = ()


class Slots:
    __slots__ = ("a0", "a1", "a2", "a3", "__weakref__")


class Plain:
    """An instance with a dict."""


def with_finalizer(kind):
    return type(kind.__name__ + "Finalized", (Finalized, kind), {"__slots__": ()})


def on_weakref(ref):
    """What notifying weakrefs call: a function, since a bound method would be one more object that dies."""
    Finalized.world.notify(ref)


ATTRIBUTES = ("a0", "a1", "a2", "a3")
ATOM = 1000
SWAPPED = {kind: with_finalizer(kind) for kind in (List, Dict, Set, Frozenset, Tuple, Slots)}
SWAPPED_BACK = {finalized: kind for kind, finalized in SWAPPED.items()}


class PlainFinalized(Finalized, Plain):
    """An instance with a dict and a finalizer; no __slots__, so its dict is the inline one, too."""


def know_attributes(kind):
    """Sets all attributes once.  Each instance of a class shrinks the room for names that none of them has had
    yet; one that comes when there is none left gives its instance a dict of its own, an object to the collector."""
    pattern = kind()
    for attribute in ATTRIBUTES:
        setattr(pattern, attribute, None)


know_attributes(Plain)
know_attributes(PlainFinalized)


CLASSES = {"list": list, "List": List, "dict": dict, "Dict": Dict, "set": set, "Set": Set, "frozenset": frozenset,
           "Frozenset": Frozenset, "tuple": tuple, "Tuple": Tuple, "slots": Slots, "plain": Plain,
           "Plain": PlainFinalized}
WEAKREFABLE = {"List", "Dict", "set", "Set", "frozenset", "Frozenset", "slots", "plain", "Plain"}
CONTAINERS = set(CLASSES.values()) | set(SWAPPED.values()) | {weakref.ref}


class Cpython:
    """One program's world.  `kinds` has the kind of every label ever made."""

    def __init__(self):
        self.holds, self.names, self.tags, self.by_id, self.kinds = {}, {}, {}, {}, {}
        self.shared = []
        self.finalizers = {}  # label: (token, clear, resurrect_as)
        self.targets = {}  # label of a notifying weakref: label of its target
        self.events = []  # of the operation under way: (label, what happened to it, ..)
        self.gc_events = []
        self.notified = set()  # id() of the weakrefs whose callbacks it has called
        self.ended = False  # what follows cannot be compared
        self.stats = self.stats_since([(0, 0, 0)] * 3)
        Finalized.world = self
        gc.callbacks.append(self.on_gc)

    def close(self):
        gc.callbacks.remove(self.on_gc)

    def release_all(self):
        """Lets go of everything; returns what is left over, as a sentence, or None."""
        gc.set_debug(0)
        gc.unfreeze()
        self.holds.clear()
        self.shared.clear()
        for _ in range(100):
            gc.garbage.clear()
            self.names.clear()
            gc.collect()
            if not self.names:  # else finalizers have bound them
                break
        alive = sorted(self.visible())
        return "CPython's objects %s live on" % alive if alive else None

    # ---- what CPython calls ----

    def finalize(self, obj):
        label = self.by_id[id(obj)]
        token, clear, resurrect_as = self.finalizers.pop(label)
        if clear:
            self.empty(obj)
        if resurrect_as is not None:
            self.names[resurrect_as] = obj
        self.events.append((label, "finalized", token))

    def empty(self, obj):
        if isinstance(obj, (list, dict, set)):
            obj.clear()
        elif isinstance(obj, (Slots, Plain)):
            for attribute in ATTRIBUTES:
                if hasattr(obj, attribute):
                    delattr(obj, attribute)

    def notify(self, ref):
        self.notified.add(id(ref))
        label = self.by_id[id(ref)]
        self.events.append((self.targets[label], "weakref", label))

    def on_gc(self, phase, info):
        found = info["collected"] if phase == "stop" else None
        self.gc_events.append((phase, info["generation"], found))

    # ---- finding objects ----

    def visible(self):
        """{label: object} of all that roots, or objects with a live tag, reach."""
        found, todo = {}, []
        for held in self.holds.values():
            todo.append(held[0])
        todo.extend(self.shared)
        todo.extend(self.names.values())
        todo.extend(gc.garbage)
        todo.extend(obj for obj in (tag() for tag in self.tags.values()) if obj is not None)
        while todo:
            obj = todo.pop()
            if type(obj) not in CONTAINERS:
                continue
            label = self.by_id[id(obj)]
            if label not in found:
                found[label] = obj
                todo.extend(gc.get_referents(obj))
                tag = self.tags.get(label)
                if tag is not None and tag() is None:
                    self.tags[label] = Tag(obj)  # a collection cleared it, and a finalizer saved the object
        return found

    def find(self, label):
        held = self.holds.get(label)
        if held:
            return held[0]
        tag = self.tags.get(label)
        obj = tag() if tag is not None else None
        return self.visible().get(label) if obj is None else obj

    def register(self, label, kind, obj):
        self.kinds[label] = kind
        self.by_id[id(obj)] = label
        if kind in WEAKREFABLE:
            self.tags[label] = Tag(obj)

    def refcount(self, label):
        """Of a live object: what heapd calls its refcount; 0 for one that is not there."""
        obj = self.find(label)
        return 0 if obj is None else sys.getrefcount(obj) - 2

    # ---- operations ----

    def apply(self, op):
        """What was seen, or None when the operation cannot be done now (then nothing has changed)."""
        self.events, self.gc_events, self.notified = [], [], set()
        saved = len(gc.garbage)
        result = getattr(self, "op_" + op[0])(*op[1:])
        if result is None:
            return None
        return {"result": result, "events": self.take_events(saved), "gc": self.gc_events}

    def take_events(self, saved):
        """{label: what happened to it, in order}; the first `saved` entries of gc.garbage were there before."""
        events, lives = collections.defaultdict(list), set()
        if any(event[1] == "finalized" for event in self.events):
            lives = set(self.visible()) - {self.by_id[id(obj)] for obj in gc.garbage[saved:]}
        for label, *event in self.events:
            events[label].append((*event, label in lives) if event[0] == "finalized" else tuple(event))
        self.events = []
        return dict(events)

    def children(self, labels):
        """The objects of labels (None: an atom), or None if one is not there."""
        objects = [ATOM if label is None else self.find(label) for label in labels]
        return None if any(obj is None for obj in objects) else objects

    def make(self, kind, arguments):
        if kind in ("list", "List", "tuple", "Tuple", "set", "Set", "frozenset", "Frozenset"):
            objects = self.children(arguments)
            return None if objects is None else CLASSES[kind](objects)
        values = self.children([value for _, value in arguments])
        if values is None:
            return None
        obj = CLASSES[kind]()
        for (key, _), value in zip(arguments, values):
            if kind in ("dict", "Dict"):
                key = self.find(key) if isinstance(key, int) else key
                if key is None:
                    return None
                obj[key] = value
            else:
                setattr(obj, key, value)
        return obj

    def op_create(self, label, kind, arguments, name, finalizer):
        obj = self.make(kind, arguments)
        if obj is None:
            return None
        self.register(label, kind, obj)
        if finalizer is not None:
            self.finalizers[label] = finalizer
        if name is None:
            self.holds[label] = [obj]
        else:
            self.names[name] = obj
        del obj
        return {"refcount": self.refcount(label)}

    def op_hold(self, label):
        obj = self.find(label)
        if obj is None:
            return None
        self.holds.setdefault(label, []).append(obj)
        del obj
        return {"refcount": self.refcount(label)}

    def op_drop(self, label):
        held = self.holds.get(label)
        if held is None:
            return None
        obj = held.pop()
        if not held:
            del self.holds[label]
        left = sys.getrefcount(obj) - 2  # of a plain list on a cycle nobody could tell later
        del obj
        return {"refcount": left or self.refcount(label)}

    def op_bind(self, name, label):
        obj = self.find(label)
        if obj is None:
            return None
        self.names[name] = obj
        del obj
        return {"refcount": self.refcount(label)}

    def op_unbind(self, name):
        if name not in self.names:
            return None
        obj = self.names.pop(name)
        label, left = self.by_id[id(obj)], sys.getrefcount(obj) - 2
        del obj
        return {"refcount": left or self.refcount(label)}

    def op_share(self, label):
        obj = self.find(label)
        if obj is None:
            return None
        self.shared.append(obj)
        del obj
        return {"refcount": self.refcount(label)}

    def op_leave(self):
        released = len(self.shared)
        self.shared.clear()
        return {"released": released}

    def op_append(self, label, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None:
            return None
        obj.append(values[0])
        return {}

    def op_insert(self, label, index, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None:
            return None
        obj.insert(index, values[0])
        return {}

    def op_setitem(self, label, index, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None or index >= len(obj):
            return None
        obj[index] = values[0]
        return {}

    def op_delitem(self, label, index):
        obj = self.find(label)
        if obj is None or index >= len(obj):
            return None
        del obj[index]
        return {}

    def op_clear(self, label):
        obj = self.find(label)
        if obj is None:
            return None
        obj.clear()
        return {}

    def key(self, key):
        return self.find(key) if isinstance(key, int) else key

    def op_dset(self, label, key, child):
        obj, key, values = self.find(label), self.key(key), self.children([child])
        if obj is None or key is None or values is None:
            return None
        obj[key] = values[0]
        return {}

    def op_ddel(self, label, key):
        obj, key = self.find(label), self.key(key)
        if obj is None or key is None or key not in obj:
            return None
        del obj[key]
        return {}

    def op_add(self, label, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None:
            return None
        added = values[0] not in obj
        obj.add(values[0])
        return {"added": added}

    def op_discard(self, label, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None:
            return None
        removed = values[0] in obj
        obj.discard(values[0])
        return {"removed": removed}

    def op_aset(self, label, attribute, child):
        obj, values = self.find(label), self.children([child])
        if obj is None or values is None:
            return None
        setattr(obj, attribute, values[0])
        return {}

    def op_adel(self, label, attribute):
        obj = self.find(label)
        if obj is None or not hasattr(obj, attribute):
            return None
        delattr(obj, attribute)
        return {}

    # ---- weakrefs and finalizers ----

    def op_weakref(self, label, target):
        obj = self.find(target)
        if obj is None:
            return None
        ref = next((r for r in weakref.getweakrefs(obj) if type(r) is weakref.ref and r.__callback__ is None), None)
        if ref is None:
            ref = weakref.ref(obj)
            self.register(label, "weakref", ref)
        label = self.by_id[id(ref)]
        self.holds.setdefault(label, []).append(ref)
        del ref
        return {"weakref": label}

    def op_notify(self, label, target):
        obj = self.find(target)
        if obj is None:
            return None
        ref = weakref.ref(obj, on_weakref)
        self.register(label, "notify", ref)
        self.targets[label] = target
        self.holds[label] = [ref]
        del ref
        return {"weakref": label}

    def op_finalizer(self, label, token, clear, resurrect_as):
        obj = self.find(label)
        if obj is None:
            return None
        if gc.is_finalized(obj):
            return {"error": "value_error"}
        if type(obj) in SWAPPED:
            obj.__class__ = SWAPPED[type(obj)]
        self.finalizers[label] = (token, clear, resurrect_as)
        return {}

    def op_unfinalizer(self, label):
        obj = self.find(label)
        if obj is None:
            return None
        if type(obj) in SWAPPED_BACK and not gc.is_finalized(obj):
            obj.__class__ = SWAPPED_BACK[type(obj)]
        return {"was": self.finalizers.pop(label, None) is not None}

    # ---- the collector ----

    @staticmethod
    def stats_since(before):
        after = [(s["collections"], s["collected"], s["uncollectable"]) for s in gc.get_stats()]
        return [tuple(a - b for a, b in zip(*pair)) for pair in zip(after, before)]

    def op_collect(self, generation):
        movable = set()
        if self.targets:
            movable = {id(obj) for g in range(min(generation + 2, 3)) for obj in gc.get_objects(g)}
        unreachable = gc.collect(generation)
        # CPython 3.11 puts a weakref whose callback it has called into the generation of this collection's
        # survivors, also one that was older, or frozen, before.  That is a slip of its lists and no rule.
        # An object that comes back is in generation 0 if its refcount was 0 meanwhile: a matter of the order
        # in which finalizers run, which nobody promises.
        young = {id(obj) for obj in gc.get_objects(0)} if self.events else set()
        reborn = {id(self.find(event[0])) for event in self.events if event[1] == "finalized"}
        self.ended = not self.notified <= movable or bool(reborn & young)
        return {"unreachable": unreachable, "count": gc.get_count()[1:], "stats": self.stats_since(self.stats)}

    def op_freeze(self):
        gc.freeze()
        return {"count": gc.get_count()[1:]}

    def op_unfreeze(self):
        gc.unfreeze()
        return {}

    def op_saveall(self, on):
        gc.set_debug(gc.DEBUG_SAVEALL if on else 0)
        return {}

    def op_garbage(self, clear):
        labels = sorted(self.by_id[id(obj)] for obj in gc.garbage)
        if clear:
            gc.garbage.clear()
        return {"garbage": labels}

    # ---- the whole state ----

    def op_check(self):
        found = self.visible()
        generations = {}
        for generation in range(3):
            for obj in gc.get_objects(generation):
                label = self.by_id.get(id(obj))
                if label in found and found[label] is obj:
                    generations[label] = generation
        labels = sorted(found)
        state = {}
        while labels:
            label = labels.pop()
            obj = found.pop(label)
            state[label] = {
                "refcount": sys.getrefcount(obj) - 2,
                "tracked": gc.is_tracked(obj),
                "generation": generations.get(label, "frozen"),
                "finalized": gc.is_finalized(obj),
                "referents": sorted(self.by_id[id(r)] for r in gc.get_referents(obj) if type(r) in CONTAINERS),
            }
            if self.kinds[label] in ("weakref", "notify"):
                target = obj()
                state[label]["target"] = None if target is None else self.by_id[id(target)]
                del target
            else:
                own = self.kinds[label] in WEAKREFABLE  # of the harness
                state[label]["weakrefs"] = weakref.getweakrefcount(obj) - own
        dead = [label for label, tag in self.tags.items() if tag() is None]
        for label in dead:
            del self.tags[label]
        return {"state": state, "dead": sorted(dead)}
