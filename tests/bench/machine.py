"""machine.py -- the machine that a benchmark ran on, in a dict and in a sentence."""
import os
import platform
import re


def first_match(path, pattern, otherwise):
    try:
        with open(path, encoding="utf-8") as text:
            found = re.search(pattern, text.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else otherwise


def describe():
    """What the figures depend on; `versions` is filled in by those who start the programs."""
    return {"cores": len(os.sched_getaffinity(0)),
            "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$", platform.machine()),
            "memory_gib": int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)", "0")) / 2**20,
            "kernel": platform.release(),
            "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)', "unknown system"),
            "load_before": os.getloadavg()[0],
            "versions": {}}


def sentence(machine):
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gib']:.0f} GiB, Linux "
            f"{machine['kernel']}; {machine['system']}; {versions}; load average before "
            f"{machine['load_before']:.2f}.")
