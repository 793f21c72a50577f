#!/bin/sh
# install-deps.sh -- installs the Debian packages that heapd needs, asking nothing.
#
#   deploy/install-deps.sh build   what `make` needs
#   deploy/install-deps.sh test    that, and what `make test` needs
#   deploy/install-deps.sh browser that, and a browser, for tests/fault/browser.py
#   deploy/install-deps.sh devtools  that, and what drives it, for tests/devtools
#   deploy/install-deps.sh fuzz    that, and what `make fuzz` needs
#   deploy/install-deps.sh bench   that, and the peers that `make bench` measures against
#
# Says what it installs; does nothing where everything is there already.
set -eu

# libuv: loops, sockets, signals.  jansson: JSON off the hot path.  libedit: the prompt of heapctl.
# OpenSSL: TLS.  node-llhttp: the C sources of the parser for HTTP, which are compiled in.
build="gcc make pkg-config libc6-dev libuv1-dev libjansson-dev libedit-dev libssl-dev node-llhttp"
# cmocka: unit tests.  libcurl: the tests' client.  valgrind: heap tests once.  zlib: the real heap trace.
# python3: a client in another language, and CPython's own numbers.  expect drives the prompt.
# graphviz: draws what heapctl graph and heap.export write.  curl: the README's tour of HTTP.  openssl makes certificates.
test="$build libcmocka-dev libcurl4-openssl-dev valgrind zlib1g-dev python3 netcat-openbsd expect graphviz curl openssl"
# chromium: pages of other origins that try to reach heapd; the DevTools that load our heap snapshots.
browser="$test chromium"
# node and npm, from wherever they are, drive the DevTools.
devtools="$browser"
command -v node >/dev/null 2>&1 || devtools="$devtools nodejs"
command -v npm >/dev/null 2>&1 || devtools="$devtools npm"
# clang brings libFuzzer.
fuzz="$build clang libclang-rt-14-dev"
# redis, memcached: peers on the wire.  mimalloc, jemalloc: peers of the allocator.  gnuplot draws the plots.
bench="$test redis-server memcached libmimalloc2.0 libjemalloc2 gnuplot-nox"

case "${1:-build}" in
    build) packages=$build ;;
    test) packages=$test ;;
    browser) packages=$browser ;;
    devtools) packages=$devtools ;;
    bench) packages=$bench ;;
    fuzz) packages=$fuzz ;;
    *) echo "usage: $0 [build|test|browser|devtools|bench|fuzz]" >&2; exit 2 ;;
esac

missing=
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-deps: this is no Debian; please install the equivalents of:$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "install-deps: need root to install:$missing" >&2; exit 1; }
    as_root=sudo
fi
echo "install-deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# The servers must not start as services: the benchmark starts its own.
$as_root apt-get -qq update || true
# shellcheck disable=SC2086
$as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
echo "install-deps: done"
