#!/usr/bin/env bash
# Checks that every file includes only what its room may see (docs/design.md). One line a breach.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# room: the rooms whose public headers it may include
declare -A may=(
    [base]="base"
    [nn]="base nn"
    [dist]="base dist"
    [io]="base io"
    [train]="base nn dist io train"
    [cli]="base nn dist io train cli"
)
# outside header (a pattern): the only room that may include it
declare -A owner=(
    ['mpi.h']=dist ['cblas.h']=nn ['openblas_config.h']=nn
    ['hdf5*.h']=io ['H5*.h']=io ['zlib.h']=io ['png.h']=io ['openssl/*']=base
)
# public headers that are not named after the file that implements them
declare -A room_of=()

breaches=0
breach() {
    echo "$1"
    breaches=$((breaches + 1))
}

for path in include/mnist_dist/*.h; do
    name=${path##*/}
    [ -z "${room_of[$name]:-}" ] || continue
    file=$(compgen -G "src/*/${name%.h}.c" || true)
    case $file in
    '' | *$'\n'*) breach "$path: no single src/*/${name%.h}.c; name its room in scripts/check_layers.sh" ;;
    *)
        room=${file#src/}
        room_of[$name]=${room%%/*}
        ;;
    esac
done

# check FILE ROOM: every include of FILE against what ROOM may see
check() {
    local file=$1 room=$2 header pattern
    while read -r header; do
        case $header in
        mnist_dist/*)
            header=${header#mnist_dist/}
            [[ " ${may[$room]} " == *" ${room_of[$header]:-} "* ]] ||
                breach "$file: room $room may not see mnist_dist/$header"
            ;;
        ../*) breach "$file: includes $header from another folder" ;;
        *)
            for pattern in "${!owner[@]}"; do
                # shellcheck disable=SC2053 # a pattern is meant
                if [[ $header == $pattern && ${owner[$pattern]} != "$room" ]]; then
                    breach "$file: only room ${owner[$pattern]} may include $header"
                fi
            done
            ;;
        esac
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]([^>"]+)[>"].*/\1/p' "$file")
}
for file in src/*/*.[ch]; do
    room=${file#src/}
    check "$file" "${room%%/*}"
done
for path in include/mnist_dist/*.h; do
    room=${room_of[${path##*/}]:-}
    [ -z "$room" ] || check "$path" "$room"
    # A public header must not ask its users for another package's headers.
    if grep -nE '#[[:space:]]*include[[:space:]]*<' "$path" |
        grep -vE '<(std(arg|bool|def|int|io)|limits|time|math)\.h>'; then
        breach "$path: the line above is not a plain C header"
    fi
done

[ "$breaches" -eq 0 ]
