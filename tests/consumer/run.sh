#!/usr/bin/env bash
# usage: run.sh BUILD VERSION CC MPICC — installs BUILD into a fresh folder, checks what came, and
# builds and runs the consumer against it as another project would.
set -euo pipefail
build=$1 version=$2 cc=$3 mpicc=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/usr" >"$work/install.log"
for file in bin/mnist_dist include/mnist_dist/model.h share/doc/mnist_dist/README.md \
    share/doc/mnist_dist/LICENSE share/man/man1/mnist_dist.1.gz; do
    [ -s "$work/usr/$file" ] || {
        echo "$file was not installed"
        exit 1
    }
done
[ "$("$work/usr/bin/mnist_dist" --version)" = "mnist_dist $version" ]

cmake -G Ninja -S "$here" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/usr" -DCMAKE_C_COMPILER="$cc" \
    -DMPI_C_COMPILER="$mpicc"
cmake --build "$work/consumer"
said=$("$work/consumer/consumer")
echo "$said"
grep -qx "flatten,.*dense:512,.*: 669706 parameters" <<<"$said"
