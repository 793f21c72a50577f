"""notes.py -- why a goal is not reached: what was tried, what the profile says, what the limit is.

By row, `WHAT | PEER` as the table has them (`WHAT` alone where there is no peer).  A note is printed only when the
row is below its goal; bench.py says so when a note belongs to no row.
"""

NOTES = {
}
