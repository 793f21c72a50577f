"""faultlib.py -- a daemon with the library faults.c before it, and the file by which it is told what fails."""
import collections
import ctypes
import mmap
import os
import random
import selectors
import struct
import subprocess
import sys
import time

PATIENCE_S = 120

# As in faults.c.
KINDS = ["memory", "map", "thread", "open", "file-write", "file-read", "sync", "rename", "unlink", "room",
         "socket-write", "socket-read", "accept", "listen", "log"]
OUTCOMES = {"error": 0, "short": 1, "kill-before": 2, "kill-after": 3, "short-error": 4}
ONCE, THAT_SITE, ALL_THAT_FOLLOW = 0, 1, 2
FRAMES = 16
HEAD_BYTES, SITE_BYTES, SITES_MAX = 192, 144, 8192
AT_RECORDING, AT_ARMED, AT_KIND, AT_SITE, AT_HITS, AT_WALL, AT_DEPTH, AT_COUNT, AT_HIT_FRAMES = 4, 8, 12, 24, 44, 48, 56, 60, 64

Site = collections.namedtuple("Site", "hash kind calls frames is_of_openssl", defaults=[False])


class Control:
    """struct control of faults.c."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "control")
        with open(self.path, "wb") as file:
            file.truncate(HEAD_BYTES + SITE_BYTES * SITES_MAX)
        self.file = open(self.path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)
        self.put("<I", AT_DEPTH, FRAMES)

    def put(self, form, at, *values):
        struct.pack_into(form, self.map, at, *values)

    def get(self, form, at):
        return struct.unpack_from(form, self.map, at)[0]

    def record(self, depth=FRAMES):
        """Forgets the sites, and notes those that come."""
        self.map[HEAD_BYTES:] = bytes(SITE_BYTES * SITES_MAX)
        self.put("<I", AT_DEPTH, depth)
        self.put("<I", AT_COUNT, 0)
        self.put("<I", AT_RECORDING, 1)

    def sites(self):
        """Ends noting; what was noted, in no order that means something but always the same."""
        self.put("<I", AT_RECORDING, 0)
        if self.get("<I", AT_COUNT) > SITES_MAX * 3 // 4:
            raise AssertionError("the table of sites is too small")
        found = []
        for number in range(SITES_MAX):
            row = struct.unpack_from("<QII16Q", self.map, HEAD_BYTES + number * SITE_BYTES)
            if row[0] != 0:
                found.append(Site(row[0], KINDS[row[1]], row[2], [frame for frame in row[3:] if frame != 0]))
        return sorted(found)

    def arm(self, kind, outcome, error=0, site=0, skip=0, goes_on=ONCE):
        self.put("<I", AT_ARMED, 0)
        self.put("<IIIQQII", AT_KIND, KINDS.index(kind), OUTCOMES[outcome], error, site, skip, goes_on, 0)
        self.put("<I", AT_ARMED, 1)

    def hits(self):
        """How often it has happened."""
        return self.get("<I", AT_HITS)

    def disarm(self):
        """The same, and it happens no more."""
        self.put("<I", AT_ARMED, 0)
        return self.hits()

    def hit_frames(self):
        return [frame for frame in struct.unpack_from("<16Q", self.map, AT_HIT_FRAMES) if frame != 0]

    def set_wall_offset(self, seconds):
        self.put("<q", AT_WALL, seconds)

    def close(self):
        self.map.close()
        self.file.close()


def keep_addresses():
    """In the child: no address randomisation, so that a site is the same in each run."""
    ctypes.CDLL(None).personality(0x0040000)


class Daemon:
    """heapd behind faults.c."""

    def __init__(self, heapd, library, folder, options, environment=None):
        if not os.path.exists(library):
            sys.exit(f"{library} is not there, so nothing would fail; make it first")
        self.control = Control(folder)
        self.command = [heapd] + options
        self.log_path = os.path.join(folder, "log")
        self.suppressions = os.path.join(folder, "suppressions")
        self.environment = dict(os.environ, LD_PRELOAD=os.path.abspath(library), FAULT_CONTROL=self.control.path,
                                ASAN_OPTIONS="detect_leaks=1:verify_asan_link_order=0:exitcode=99:"
                                             "allocator_may_return_null=1", UBSAN_OPTIONS="print_stacktrace=1",
                                **(environment or {}))
        self.process = None
        self.maps = []
        self.listen = []

    def start(self):
        """Whether it became ready; its addresses are in self.listen."""
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                                            env=self.environment, preexec_fn=keep_addresses)
        line = self.read_line()
        if not line.startswith("heapd ready"):
            self.wait()
            return False
        self.listen = line.split("listen=")[1].strip().split(",")
        with open(f"/proc/{self.process.pid}/maps") as maps:
            self.maps = [row.split() for row in maps]
        return True

    def read_line(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE_S):
                raise AssertionError("it is neither ready nor gone")
        return self.process.stdout.readline().decode()

    def wait(self):
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end") from None
        self.process.stdout.close()
        return code

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        self.process.terminate()
        return self.wait()

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.wait()

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def close(self):
        if self.is_running():
            self.kill()
        self.control.close()

    def sites(self):
        """What the control has noted."""
        return [site._replace(is_of_openssl=self.file_of(site.frames[0]).startswith(("libcrypto", "libssl")))
                for site in self.control.sites()]

    def forgive_openssl(self, is_forgiven):
        """Where OpenSSL finds no memory it may lose some of its own."""
        if is_forgiven:
            with open(self.suppressions, "w") as file:
                file.write("leak:libcrypto\nleak:libssl\n")
            self.environment["LSAN_OPTIONS"] = f"print_suppressions=0:suppressions={self.suppressions}"
        else:
            self.environment.pop("LSAN_OPTIONS", None)

    # ---- frames in words ----

    def name_frames(self, frames):
        """The calls that led to a site, as far as the symbols tell; the maps are those of the last start."""
        return [self.name_frame(frame) for frame in frames]

    def find_frame(self, frame):
        """(path, offset) of an address; path is "" where there is no file."""
        for row in self.maps:
            low, high = (int(part, 16) for part in row[0].split("-"))
            if low <= frame < high and len(row) > 5:
                return row[5], frame - min(int(other[0].split("-")[0], 16) for other in self.maps if other[5:6] == row[5:6])
        return "", frame

    def file_of(self, frame):
        return os.path.basename(self.find_frame(frame)[0])

    def name_frame(self, frame):
        path, offset = self.find_frame(frame)
        return symbol_of(path, offset - 1) if path else hex(frame)


SYMBOLS = {}


def symbol_of(path, offset):
    """The function at that offset of a file: from its debug information, or the nearest one that it exports."""
    if (path, offset) not in SYMBOLS:
        told = subprocess.run(["addr2line", "-f", "-s", "-e", path, hex(offset)], capture_output=True, text=True, check=False)
        name, where = (told.stdout.split("\n") + ["??", "??"])[:2]
        SYMBOLS[path, offset] = (f"{os.path.basename(path)}+{offset:#x}" if name == "??" else f"{name} ({where})")
    return SYMBOLS[path, offset]


def seed_of_run():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    return seed


class Clock:
    """How much of the time that was given is left."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds if seconds else None

    def is_over(self):
        return self.end is not None and time.monotonic() > self.end
