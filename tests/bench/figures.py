"""figures.py -- figures for people: samples as a text with a unit, tables of texts.

Units of samples: "/s" (more is better, all others less), "ns", "bytes", "ns each" and "bytes each" (of one
operation, one object: never scaled), "" (a number).
"""
import statistics

SCALES = {"/s": ((1e6, " M/s", 2), (1e3, " k/s", 1), (1, " /s", 0)),
          "ns": ((1e9, " s", 2), (1e6, " ms", 2), (1e3, " us", 1), (0, " ns", 1)),
          "bytes": ((2**20, " MiB", 2), (2**10, " KiB", 1), (0, " B", 0)),
          "ns each": ((0, " ns", 1),),
          "bytes each": ((0, " B", 1),),
          "": ((0, "", 2),)}


def figure(samples, unit):
    """The median of the samples; of a str, the reason why there are none, or None only a dash or nothing."""
    if samples is None or isinstance(samples, str):
        return "" if samples is None else "-"
    value = statistics.median(samples)
    for size, name, digits in SCALES[unit]:
        if abs(value) >= size:
            break
    return f"{value / (size or 1):.{digits}f}{name}"


def print_aligned(headings, lines):
    table = [headings] + lines
    widths = [max(len(line[i]) for line in table) for i in range(len(headings))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def markdown_table(headings, lines):
    rule = ["---"] * len(headings)
    rows = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in [headings, rule] + lines)
    return "\n".join(f"| {row} |" for row in rows) + "\n"
