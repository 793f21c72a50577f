#!/usr/bin/env python3
"""readme_tour.py README BUILD PORT -- pastes the README's sh blocks, and compares what comes out.

All blocks run in one bash, in order, with BUILD for `build` and PORT for 7411.  A `text` block behind an sh
block is what that block must print: numbers with their units may differ, and the length of bars, all else
must be the same.  A command that fails must say so in its comment (`# name_error: ..`).
"""
import os
import re
import signal
import subprocess
import sys
import tempfile

MARK = "@@ end of block "


def blocks(text):
    """[(language, body), ..] in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def normal(line):
    """A line without what differs from run to run."""
    line = re.sub(r"[+-]?\d[\d.,:]*( ?(B|KiB|MiB|s|%))?(?=\W|$)", "N", line)
    line = re.sub(r"#+", "#", line)
    return " ".join(line.split())


def contains(printed, shown):
    """Whether all lines of `shown` stand in `printed`, in that order."""
    lines = iter(printed)
    return all(line in lines for line in shown)


def run(program):
    """What the program prints.  What it leaves in the background ends with it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        shell = subprocess.Popen(["bash", "-c", program], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True)
        shell.wait(timeout=300)
        try:
            os.killpg(shell.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # nothing is left
        out.seek(0)
        return out.read()


def main():
    readme, build, port = sys.argv[1:4]
    found = blocks(open(readme, encoding="utf-8").read())
    scripts = [(i, body) for i, (language, body) in enumerate(found) if language == "sh"]
    tour = [(i, body) for i, body in scripts if "build/heapctl" in body or "curl" in body]
    program = ""
    for i, body in tour:
        program += body.replace("build/", build + "/").replace("7411", port) + f"\necho '{MARK}{i}'\n"
    out, problems = run(program), []
    compared = 0
    for i, body in tour:
        printed, mark, out = out.partition(f"{MARK}{i}\n")
        if not mark:
            problems.append(f"the block did not come to its end:\n{body}\n{printed}")
            break
        for word in re.findall(r"heapctl: .*\((\w+)\)", printed):
            if f"# {word}" not in body:
                problems.append(f"{word} in\n{body}\n{printed}")
        if i + 1 < len(found) and found[i + 1][0] == "text":
            compared += 1
            shown = [normal(line) for line in found[i + 1][1].splitlines()]
            if not contains([normal(line) for line in printed.splitlines()], shown):
                problems.append(f"the README shows\n{found[i + 1][1]}\nbut it is\n{printed}")
    if not tour or not compared:
        problems.append("there is no tour in the README, or nothing is shown")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
