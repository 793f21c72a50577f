"""holds.py -- the histogram that bench_heapd keeps of its holds of the GIL (hold_clock.c), read while it runs."""
import mmap
import os
import struct

import peers

STEPS = 32  # latency.h: LATENCY_STEPS, LATENCY_BUCKETS
BUCKETS = 64 * STEPS
FORMAT = f"=QQ{BUCKETS}Q"  # struct latency: total, max_ns, bucket[]


def bucket_edge(bucket):
    """The largest ns that falls into the bucket, as latency.c has it."""
    if bucket < STEPS:
        return bucket
    shift = bucket // STEPS - 1
    return ((STEPS + bucket % STEPS + 1) << shift) - 1


def quantile(counts, share):
    """The upper edge of the bucket below which that share of the holds lies."""
    left = share * sum(counts)
    for bucket, count in enumerate(counts):
        left -= count
        if count and left <= 0:
            return bucket_edge(bucket)
    return 0


class Heapd(peers.Heapd):
    """heapd with a clock around each hold."""

    name = "bench_heapd"

    def start(self):
        path = f"{peers.WORK}/holds"
        with open(path, "wb") as file:
            file.truncate(struct.calcsize(FORMAT))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.launch([peers.need(f"{peers.PROGRAMS}/bench_heapd", "make bench-programs builds it"), "--listen",
                     "tcp:127.0.0.1:0", *self.options], stdout=True,
                    environment={"BENCH_HOLDS": os.path.abspath(path)})
        self.ready_line()

    def counts(self):
        """How many holds there were of each bucket, so far."""
        return struct.unpack(FORMAT, self.memory[:])[2:]

    def since(self, before):
        """What there were since counts() was `before`."""
        return [now - then for now, then in zip(self.counts(), before)]
