#!/usr/bin/env bash
# run.sh -- builds and runs every test; the last line is `N passed, N failed`.
#
#   tests/run.sh                every test, under ten minutes on two cores
#   tests/run.sh NAME..         only the programs whose name contains one of the words
#   LONG=1 tests/run.sh         more rounds and seeds
#   SEED=7 tests/run.sh random  a random test once more
#
# What runs with which build:
#   address+undefined   every unit test, and every integration test against the daemon built so
#   thread              the unit tests of threads; sessions, events and random operations on a daemon of 4 threads
#   plain               every integration test once more, on what users run; unit tests of heap/ under valgrind;
#                       every schedule of the collector's slices on small graphs
#   scripts             the layers, and the layers check itself; snapshots in Chromium's DevTools; random programs
#                       beside CPython, and the fuzz targets on their corpora (tests/fuzz); kill -9, full disks,
#                       calls that fail, web pages and load that lasts (tests/fault); the benchmark, tiny; in the
#                       long run each fuzz target for a minute
#   sliced              the conformance tests, the wire cases and the random programs once more on a daemon that does
#                       all that can be done in slices in slices of one object (HEAPD_STRESS)
#   stress              many clients at once on daemons of 3 threads in slices of one object, with a collection after
#                       each request and without, 10 seconds each (LONG=1: 10 minutes) under each sanitizer
# Builds of the later ones run in the background while the earlier ones are tested.  A program's output is
# shown when something in it failed; skipped tests are listed with their reason.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL # the builds here are no part of a make that called this
words=("$@")
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
limit=900 # seconds for a program: only a hang takes as long
[ "${LONG:-0}" = 0 ] || limit=14400
passed=0 failed=0 skipped=0

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:second_deadlock_stack=1}

# ---- builds ----

build() { # SANITIZE TARGETS..
    local sanitize=$1
    shift
    make -s -k -j2 SANITIZE="$sanitize" "$@" >"$work/build-${sanitize:-plain}" 2>&1
}

# build_failed SANITIZE: says so, once; what did get built is tested all the same.
build_failed() {
    echo "FAIL  the ${1:-plain} build:"
    grep -E 'error|Error|undefined|warning' "$work/build-${1:-plain}" | head -40
    failed=$((failed + 1))
}

# ---- running a program ----

# count LOG EXIT_CODE -> "PASSED FAILED SKIPPED", then the skipped ones with reasons, of a cmocka program.
# A test that neither passed nor gave a reason for being skipped has failed.
count() {
    awk -v code="$2" '
        /^\[==========\] Running / { announced += $3; summary = 0; next }
        /^\[==========\] / { summary = 1 }
        summary { next }
        /^\[ RUN      \] / { reason = "" }
        /^skipped(:| because) / { reason = $0 }
        index($0, "[       OK ] ") { ok++ }
        index($0, "[  SKIPPED ] ") && reason != "" { skipped++; list = list "\n      " $4 " " reason }
        END {
            bad = announced - ok - skipped
            if (bad == 0 && (code != 0 || announced == 0)) bad = 1
            print ok + 0, bad + 0, skipped + 0 list
        }' "$1"
}

# Jobs run two at a time; job N leaves $work/N.{label,kind,log,code,seconds}.
jobs_started=0 jobs_reported=0

wanted() { # LABEL: no words were given, or it contains one of them
    local word
    [ "${#words[@]}" -gt 0 ] || return 0
    for word in "${words[@]}"; do
        case $1 in *"$word"*) return 0 ;; esac
    done
    return 1
}

# start KIND LABEL COMMAND..: KIND is cmocka or script
start() {
    local kind=$1 label=$2 n=$jobs_started
    shift 2
    wanted "$label" || return
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n
    done
    jobs_started=$((n + 1))
    echo "$kind" >"$work/$n.kind"
    echo "$label" >"$work/$n.label"
    (
        began=$SECONDS
        timeout -k 10 "$limit" "$@" >"$work/$n.log" 2>&1 </dev/null
        code=$?
        echo $((SECONDS - began)) >"$work/$n.seconds"
        echo "$code" >"$work/$n.code"
    ) &
    report
}

# Reports the finished ones, in the order of their start.
report() {
    local n label code ok bad skip counted
    while [ "$jobs_reported" -lt "$jobs_started" ] && [ -e "$work/$jobs_reported.code" ]; do
        n=$jobs_reported
        jobs_reported=$((n + 1))
        label=$(cat "$work/$n.label") code=$(cat "$work/$n.code")
        if [ "$(cat "$work/$n.kind")" = cmocka ]; then
            counted=$(count "$work/$n.log" "$code")
        else
            counted="$((code == 0)) $((code != 0 && code != 77)) $((code == 77))"
            [ "$code" != 77 ] || counted+=$'\n'"      $(tail -n 1 "$work/$n.log")"
        fi
        read -r ok bad skip <<<"$counted"
        passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
        printf '%-5s %-44s %5d passed' "$([ "$bad" = 0 ] && echo ok || echo FAIL)" "$label" "$ok"
        [ "$bad" = 0 ] || printf ', %d failed' "$bad"
        [ "$skip" = 0 ] || printf ', %d skipped' "$skip"
        printf '  (%s s)\n' "$(cat "$work/$n.seconds")"
        [ "$skip" = 0 ] || tail -n +2 <<<"$counted"
        if [ "$bad" != 0 ]; then
            [ "$code" -lt 124 ] || echo "      exit code $code (124: no end within $limit s)"
            sed 's/^/    | /' "$work/$n.log"
        fi
    done
}

# ---- what runs ----

test_names() { # FOLDER [PREFIX] -> names of its test programs
    local source
    for source in tests/"$1"/"${2:-test}"_*.c; do
        [ -e "$source" ] && basename "$source" .c
    done
}

run_address() {
    local name
    for name in $(test_names unit); do
        start cmocka "address unit/$name" "build/address/tests/unit/$name"
    done
    for name in $(test_names integration); do
        start cmocka "address integration/$name" "build/address/tests/integration/$name"
    done
}

run_plain() {
    local name
    for name in $(test_names integration); do
        start cmocka "plain integration/$name" "build/tests/integration/$name"
    done
    start cmocka "plain unit/test_gc_schedules" build/tests/unit/test_gc_schedules
    for name in $(test_names unit); do
        # Tests of heap/ have its fixture; those of size or threads are no work for valgrind.
        grep -q '"heap_fixture.h"' "tests/unit/$name.c" || continue
        case $name in test_gil | test_deep*) continue ;; esac
        start cmocka "valgrind unit/$name" env HEAPD_TEST_SMALL=1 \
            valgrind -q --error-exitcode=99 --leak-check=full "build/tests/unit/$name"
    done
}

run_thread() {
    local name
    for name in test_gil test_question test_reading test_mark; do
        start cmocka "thread unit/$name" "build/thread/tests/unit/$name"
    done
    for name in test_sessions test_leases test_events test_clients test_leaks test_random; do
        start cmocka "thread integration/$name" env HEAPD_BIN=build/thread/heapd HEAPD_TEST_ARGUMENTS="--threads 4" \
            "build/tests/integration/$name"
    done
}

# Random programs on heapd and on CPython: on the plain daemon many, and some on the one that is checked.
run_fuzz() {
    local programs=200 target
    for target in $(test_names fuzz fuzz); do
        start script "address fuzz/$target" "build/address/tests/fuzz/$target" "tests/fuzz/corpus/${target#fuzz_}"
    done
    [ "${LONG:-0}" = 0 ] || programs=10000
    start script "plain fuzz/differential" env HEAPD_BIN=build/heapd \
        python3 tests/fuzz/differential.py --programs "$programs"
    start script "address fuzz/differential" env HEAPD_BIN=build/address/heapd \
        python3 tests/fuzz/differential.py --programs $((programs / 4))
    [ "${LONG:-0}" = 0 ] || start script "fuzz targets" make -s fuzz SECONDS=60
    start script "plain fuzz/self-test" env HEAPD_BIN=build/heapd python3 tests/fuzz/differential.py --self-test
}

# kill -9 beside a model, with few and with many snapshots; a disk that fills up; a large heap that is
# loaded; crowds; web pages; an hour of everything at once
# (SOAK_SECONDS; under a sanitizer a sixth of it), of which the short run has some seconds.
run_fault() {
    local rounds=20 times=1
    [ "${LONG:-0}" = 0 ] || times=50
    start script "plain fault/kill9" python3 -B tests/fault/kill9.py --rounds $((rounds * times))
    start script "plain fault/kill9 snapshots" env HEAPD_SNAPSHOT_BYTES=20000 \
        python3 -B tests/fault/kill9.py --rounds $((rounds * times))
    start script "address fault/kill9" env HEAPD_STRESS=slice=3 HEAPD_SNAPSHOT_BYTES=100000 \
        python3 -B tests/fault/kill9.py --rounds $((rounds * times / 4)) --longest 1 --heapd build/address/heapd
    start script "plain fault/kill9 everysec" \
        python3 -B tests/fault/kill9.py --rounds $((4 * times)) --longest 4 --within 3 --fsync everysec
    start script "plain fault/recovery" python3 -B tests/fault/recovery.py \
        $([ "${LONG:-0}" != 0 ] || echo --objects 300000)
    start script "plain fault/disk_full" python3 -B tests/fault/disk_full.py
    start script "address fault/startup" python3 -B tests/fault/startup.py $([ "${LONG:-0}" != 0 ] || echo --seconds 10)
    start script "address fault/running" python3 -B tests/fault/running.py \
        $([ "${LONG:-0}" != 0 ] && echo --kills 20 || echo --seconds 12)
    start script "plain fault/crowd" python3 -B tests/fault/crowd.py $([ "${LONG:-0}" != 0 ] || echo --short)
    start script "plain fault/browser" python3 -B tests/fault/browser.py $([ "${LONG:-0}" = 0 ] || echo --long)
    local soak=${SOAK_SECONDS:-60}
    [ "${LONG:-0}" = 0 ] || soak=${SOAK_SECONDS:-3600}
    start script "plain fault/soak self-test" python3 -B tests/fault/soak.py --self-test
    [ "${LONG:-0}" = 0 ] || start script "plain fault/soak" python3 -B tests/fault/soak.py --seconds "$soak"
    start script "address fault/soak" python3 -B tests/fault/soak.py --seconds $((soak / 6)) --sanitizer
}

# What is over at once where it is small takes many slices here, and others come between.
run_sliced() {
    local name switches programs=50
    [ "${LONG:-0}" = 0 ] || programs=2500
    for name in test_conformance test_conformance_gc test_conformance_finalization test_wire test_values test_events \
        test_sessions test_leases test_random; do
        switches=slice=1,interval=1
        [ "$name" != test_wire ] || switches=slice=1 # one case demands the usual interval
        start cmocka "address sliced integration/$name" env HEAPD_STRESS=$switches \
            "build/address/tests/integration/$name"
    done
    start script "address sliced fuzz/differential" env HEAPD_BIN=build/address/heapd \
        HEAPD_STRESS=slice=1,interval=1 python3 tests/fuzz/differential.py --programs "$programs"
}

run_stress() {
    local sanitize switches seconds=10
    [ "${LONG:-0}" = 0 ] || seconds=600
    for sanitize in thread address; do
        # With forced collections one is always under way, so small young ones never come between its slices.
        for switches in collect=1,slice=1,interval=1 slice=1,interval=1; do
            start script "$sanitize fuzz/stress $switches" env HEAPD_BIN="build/$sanitize/heapd" \
                python3 tests/fuzz/stress.py --seconds "$seconds" --clients 8 --stress "$switches"
        done
    done
    start script "plain fuzz/stress self-test" env HEAPD_BIN=build/heapd \
        python3 tests/fuzz/stress.py --self-test --seconds 1
}

build address test-programs fuzz-programs || build_failed address
(
    build "" test-programs bench-programs
    echo $? >"$work/plain.code"
    build thread programs build/thread/tests/unit/test_{gil,question,reading,mark}
    echo $? >"$work/thread.code"
) &
builder=$!
run_address
wait "$builder"
[ "$(cat "$work/plain.code")" = 0 ] || build_failed ""
[ "$(cat "$work/thread.code")" = 0 ] || build_failed thread
start script "layers" tests/layers.sh build
start script "layers_test" tests/layers_test.sh
start script "devtools" tests/devtools/run.sh
run_fuzz
run_fault
start script "bench smoke" tests/bench/smoke.sh
run_sliced
run_plain
run_thread
run_stress
while [ "$jobs_reported" -lt "$jobs_started" ]; do
    wait -n
    report
done

printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" = 0 ] || printf ', %d skipped' "$skipped"
echo
[ "$failed" = 0 ]
