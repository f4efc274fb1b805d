#!/usr/bin/env bash
# Checks the modules (docs/design.md), one line per breach: which headers a file may include; that
# src/nn speaks of one process only; and that kinds of layers are known by their own files alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# module: the modules whose public headers it may include
declare -A may=(
    [base]="base"
    [nn]="base nn"
    [dist]="base dist"
    [io]="base io"
    [train]="base nn dist io train"
    [cli]="base nn dist io train cli"
)
# outside header (a pattern): the only module that may include it
declare -A owner=(
    ['mpi.h']=dist ['cblas.h']=nn ['openblas_config.h']=nn
    ['hdf5*.h']=io ['H5*.h']=io ['zlib.h']=io ['png.h']=io ['zip.h']=io ['*lzf.h']=io
    ['jpeglib.h']=io ['libexif/*']=io ['openssl/*']=base
)
# public headers that are not named after the file that implements them
declare -A module_of=([exchange_kind.h]=dist [kernels.h]=nn [vector.h]=base)

breaches=0
breach() {
    echo "$1"
    breaches=$((breaches + 1))
}

for path in include/mnist_dist/*.h; do
    name=${path##*/}
    [ -z "${module_of[$name]:-}" ] || continue
    file=$(compgen -G "src/*/${name%.h}.c" || true)
    case $file in
    '' | *$'\n'*) breach "$path: no single src/*/${name%.h}.c; name its module in scripts/check_layers.sh" ;;
    *)
        module=${file#src/}
        module_of[$name]=${module%%/*}
        ;;
    esac
done

# check FILE MODULE: every include of FILE against what MODULE may see
check() {
    local file=$1 module=$2 header pattern
    while read -r header; do
        case $header in
        mnist_dist/*)
            header=${header#mnist_dist/}
            [[ " ${may[$module]} " == *" ${module_of[$header]:-} "* ]] ||
                breach "$file: module $module may not see mnist_dist/$header"
            ;;
        ../*)
            [[ $(realpath --relative-to=. "${file%/*}/$header") == src/$module/* ]] ||
                breach "$file: includes $header from another module"
            ;;
        *)
            for pattern in "${!owner[@]}"; do
                # shellcheck disable=SC2053 # a pattern is meant
                if [[ $header == $pattern && ${owner[$pattern]} != "$module" ]]; then
                    breach "$file: only module ${owner[$pattern]} may include $header"
                fi
            done
            ;;
        esac
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]([^>"]+)[>"].*/\1/p' "$file")
}
for file in $(find src -name '*.[ch]' -o -name '*.inc' | sort); do
    module=${file#src/}
    check "$file" "${module%%/*}"
done
for path in include/mnist_dist/*.h; do
    module=${module_of[${path##*/}]:-}
    [ -z "$module" ] || check "$path" "$module"
    # A public header must not ask its users for another package's headers.
    if grep -nE '#[[:space:]]*include[[:space:]]*<' "$path" |
        grep -vE '<(std(arg|bool|def|int|io)|limits|string|time|math)\.h>'; then
        breach "$path: the line above is not a plain C header"
    fi
done

# src/nn knows one process. In any case of letters, also as a part of a name (n_rank). Not on the list:
# "window", the standard term for the inputs that an output of pooling or a convolution sees; what is
# looked for is a window of shared memory.
mapfile -t nn < <(
    find src/nn -name '*.[ch]' -o -name '*.inc' | sort
    for name in "${!module_of[@]}"; do
        [ "${module_of[$name]}" != nn ] || echo "include/mnist_dist/$name"
    done | sort
)
words='MPI|mpirun|ranks?|peers?|nodes?|hosts?|barriers?|communicators?|collectives?|(all)?reduce|shm|replicas?'
words="$words|logical|processes|shared[ _-](window|memory)"
if grep -niE "(^|[^a-z])($words)([^a-z]|$)" "${nn[@]}"; then
    breach "src/nn: the lines above speak of more than one process"
fi

# A kind is looked up by name in spec.c, compared in layer.c (which finds it) and in fuse.c, and
# nowhere else: neither by its name nor by its table of functions.
kinds='(ops|kind) *[=!]= *&?mnd_layer|ops->(plan|forward|backward) *[=!]= *[&m]|mnd_layer_find *\('
kinds="$kinds|str[a-z]*(cmp|str|chr) *\\([^;]*(->|\\.)kind\\b|(->|\\.)kind *\\["
if grep -rnE "$kinds" src | grep -vE '^src/nn/(layer|fuse)\.c:|^src/nn/(spec\.c|layer_kinds\.h):.*mnd_layer_find'; then
    breach "the lines above ask of what kind a layer is"
fi

[ "$breaches" -eq 0 ]
