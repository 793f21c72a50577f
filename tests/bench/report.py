"""report.py -- what a benchmark found: rows of the table, details, the machine; printed and written.

A Row compares heapd with one peer.  `ratio` is always such that more than 1 means heapd is ahead, and it is
made round by round: both sides of a ratio ran directly after one another.
"""
import json
import os
import platform
import re
import statistics
import sys
import time

BUILD = "build"


def missing_reason(ours, theirs):
    return "; ".join(side for side in (ours, theirs) if isinstance(side, str) and side)


class Row:
    """One line of the table.  `ours` and `theirs` hold one figure a round, or a str that says why there is
    none; `unit` is "/s" (more is better) or "ns" (less is better); goals are ratios or None."""

    def __init__(self, group, what, peer, unit, ours, theirs, goal=None, stretch=None, note=""):
        self.group, self.what, self.peer, self.unit = group, what, peer, unit
        self.ours, self.theirs = ours, theirs
        self.goal, self.stretch, self.note = goal, stretch, note
        self.missing = missing_reason(ours, theirs)
        self.ratios = []
        if not self.missing:
            pairs = zip(ours, theirs)
            self.ratios = [a / b if unit == "/s" else b / a for a, b in pairs]

    def ratio(self):
        return statistics.median(self.ratios)

    def verdict(self):
        """Whether the goal is reached, in words."""
        if self.goal is None or not self.ratios:
            return ""
        if self.stretch is not None and self.ratio() >= self.stretch:
            return "reached, stretch too"
        return "reached" if self.ratio() >= self.goal else "not reached"

    def cells(self):
        goal = "" if self.goal is None else f"{self.goal:g}x"
        if self.stretch is not None:
            goal += f" ({self.stretch:g}x)"
        if self.ratios:
            ratio = f"{self.ratio():.2f}x [{min(self.ratios):.2f}..{max(self.ratios):.2f}]"
        else:
            ratio = f"not measured: {self.missing}"
        return [self.what, figure(self.ours, self.unit), self.peer, figure(self.theirs, self.unit), ratio, goal,
                self.verdict()]

    def as_dict(self):
        return {"group": self.group, "what": self.what, "peer": self.peer, "unit": self.unit,
                "heapd": self.ours, "theirs": self.theirs, "ratios": self.ratios,
                "ratio": self.ratio() if self.ratios else None, "goal": self.goal, "stretch": self.stretch,
                "verdict": self.verdict(), "missing": self.missing or None, "note": self.note}


def figure(samples, unit):
    """The median of the samples, for a person."""
    if isinstance(samples, str):
        return "-"
    value = statistics.median(samples)
    if unit == "ns":
        return f"{value:.1f} ns" if value < 1000 else f"{value / 1000:.1f} us"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {letter}/s"
    return f"{value:.0f} /s"


HEADINGS = ["what", "heapd", "peer", "peer's figure", "ratio, median [min..max]", "goal (stretch)", "goal is"]


class Details:
    """A second table of plain texts, with a sentence before it."""

    def __init__(self, title, sentence, headings, lines):
        self.title, self.sentence, self.headings, self.lines = title, sentence, headings, lines


class Report:
    """Collects what the groups measure; `failed` is set when a program misbehaved."""

    def __init__(self, arguments):
        self.rows, self.details, self.notes, self.failed = [], [], [], False
        self.machine = describe_machine()
        self.machine["rounds"] = arguments.rounds
        self.machine["seconds"] = arguments.seconds
        self.started = time.time()

    def row(self, *arguments, **more):
        self.rows.append(Row(*arguments, **more))

    def note(self, text):
        """A sentence that belongs below the table."""
        self.notes.append(text)

    def fail(self, text):
        """Something did not work as it must: said at once, in the report, and by the exit code."""
        self.failed = True
        self.note(f"FAILED: {text}")
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def progress(self, text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    # ---- output ----

    def print(self):
        """For a terminal: aligned columns."""
        print(f"\n{self.machine_line()}\n")
        print_aligned(HEADINGS, [row.cells() for row in self.rows])
        for details in self.details:
            print(f"\n{details.title}: {details.sentence}\n")
            print_aligned(details.headings, details.lines)
        for note in self.notes:
            print(f"\n{note}")
        print(f"\nwritten: {BUILD}/bench.json, {BUILD}/bench.md")

    def write(self):
        os.makedirs(BUILD, exist_ok=True)
        with open(f"{BUILD}/bench.json", "w", encoding="utf-8") as out:
            json.dump({"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
                       "machine": self.machine, "rows": [row.as_dict() for row in self.rows],
                       "details": [vars(details) for details in self.details],
                       "notes": self.notes, "failed": self.failed}, out, indent=1)
            out.write("\n")
        with open(f"{BUILD}/bench.md", "w", encoding="utf-8") as out:
            out.write(self.markdown())

    def markdown(self):
        parts = ["# heapd beside its peers\n", self.machine_line() + "\n",
                 "A ratio above 1 means that heapd is ahead. Both sides ran alternately; the ratio is the "
                 f"median over {self.machine['rounds']} alternations, with the smallest and the largest.\n",
                 markdown_table(HEADINGS, [row.cells() for row in self.rows])]
        for details in self.details:
            parts += [f"## {details.title}\n", details.sentence + "\n",
                      markdown_table(details.headings, details.lines)]
        notes = self.notes + [f"{row.what}, {row.peer}: {row.note}" for row in self.rows if row.note]
        if notes:
            parts += ["## Notes\n", "\n".join(f"- {note}" for note in notes) + "\n"]
        return "\n".join(parts)

    def machine_line(self):
        machine = self.machine
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        return (f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gib']:.0f} GiB, Linux "
                f"{machine['kernel']}; {machine['system']}; {versions}; load average before "
                f"{machine['load_before']:.2f}.")


def print_aligned(headings, lines):
    table = [headings] + lines
    widths = [max(len(line[i]) for line in table) for i in range(len(headings))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def markdown_table(headings, lines):
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(line) + " |" for line in [headings, rule] + lines) + "\n"


# ---- the machine ----

def first_match(path, pattern, otherwise):
    try:
        with open(path, encoding="utf-8") as text:
            found = re.search(pattern, text.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else otherwise


def describe_machine():
    """What the figures depend on; `versions` is filled in by those who start the programs."""
    return {"cores": len(os.sched_getaffinity(0)),
            "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$", platform.machine()),
            "memory_gib": int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)", "0")) / 2**20,
            "kernel": platform.release(),
            "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)', "unknown system"),
            "load_before": os.getloadavg()[0],
            "versions": {}}
