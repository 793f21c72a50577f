#!/bin/sh
# smoke.sh -- the benchmark once, tiny: every row is measured, and every program ends cleanly.
#
# Nothing is said about speed.  A peer that is not installed is named, and its rows are not measured.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -B tests/bench/readme.py --check
tests/bench/run.sh --smoke --output "$folder" >"$folder/out" 2>&1 || {
    cat "$folder/out"
    exit 1
}
"$(command -v /usr/bin/python3 || command -v python3)" - "$folder/bench.json" <<'PYTHON'
import json
import sys

found = json.load(open(sys.argv[1], encoding="utf-8"))
problems = [f"{row['what']}: no result" for row in found["rows"] if not row["results"] and not row["missing"]]
absent = sorted({row["missing"] for row in found["rows"] if row["missing"]})
absent += [note for note in found["notes"] if "was skipped" in note]
for reason in absent:
    print(f"not measured: {reason}")
    if "is not there" not in reason:
        problems.append(reason)
print(f"{sum(bool(row['results']) for row in found['rows'])} of {len(found['rows'])} rows measured")
sys.exit("\n".join(problems) or 0)
PYTHON
