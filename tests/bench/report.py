"""report.py -- what a benchmark found: rows of the table, details, the machine; printed and written.

Three kinds of rows, each with one sample a round:

    report.row()      heapd beside a peer; the goal is a ratio, more than 1 meaning that heapd is ahead, or with
                      share=True what heapd may have of the peer's (bytes: at most 0.5 of CPython's)
    report.limit()    heapd's own figure, which may be at most the goal; a peer's is shown beside it
    report.excess()   heapd with and without something; the difference may be at most the goal

Ratios and differences are made round by round: both sides of one ran directly after one another.  A row that
does not reach its goal carries its note from notes.py.  figures.py says how figures look.
"""
import json
import os
import statistics
import sys
import time

import machine
from figures import figure, markdown_table, print_aligned
from notes import NOTES

HEADINGS = ["what", "heapd", "peer", "peer's figure", "ratio, median [min..max]", "goal (stretch)", "goal is"]


def missing_reason(ours, theirs):
    return "; ".join(dict.fromkeys(side for side in (ours, theirs) if isinstance(side, str) and side))


class Row:
    """One line of the table: a ratio.  `ours` and `theirs` hold one sample a round, or a str that says why
    there is none; `unit` is one of figures.py; goals are ratios or None."""

    at_most = False  # the goal is an upper bound

    def __init__(self, group, what, peer, unit, ours, theirs, goal=None, stretch=None, share=False):
        self.group, self.what, self.peer, self.unit = group, what, peer, unit
        self.ours, self.theirs = ours, theirs
        self.goal, self.stretch = goal, stretch
        self.at_most = self.at_most or share
        self.missing = missing_reason(ours, self.needed())
        self.results = [] if self.missing else self.compare()

    def needed(self):
        """The other side, if there is no result without it."""
        return self.theirs

    def compare(self):
        """What the goal is about, one a round."""
        upside_down = self.unit != "/s" and not self.at_most
        return [b / a if upside_down else a / b for a, b in zip(self.ours, self.theirs)]

    def result(self):
        """The median over the rounds; a group may ask it, too."""
        return statistics.median(self.results)

    def show(self, result):
        return f"{result:.2f}x"

    def show_goal(self, goal):
        return f"{goal:g}x"

    def reaches(self, goal):
        return self.result() <= goal if self.at_most else self.result() >= goal

    def verdict(self):
        """Whether the goal is reached, in words."""
        if self.goal is None or not self.results:
            return ""
        if self.stretch is not None and self.reaches(self.stretch):
            return "reached, stretch too"
        return "reached" if self.reaches(self.goal) else "not reached"

    def key(self):
        """What notes.py calls it."""
        return f"{self.what} | {self.peer}" if self.peer else self.what

    def note(self):
        """What there is to say about a goal that is not reached, or None."""
        if self.verdict() != "not reached":
            return None
        return NOTES.get(self.key(), "not reached in this run; notes.py has no note on it")

    def goals(self):
        if self.goal is None:
            return ""
        text = ("at most " if self.at_most else "") + self.show_goal(self.goal)
        return text if self.stretch is None else f"{text} ({self.show_goal(self.stretch)})"

    def middle(self):
        """The cell of the result."""
        if not self.results:
            return f"not measured: {self.missing}"
        return f"{self.show(self.result())} [{self.show(min(self.results))}..{self.show(max(self.results))}]"

    def cells(self):
        return [self.what, figure(self.ours, self.unit), self.peer, figure(self.theirs, self.unit), self.middle(),
                self.goals(), self.verdict()]

    def as_dict(self):
        return {"group": self.group, "what": self.what, "peer": self.peer, "unit": self.unit,
                "heapd": self.ours, "theirs": self.theirs, "kind": type(self).__name__, "results": self.results,
                "result": self.result() if self.results else None, "goal": self.goal, "stretch": self.stretch,
                "at_most": self.at_most, "verdict": self.verdict(), "missing": self.missing or None,
                "note": self.note(), "cells": self.cells()}


class Limit(Row):
    """heapd's own figure, at most the goal; `theirs` is for comparison, and may be None."""

    at_most = True

    def needed(self):
        return None

    def compare(self):
        return list(self.ours)

    def show(self, result):
        return figure([result], self.unit)

    def show_goal(self, goal):
        return figure([goal], self.unit)

    def middle(self):
        if self.missing:
            return f"not measured: {self.missing}"
        return f"[{self.show(min(self.results))}..{self.show(max(self.results))}]"


class Excess(Limit):
    """How much more it is than `theirs`, heapd's figure without what the row is about."""

    def needed(self):
        return self.theirs

    def compare(self):
        return [a - b for a, b in zip(self.ours, self.theirs)]

    def middle(self):
        if self.missing:
            return f"not measured: {self.missing}"
        low, middle, high = (self.show(x) for x in (min(self.results), self.result(), max(self.results)))
        return f"more by {middle} [{low}..{high}]"


class Details:
    """A second table of plain texts, with a sentence before it."""

    def __init__(self, title, sentence, headings, lines):
        self.title, self.sentence, self.headings, self.lines = title, sentence, headings, lines


class Report:
    """Collects what the groups measure; `failed` is set when a program misbehaved."""

    def __init__(self, arguments):
        self.rows, self.details, self.notes, self.pictures = [], [], [], []
        self.failed = False
        self.folder, self.groups = arguments.output, arguments.groups
        os.makedirs(self.folder, exist_ok=True)
        self.machine = machine.describe()
        self.machine["rounds"] = arguments.rounds
        self.machine["seconds"] = arguments.seconds
        self.started = time.time()

    def row(self, *arguments, **more):
        self.rows.append(Row(*arguments, **more))

    def limit(self, group, what, unit, ours, goal=None, stretch=None, peer="", theirs=None):
        self.rows.append(Limit(group, what, peer, unit, ours, theirs, goal=goal, stretch=stretch))

    def excess(self, group, what, without, unit, ours, theirs, goal=None, stretch=None):
        """`without` says what `theirs` are."""
        self.rows.append(Excess(group, what, without, unit, ours, theirs, goal=goal, stretch=stretch))

    def version(self, name, version):
        """The version of a program that took part."""
        self.machine["versions"][name] = version

    def note(self, text):
        """A sentence that belongs below the table."""
        self.notes.append(text)

    def picture(self, title, name):
        """A plot, as a file of that name in the folder."""
        self.pictures.append((title, name))

    def fail(self, text):
        """Something did not work as it must: said at once, in the report, and by the exit code."""
        self.failed = True
        self.note(f"FAILED: {text}")
        self.progress(text)

    def progress(self, text):
        print(f"bench: {time.time() - self.started:4.0f} s: {text}", file=sys.stderr, flush=True)

    # ---- output ----

    def row_notes(self):
        return [f"{row.what}{', ' + row.peer if row.peer else ''}: {row.note()}" for row in self.rows if row.note()]

    def print(self):
        """For a terminal: aligned columns."""
        print(f"\n{machine.sentence(self.machine)}\n")
        print_aligned(HEADINGS, [row.cells() for row in self.rows])
        if self.row_notes():
            print("\nBelow the goal:")
        for note in self.row_notes():
            print(f"\n{note}")
        for details in self.details:
            print(f"\n{details.title}: {details.sentence}\n")
            print_aligned(details.headings, details.lines)
        for note in self.notes:
            print(f"\n{note}")
        written = ["bench.json", "bench.md"] + [name for _, name in self.pictures]
        print("\nwritten: " + ", ".join(f"{self.folder}/{name}" for name in written), flush=True)

    def write(self):
        with open(f"{self.folder}/bench.json", "w", encoding="utf-8") as out:
            json.dump({"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
                       "groups": self.groups, "machine": self.machine,
                       "machine_sentence": machine.sentence(self.machine),
                       "headings": HEADINGS, "rows": [row.as_dict() for row in self.rows],
                       "details": [vars(details) for details in self.details], "notes": self.notes,
                       "pictures": self.pictures, "failed": self.failed}, out, indent=1)
            out.write("\n")
        with open(f"{self.folder}/bench.md", "w", encoding="utf-8") as out:
            out.write(self.markdown())

    def markdown(self):
        parts = ["# heapd beside its peers\n", machine.sentence(self.machine) + "\n",
                 "A ratio above 1 means that heapd is ahead; where the goal says `at most`, less is better. Both "
                 f"sides ran alternately; a result is the median over {self.machine['rounds']} alternations, with "
                 "the smallest and the largest.\n",
                 markdown_table(HEADINGS, [row.cells() for row in self.rows])]
        if self.row_notes():
            parts += ["## Below the goal\n", "\n".join(f"- {note}" for note in self.row_notes()) + "\n"]
        for title, name in self.pictures:
            parts.append(f"![{title}]({name})\n")
        for details in self.details:
            parts += [f"## {details.title}\n", details.sentence + "\n",
                      markdown_table(details.headings, details.lines)]
        if self.notes:
            parts += ["## Notes\n", "\n".join(f"- {note}" for note in self.notes) + "\n"]
        return "\n".join(parts)
