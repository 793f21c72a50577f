#!/bin/sh
# run.sh -- the check in Chromium's DevTools: installs what it needs below build/devtools, runs check.mjs.
#
# Exit code 0: passed.  77: skipped, the last line says why (no browser or no npm registry can be had here).
set -u
cd "$(dirname "$0")/../.." || exit 1

skip() {
    echo "skipped: $*"
    exit 77
}

deploy/install-deps.sh devtools || skip "chromium, node and npm cannot be installed"
mkdir -p build/devtools
cp tests/devtools/package.json tests/devtools/check.mjs build/devtools/ || exit 1
[ -d build/devtools/node_modules/playwright-core ] ||
    (cd build/devtools && npm install --silent --no-audit --no-fund --no-package-lock) ||
    skip "npm cannot install playwright-core"
# The first start of a browser on a machine may be slow, and now and then one fails to start at all.
cd build/devtools || exit 1
node check.mjs "${HEAPD_BIN:-../heapd}" . && exit 0
echo "once more:"
node check.mjs "${HEAPD_BIN:-../heapd}" .
