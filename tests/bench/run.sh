#!/bin/sh
# run.sh -- measures heapd against its peers; `make bench` builds what it needs and calls it.
#
#   tests/bench/run.sh [--rounds N] [--seconds S] [--smoke] [GROUP...]      all groups when left out
#
# bench.py does the work; -B keeps Python's byte code out of the sources.
set -eu
cd "$(dirname "$0")/../.."
python=$(command -v /usr/bin/python3 || command -v python3) || {
    echo "bench: python3 is missing; deploy/install-deps.sh bench installs it" >&2
    exit 1
}
exec "$python" -B tests/bench/bench.py "$@"
