"""compare.py -- whether the two sides saw the same.

Everything must be equal but for what a Python program cannot see or nobody promises:
  - events come in no promised order, but those about one object do;
  - whether a weakref that died with its target in the same operation was notified before that depends on
    the order in which a container lets go of what it refers to;
  - an object that nothing roots and that has no weakref of the harness (a plain list, a tuple) is not seen in
    CPython at all, so heapd may have it alive or dead.
Start at difference().
"""
from side_cpython import WEAKREFABLE


def difference(op, cpython, heapd, side, kinds):
    """What differs, as a sentence, or None; `side` is the Heapd, `kinds` what the labels are."""
    if op[0] == "check":
        found = compare_states(cpython["result"], heapd["result"], kinds)
    else:
        found = compare_values("", cpython["result"], heapd["result"])
    return found or compare_values("gc events", cpython["gc"], heapd["gc"]) or compare_events(cpython, heapd, side)


def compare_values(what, expected, got):
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(set(expected) | set(got), key=str):
            found = compare_values("%s %s" % (what, key), expected.get(key, "nothing"), got.get(key, "nothing"))
            if found:
                return found
        return None
    return None if expected == got else "%s: CPython %s, heapd %s" % (what.strip(), expected, got)


def compare_states(cpython, heapd, kinds):
    expected, got = cpython["state"], heapd["state"]
    for label in sorted(expected):
        if label not in got:
            return "object %d lives in CPython, heapd does not know it" % label
        found = compare_values("object %d" % label, expected[label], got[label])
        if found:
            return found
    for label in sorted(got):
        if label not in expected and kinds[label] in WEAKREFABLE:
            return "object %d is dead in CPython, and lives on heapd" % label
    return None


def compare_events(cpython, heapd, side):
    for label in sorted(set(cpython["events"]) | set(heapd["events"]), key=str):
        expected, got = cpython["events"].get(label, []), heapd["events"].get(label, [])
        if expected != got:
            both = set(expected) & set(got)
            expected, got = [[event for event in events if event in both or not excused(event, side)]
                             for events in (expected, got)]
        if expected != got:
            return "events of object %s: CPython %s, heapd %s" % (label, expected, got)
    return None


def excused(event, side):
    return event[0] == "weakref" and not side.is_alive(event[1])
