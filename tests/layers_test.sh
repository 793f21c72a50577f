#!/usr/bin/env bash
# layers_test.sh -- layers.sh accepts a small project that keeps the rule, and names each line that breaks it.
set -u
layers=$(cd "$(dirname "$0")" && pwd)/layers.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

# A project that keeps the rule.
lay_out() {
    rm -rf heap protocol server client build
    mkdir heap protocol server client
    echo 'int heap_public(void);' >heap/heap.h
    printf '#include "heap.h"\nint heap_public(void) { return 1; }\nint object_private(void) { return 2; }\n' >heap/heap.c
    echo 'int rpc_public(void);' >protocol/rpc.h
    printf '#include "rpc.h"\n#include "../heap/heap.h"\nint rpc_public(void) { return heap_public(); }\nint frame_private(void) { return 3; }\n' >protocol/rpc.c
    printf '#include "../protocol/rpc.h"\nint main(void) { return rpc_public(); }\n' >server/main.c
    printf '#include <stdio.h>\nint main(void) { return puts("client"); }\n' >client/heapctl.c
}

build() {
    local source
    for source in */*.c; do
        mkdir -p "build/$(dirname "$source")"
        gcc -w -c -o "build/${source%.c}.o" "$source" || exit 1
    done
}

# refuses WHAT_IT_SAYS FILE TEXT: with TEXT added to FILE the check fails and says that.
refuses() {
    local said
    lay_out
    printf '%b\n' "$3" >>"$2"
    build
    if said=$("$layers" build); then
        echo "layers_test: not refused: $3 in $2"
        failed=1
    elif ! grep -qF -- "$1" <<<"$said"; then
        echo "layers_test: expected '$1', got: $said"
        failed=1
    fi
}

lay_out
build
if ! said=$("$layers" build) || [ -n "$said" ]; then
    echo "layers_test: a clean project is refused: $said"
    failed=1
fi
refuses 'heap/heap.c:4:#include "../protocol/rpc.h"' heap/heap.c '#include "../protocol/rpc.h"'
refuses 'heap/heap.c:4:#include <jansson.h>' heap/heap.c '#include <jansson.h>'
refuses 'uses uv_run, not for heap/' heap/heap.c 'int uv_run();\nint heap_x(void) { return uv_run(); }'
refuses 'uses json_null, not for heap/' heap/heap.c 'int json_null();\nint heap_x(void) { return json_null(); }'
refuses 'uses rpc_public of protocol/' heap/heap.c 'int rpc_public();\nint heap_x(void) { return rpc_public(); }'
refuses 'protocol/rpc.c:5:#include "../heap/heap.c"' protocol/rpc.c '#include "../heap/heap.c"'
refuses 'protocol/rpc.c:5:#include <uv.h>' protocol/rpc.c '#include <uv.h>'
refuses 'uses object_private of heap/, which' protocol/rpc.c 'int object_private();\nint rpc_x(void) { return object_private(); }'
refuses 'uses socket, not for protocol/' protocol/rpc.c 'int socket();\nint rpc_x(void) { return socket(); }'
refuses 'server/main.c:3:#include "../heap/heap.h"' server/main.c '#include "../heap/heap.h"'
refuses 'uses heap_public of heap/' server/main.c 'int heap_public();\nint server_x(void) { return heap_public(); }'
refuses 'uses frame_private of protocol/, which' server/main.c 'int frame_private();\nint server_x(void) { return frame_private(); }'
refuses 'uses json_null, not for server/' server/main.c 'int json_null();\nint server_x(void) { return json_null(); }'
refuses 'client/heapctl.c:3:#include "../protocol/rpc.h"' client/heapctl.c '#include "../protocol/rpc.h"'
refuses 'uses rpc_public of protocol/' client/heapctl.c 'int rpc_public();\nint cli_x(void) { return rpc_public(); }'
lay_out
build
echo 'int heap_late(void) { return 0; }' >heap/late.c
if said=$("$layers" build) || ! grep -qF 'build/heap/late.o is missing' <<<"$said"; then
    echo "layers_test: a missing object is not noticed: $said"
    failed=1
fi
exit "$failed"
