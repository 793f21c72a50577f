"""readme.py -- puts the main table of build/bench.json, and the machine's description, into README.md.

    python3 -B tests/bench/readme.py [--check]

The text between the two comments `bench:begin` and `bench:end` is replaced.  With --check nothing is written; the
exit code says whether the comments are there.
"""
import json
import os
import sys

from figures import markdown_table

README = "README.md"
RESULTS = "build/bench.json"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"


def text_of(found):
    """What README has between the comments."""
    machine = found["machine"]
    rows = [row["cells"] for row in found["rows"]]
    notes = [f"- {row['what']}{', ' + row['peer'] if row['peer'] else ''}: {row['note']}"
             for row in found["rows"] if row["note"]]
    parts = [f"Measured {found['started'][:10]} on {found['machine_sentence']} Medians of {machine['rounds']} "
             "alternations, with the smallest and the largest. A ratio above 1 means that heapd is ahead; where the "
             "goal says `at most`, less is better.\n", markdown_table(found["headings"], rows)]
    if notes:
        parts += ["Below their goal:\n", "\n".join(notes) + "\n"]
    return "\n" + "\n".join(parts) + "\n"


def main():
    with open(README, encoding="utf-8") as readme:
        before, begin, rest = readme.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{README} has no lines {BEGIN.strip()} and {END.strip()}")
    if sys.argv[1:] == ["--check"]:
        return
    if not os.path.exists(RESULTS):
        sys.exit(f"{RESULTS} is not there; make bench writes it")
    with open(RESULTS, encoding="utf-8") as results:
        found = json.load(results)
    if found["groups"]:
        sys.exit(f"{RESULTS} has only the rows of: {' '.join(found['groups'])}; make bench measures all")
    with open(README, "w", encoding="utf-8") as readme:
        readme.write(before + BEGIN + text_of(found) + END + after)


if __name__ == "__main__":
    main()
