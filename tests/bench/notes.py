"""notes.py -- why a goal is not reached: what was tried, what the profile says, what the limit is.

By row, `WHAT | PEER` as the table has them (`WHAT` alone where there is no peer).  A note is printed only when the
row is below its goal; bench.py says so when a note belongs to no row.
"""

KERNEL = ("Of the CPU time of a request at pipeline 1 the kernel has 4.6 to 5.0 us, for heapd, Redis and the bare "
          "echo alike; heapd's own share is 0.3 us, Redis's 0.9, the echo's 0.2. Where the kernel's part is nine "
          "tenths, the ratio cannot go far above 1.1.")
TURN = ("By CPU time a request heapd is ahead by more than the rate shows (CPU ns/request in the wire's details): the "
        "load program and the kernel's loopback take their part of both. What is left of the server's own time is "
        "spread evenly: reading the parameters, the envelope, looking the name up, printing id and number have 2 to "
        "5 % each, no single function more.")
THREADS = ("The load program and the daemon share two cores here, so the scheduler decides: the rounds range over both sides "
           "of 1. A second thread costs 3 to 15 % more CPU a request, and four double the p99.9 (I/O threads in detail); "
           "where the load has a machine of its own the figures will differ, and --threads is there for it.")
STEALS = ("A maximum, one hold in 600,000: the clock of CPU time of a virtual machine has in it what the host takes away, "
          "which is what the rounds differ by. The p99.9 is in the row above.")
VALUES = ("Rounds in two groups mean that other programs ran on the same cores: in the slow ones the daemon's threads waited 3 to "
          "15 ms for the core (run delay in schedstat), while their CPU time was that of the fast ones. With daemon and load "
          "program under SCHED_FIFO heapd's rounds lie within a tenth of each other: 5.1 ms for create and 6.0 for get of "
          "canada, 2.4 and 1.9 of citm_catalog. What then still varies is CPython's side, up to twice its best (loads of "
          "citm_catalog 3.6 to 8 ms), by where the blocks of the value lie that it took before. Page faults were 1 ms of "
          "canada's 7 ms, and a third of citm_catalog's create, until malloc kept buffers of up to 4 MiB (server/main.c; "
          "8 MiB cost 13 MiB of resident memory).")

NOTES = {
    "bytes per object, slots of 3 | CPython":
        "32 bytes against CPython's 64 are the limit with blocks in steps of 16; on top come the allocator's bitmap, the "
        "two of the collector that every old object touches, a bit a granule each (0.75 bytes an object). The stack of "
        "marking, 4 bytes an object where one list has them all, goes back to the kernel since: 0.57 before, 0.51 now.",
    "bytes per object, str of 10 | CPython":
        "32 bytes against CPython's 64 are the limit with blocks in steps of 16 (26 are needed); the allocator's bitmap "
        "comes on top, 0.8 %. To give its pages back where all blocks are in use would save 0.25 bytes at the most, and take "
        "system calls where blocks come and go; it was not tried.",
    "full collection, cpython-heap trace, all live | CPython":
        "Batches of 64 without branches took marking from 28 to 15-17 ns a container; 32 are 7 % slower, 128 as fast. "
        "What is left is about 150 instructions a container, for 7 references each, and the branch misses for types and "
        "lengths. Passing over the keys of "
        "dicts, and finding references without a branch on the type, gained nothing. The peer is at its best here: "
        "its instances share their keys. Where each has a dict of its own it takes 178 ms instead of 107.",
    "full collection, cpython-heap trace, all garbage | CPython":
        "More than half of the sweep is in the pass that drops references (gc_strip_slice). Tried: gathering up to 64 "
        "containers' references and asking for their headers ahead; 5 % slower (16.1 ms against "
        "15.4). Freeing blocks and counting them by type is the rest.",
    "young collections: self-cycles made and dropped, automatic at 700/10/10 | CPython":
        "29 ns at first, 18.8 after fewer passes, 14.3 with batches (bench_gc young, alternated); CPython's figure was "
        "87-132 ns where the goal was set, 57 here, so the goal is just at the limit. What is left: 4 ns make the list, "
        "3 in the sweep, 2 in judging, 1.4 for freeing blocks, and 1.3 for refilling and flushing magazines. Asking for "
        "headers ahead gained nothing.",
    "dict.incr, pipeline 1 | redis INCR": KERNEL,
    "dict.incr, pipeline 1 | bare libuv echo": KERNEL,
    "dict.incr, pipeline 16 | redis INCR": TURN,
    "dict.incr, pipeline 64 | redis INCR": TURN,
    "dict.incr, pipeline 16 | bare libuv echo": TURN,
    "create of a small list, name rebound, pipeline 16 | redis SET":
        "A request makes a list of three items and binds its name, and the list that had the name dies: an allocation "
        "and a free of two blocks each, and an id, which is given out for good. Redis copies seven bytes into a "
        "string. The requests differ in length too, 85 bytes against 34.",
    "list.append, 1 client | multiprocessing.Manager":
        "Of the 10.7 us of one exchange 5.1 are the Python client's own (two system calls and the interpreter), and "
        "of the daemon's 5.5 the kernel has 4.5. A client that uses json instead of bytes takes 13.8 us.",
    "list.append, 8 processes | multiprocessing.Manager":
        "Clients and server share the cores. An exchange costs 10.7 us of CPU, 5.1 of them in the Python client and "
        "4.5 in the kernel on the daemon's side, so two cores can do 190,000 a second at most: four times what the "
        "Manager does in its one thread. A machine with more cores is needed for five. Tried: clients that use json "
        "(a quarter slower).",
    "growth of a dict to 10 M entries, the longest hold":
        "The index grows a little at each operation; the entries grow by an eighth, with mremap(). Where the next "
        "pages are taken the kernel moves the page table's entries one by one: 0.5 ms at 80 MB on a quiet machine. "
        "One hold in 600,000.",
    "growth of the namespace to 10 M names, the longest hold": STEALS,
    "growth of ids and holds to 10 M, the longest hold": STEALS,
    "dict.incr, 1,000 connections | redis INCR":
        "With one request in flight on each connection nine tenths of the CPU time are the kernel's on both sides "
        "(Connections in detail); the rounds range over both sides of 1.",
    "heapd with 1 I/O thread (the default), pipeline 1 | 2 I/O threads": THREADS,
    "heapd with 1 I/O thread (the default), pipeline 1 | 4 I/O threads": THREADS,
    "heapd with 1 I/O thread (the default), pipeline 16 | 2 I/O threads": THREADS,
    "heapd with 1 I/O thread (the default), pipeline 16 | 4 I/O threads": THREADS,
    "create of canada, 2.3 MB | CPython json.loads": VALUES,
    "get of canada, 2.3 MB | CPython json.dumps": VALUES,
    "create of citm_catalog, 1.7 MB | CPython json.loads": VALUES,
    "get of citm_catalog, 1.7 MB | CPython json.dumps": VALUES,
    "p99.9 of 8 connections beside full collections of 10 M objects | no collector":
        "The peer's figure is the same load without a collector: that part is the machine's.",
}
