#!/bin/sh
# fuzz.sh -- runs fuzz targets, which `make fuzz` has built, for so many seconds each.
#
#   tests/fuzz/fuzz.sh SECONDS [TARGET..]     all targets when left out; SECONDS 0: the corpus only
#
# Begins with the inputs in tests/fuzz/corpus/TARGET; what is found on the way goes to build/fuzz/TARGET, which is
# begun with as well the next time.  An input that fails is kept in build/fuzz as TARGET-crash-..; run it again with
#   build/fuzzer/tests/fuzz/fuzz_TARGET FILE
# MINIMISE=1 replaces the corpus by the fewest inputs, of at most 256 bytes (journal: 600), that reach as much as all.
set -eu
cd "$(dirname "$0")/../.."
seconds=$1
shift
[ "$#" -gt 0 ] || set -- $(for source in tests/fuzz/fuzz_*.c; do basename "$source" .c | sed 's/^fuzz_//'; done)
failed=
for target in "$@"; do
    program=build/fuzzer/tests/fuzz/fuzz_$target corpus=tests/fuzz/corpus/$target found=build/fuzz/$target
    [ -x "$program" ] || { echo "fuzz: there is no target $target" >&2; exit 2; }
    mkdir -p "$found" "$corpus"
    if [ "${MINIMISE:-0}" != 0 ]; then
        smaller=$(mktemp -d)
        [ "$target" = journal ] && longest=600 || longest=256
        "$program" -set_cover_merge=1 -use_value_profile=0 -max_len=$longest "$smaller" "$corpus" "$found" 2>/dev/null
        rm -rf "$corpus"
        mv "$smaller" "$corpus"
        chmod 755 "$corpus"
        echo "fuzz $target: a corpus of $(ls "$corpus" | wc -l)"
        continue
    fi
    log=build/fuzz/$target.log
    [ "$seconds" != 0 ] && bound=-max_total_time=$seconds || bound=-runs=0
    dictionary=tests/fuzz/$target.dict
    [ -e "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=-print_final_stats=1
    if "$program" "$found" "$corpus" "$bound" "$dictionary" -print_final_stats=1 -timeout=30 -rss_limit_mb=4096 \
            -artifact_prefix="build/fuzz/$target-" >"$log" 2>&1; then
        echo "ok    fuzz $target: $(awk '/number_of_executed_units/{print $2}' "$log") inputs in $seconds s"
    else
        echo "FAIL  fuzz $target: $log"
        tail -n 40 "$log"
        failed=1
    fi
done
[ -z "$failed" ]
