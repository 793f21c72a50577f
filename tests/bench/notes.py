"""notes.py -- why a goal is not reached: what was tried, what the profile says, what the limit is.

By row, `WHAT | PEER` as the table has them (`WHAT` alone where there is no peer).  A note is printed only when the
row is below its goal; bench.py says so when a note belongs to no row.
"""

NOTES = {
    "bytes per object, slots of 3 | CPython":
        "32 bytes against CPython's 64 are the limit with blocks in steps of 16; on top come the allocator's bitmap and "
        "those of the collector, a bit a granule each, and the collector's stack of 4 bytes an object, which one list "
        "of a million fills and which is kept for the next collection.",
    "bytes per object, str of 10 | CPython":
        "32 bytes against CPython's 64 are the limit with blocks in steps of 16 (26 are needed); the allocator's bitmap "
        "comes on top, 0.8 %.",
    "full collection, cpython-heap trace, all live | CPython":
        "Batches of 64 without branches took marking from 28 to 15-17 ns a container; 32 are 7 % slower, 128 as fast. "
        "What is left is about 190 instructions a container, of which half look at its 7 references, a branch "
        "miss for the type and one for the length of most, and 65 MB of cache lines. Passing over the keys of "
        "dicts, and finding references without a branch on the type, gained nothing. The peer is at its best here: "
        "its instances share their keys. Where each has a dict of its own it takes 178 ms instead of 107.",
    "full collection, cpython-heap trace, all garbage | CPython":
        "Half of the time goes to dropping references to atoms, which are freed one by one, and to counting them by type.",
    "young collections: self-cycles made and dropped, automatic at 700/10/10 | CPython":
        "29 ns before and 19 now, some 450 instructions, half of them making the list; what is left are five passes over "
        "the candidates, and the counters of objects and bytes by type, which CPython does not keep. CPython's figure "
        "was 87-132 ns where the goal was set, 55-60 here.",
}
