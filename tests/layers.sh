#!/usr/bin/env bash
# layers.sh -- checks that includes and symbols only point down the layers.
#
#   tests/layers.sh BUILD      BUILD holds the objects: build, build/address, ..
#
#       client/ (nothing of ours)      server/ -> protocol/rpc.h -> protocol/ -> heap/heap.h -> heap/
#
# An include of ours is of the own folder or of the lower folder's one public header.  heap/ knows libc and
# pthreads only, protocol/ no socket and no libuv, server/ no JSON.  What a folder's objects use of another
# folder is declared in that header.  Prints each offending line and exits 1; says nothing when all is well.
set -u
build=${1:?usage: tests/layers.sh BUILD}
bad=0

complain() {
    echo "layers: $*"
    bad=1
}

# ---- includes ----

# includes FOLDER HEADER_OF_ANOTHER_FOLDER FORBIDDEN_SYSTEM_HEADERS
includes() {
    local folder=$1 allowed=$2 forbidden=$3 line header
    while IFS= read -r line; do
        header=$(sed -E 's/.*#[ \t]*include[ \t]*([<"][^">]*[">]).*/\1/' <<<"$line")
        case $header in
            '"'*/*)
                [ "$header" = "\"$allowed\"" ] || complain "$line: $folder/ may include ${allowed:-nothing} of other folders"
                ;;
            '"'*)
                header=${header//\"/}
                [ -e "$folder/$header" ] || complain "$line: there is no $folder/$header"
                ;;
            *)
                if [[ $header =~ ^\<($forbidden)\>$ ]]; then
                    complain "$line: not for $folder/"
                fi
                ;;
        esac
    done < <(grep -HnE '^[ \t]*#[ \t]*include' "$folder"/*.[ch] 2>/dev/null)
}

sockets='sys/socket\.h|sys/un\.h|netinet/.*|arpa/.*|netdb\.h|uv\.h|curl/.*'
includes heap     ""                   "$sockets|jansson\.h"
includes protocol "../heap/heap.h"     "$sockets"
includes server   "../protocol/rpc.h"  "jansson\.h|curl/.*"
includes client   ""                   "uv\.h|curl/.*"

# ---- symbols ----

declare -A defines # "FOLDER NAME": an object of FOLDER gives NAME to others

read_objects() { # FOLDER -> objects[], those of the sources that are there
    local source object
    objects=()
    for source in "$1"/*.c; do
        object=$build/${source%.c}.o
        if [ -e "$object" ]; then
            objects+=("$object")
        else
            complain "$object is missing; build first"
        fi
    done
}

for folder in heap protocol server client; do
    read_objects "$folder"
    while read -r name; do
        defines["$folder $name"]=1
    done < <(nm -g --defined-only -- "${objects[@]}" | awk 'NF == 3 {print $3}')
done

# symbols FOLDER LOWER_FOLDER ITS_HEADER PREFIX FORBIDDEN
symbols() {
    local folder=$1 lower=$2 header=$3 prefix=$4 forbidden=$5 name object other
    read_objects "$folder"
    while read -r name object; do
        [ -z "${defines["$folder $name"]:-}" ] || continue
        if [[ $name =~ ^($forbidden)$ ]]; then
            complain "$object: uses $name, not for $folder/"
        fi
        for other in heap protocol server client; do
            [ -n "${defines["$other $name"]:-}" ] || continue
            if [ "$other" != "$lower" ]; then
                complain "$object: uses $name of $other/"
            elif [[ $name != "$prefix"* ]] || ! grep -qw -- "$name" "$header"; then
                complain "$object: uses $name of $other/, which $header does not declare"
            fi
        done
    done < <(nm -u -A -- "${objects[@]}" | sed -E 's/^(.*\.o): +[Uwv] +([^ @]+).*/\2 \1/' | sort -u)
}

calls='socket|connect|accept4?|listen|bind|recv(from|msg)?|send(to|msg)?|uv_.*'
symbols heap     ""       ""             ""    "$calls|json_.*"
symbols protocol heap     heap/heap.h    heap_ "$calls"
symbols server   protocol protocol/rpc.h rpc_  "json_.*"
symbols client   ""       ""             ""    "uv_.*"

exit "$bad"
