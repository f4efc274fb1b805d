#!/usr/bin/env bash
# mnist_dist convert through the binary: each kind of bad input and bad target is one line on stderr
# and exit code 1, and leaves nothing; an existing target stays whole until a new one is complete.
set -uo pipefail
exe=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# number N: N as four bytes; bytes N OFFSET MODULUS: N bytes that count from OFFSET.
number() {
    printf '%b' "$(printf '\\x%02x' $(($1 >> 24)) $((($1 >> 16) & 255)) $((($1 >> 8) & 255)) $(($1 & 255)))"
}
bytes() {
    local i
    for ((i = 0; i < $1; i++)); do printf '%b' "$(printf '\\x%02x' $(((i + $2) % $3)))"; done
}
images() {
    printf '\0\0\010\003'
    number "$1"
    number 3
    number 2
    bytes $(($1 * 6)) "$1" 256
}
labels() {
    printf '\0\0\010\001'
    number "$1"
    bytes "$1" 0 4
}

fresh() {
    rm -rf src
    cp -r good src
}

mkdir good
images 9 >good/train-images-idx3-ubyte
labels 9 >good/train-labels-idx1-ubyte
images 5 >good/t10k-images-idx3-ubyte
labels 5 >good/t10k-labels-idx1-ubyte

# converts SRC TARGET
converts() {
    "$exe" convert "$1" -o "$2" >out 2>err || fail "convert $1: $(cat err)"
    [ ! -s err ] || fail "convert $1 is not silent: $(cat err)"
    [ "$(wc -l <out)" = 1 ] || fail "convert $1: stdout is not one line: $(cat out)"
    grep -q "^$2: 9 training and 5 test images of 3 x 2, 4 classes" out || fail "$(cat out)"
}

# refused CODE WORDS ARGUMENT...: exit code, one line on stderr with these words, nothing on stdout,
# and no file more or less than before.
refused() {
    local want=$1 words=$2 code=0
    shift 2
    ls -AR . >before
    "$exe" convert "$@" >out 2>err || code=$?
    [ "$code" = "$want" ] || fail "convert $*: exit code $code instead of $want: $(cat err)"
    [ "$(wc -l <err)" = 1 ] || fail "convert $*: not one line: $(cat err)"
    grep -q -- "$words" err || fail "convert $*: '$(cat err)' does not say '$words'"
    [ ! -s out ] || fail "convert $*: stdout: $(cat out)"
    ls -AR . >after
    cmp -s before after || fail "convert $*: left behind $(diff before after)"
}
touch out err before after

converts good a.h5
# The same content as gzip, and named otherwise, gives the same arrays.
fresh
gzip src/train-images-idx3-ubyte src/t10k-labels-idx1-ubyte
mv src/train-labels-idx1-ubyte src/train-labels.idx1-ubyte
converts src b.h5
sum=$(sed 's/.*sha256 \([0-9a-f]*\).*/\1/' out)
converts good c.h5
grep -q "$sum" out || fail "gzip and raw differ"
cmp a.h5 c.h5 || fail "the same input gave two different files"
(cd good && "$exe" convert . --output=../d.h5 >/dev/null) || fail "the current folder as source"
cmp a.h5 d.h5 || fail "where the source lies changes the file"

"$exe" convert good --transpose -o t.h5 >out || fail "--transpose"
grep -q "test images of 2 x 3, 4 classes" out || fail "--transpose: $(cat out)"

# Usage.
refused 2 "needs SRC" -o e.h5
refused 2 "one argument too many" good src -o e.h5
refused 2 "is not a valid option" good --into e.h5

# The source.
refused 1 "No such file" nowhere -o e.h5
refused 1 "give the folder" good/train-images-idx3-ubyte -o e.h5
mkdir empty
refused 1 "holds no train-images-idx3-ubyte" empty -o e.h5
fresh && rm src/t10k-images-idx3-ubyte
refused 1 "holds no t10k-images-idx3-ubyte" src -o e.h5
fresh && truncate -s -1 src/train-images-idx3-ubyte
refused 1 "train-images-idx3-ubyte: is 69 bytes long, but its header promises 70: truncated" src -o e.h5
fresh && truncate -s 10 src/train-images-idx3-ubyte
refused 1 "ends inside its header" src -o e.h5
fresh && : >src/train-labels-idx1-ubyte
refused 1 "train-labels-idx1-ubyte: 0 bytes are too few" src -o e.h5
fresh && echo >>src/t10k-labels-idx1-ubyte
refused 1 "t10k-labels-idx1-ubyte: .* something was added" src -o e.h5
fresh && echo "not an IDX file at all" >src/t10k-labels-idx1-ubyte
refused 1 "not an IDX file" src -o e.h5
fresh && mv src/train-images-idx3-ubyte x && mv src/train-labels-idx1-ubyte src/train-images-idx3-ubyte &&
    mv x src/train-labels-idx1-ubyte
refused 1 "are the two files swapped" src -o e.h5
fresh && mv src/train-images-idx3-ubyte x && mv src/t10k-images-idx3-ubyte src/train-images-idx3-ubyte &&
    mv x src/t10k-images-idx3-ubyte
refused 1 "has 5 images but train-labels-idx1-ubyte has 9 labels" src -o e.h5
fresh && gzip src/train-images-idx3-ubyte && truncate -s -3 src/train-images-idx3-ubyte.gz
refused 1 "gzip data is truncated" src -o e.h5
fresh && gzip src/train-images-idx3-ubyte &&
    printf '\0' | dd of=src/train-images-idx3-ubyte.gz bs=1 seek=70 conv=notrunc status=none
refused 1 "gzip data is damaged" src -o e.h5
fresh && gzip src/train-images-idx3-ubyte && echo more >>src/train-images-idx3-ubyte.gz
refused 1 "gzip data is damaged" src -o e.h5
# A header that promises 4 * 10^18 bytes must not make anybody ask for them.
fresh && printf '\0\0\010\003\177\377\377\377\0\0\377\377\0\0\200\0' | gzip >src/train-images-idx3-ubyte
refused 1 "images of 65535 x 32768 x 1 are too large\|gzip data can hold" src -o e.h5

# The target. A failure leaves the old file as it was.
refused 1 "is a folder" good -o empty
refused 1 "Not a directory" good -o a.h5/b.h5
cp a.h5 old.h5
fresh && gzip src/t10k-images-idx3-ubyte && truncate -s -1 src/t10k-images-idx3-ubyte.gz
refused 1 "truncated" src -o a.h5
cmp a.h5 old.h5 || fail "a failed conversion touched the target"
converts good a.h5
cmp a.h5 old.h5 || fail "replacing the target changed it"

# A folder that cannot be written to. Root may write everywhere: then as another user.
mkdir locked && chmod 555 locked && chmod 755 . good
if [ "$(id -u)" -ne 0 ]; then
    refused 1 "locked/a.h5: cannot create: Permission denied" good -o locked/a.h5
elif setpriv --reuid=65534 --regid=65534 --clear-groups "$exe" --version >/dev/null 2>&1; then
    cat >nobody.sh <<EOF
exec setpriv --reuid=65534 --regid=65534 --clear-groups '$exe' "\$@"
EOF
    real=$exe exe=$dir/nobody.sh
    chmod 755 nobody.sh && sed -i '1i #!/bin/sh' nobody.sh
    refused 1 "locked/a.h5: cannot create: Permission denied" good -o locked/a.h5
    exe=$real
fi

# A larger source of zeros, 40 MB: its images lie in a hole of the file.
mkdir large
(printf '\0\0\010\003' && number 50000 && number 28 && number 28) >large/train-images-idx3-ubyte
truncate -s $((16 + 50000 * 784)) large/train-images-idx3-ubyte
(printf '\0\0\010\001' && number 50000) >large/train-labels-idx1-ubyte
truncate -s $((8 + 50000)) large/train-labels-idx1-ubyte
(printf '\0\0\010\003' && number 1 && number 28 && number 28) >large/t10k-images-idx3-ubyte
truncate -s $((16 + 784)) large/t10k-images-idx3-ubyte
labels 1 >large/t10k-labels-idx1-ubyte

# Constant memory: 40 MB of images in a process that may map no more than a few beyond its libraries.
peak=$({ /usr/bin/env time -f %M "$exe" convert large -o large.h5 >/dev/null; } 2>&1 | tail -n 1) || peak=
if [ -n "$peak" ] && [ -z "${MND_SANITIZE:-}" ]; then
    small=$({ /usr/bin/env time -f %M "$exe" convert good -o e.h5 >/dev/null; } 2>&1)
    [ $((peak - small)) -lt 8192 ] || fail "40 MB of images took $((peak - small)) KB more memory"
    rm -f e.h5
fi
rm -f large.h5

# Disk full: a limit on the size of files, and a disk that is full.
code=0
(ulimit -f 1000 && exec "$exe" convert large -o e.h5) >out 2>err || code=$?
[ "$code" = 1 ] || fail "disk full: exit code $code: $(cat err)"
[ "$(wc -l <err)" = 1 ] || fail "disk full: $(cat err)"
grep -q "e.h5" err || fail "disk full: $(cat err)"
[ -z "$(find . -name '*e.h5*')" ] || fail "disk full: left behind $(ls -A)"
mkdir disk
if unshare -m true 2>/dev/null; then
    unshare -m sh -c "mount -t tmpfs -o size=8m none disk || exit 77
        '$exe' convert good -o disk/a.h5 >/dev/null || exit 2
        '$exe' convert large -o disk/a.h5 >out 2>err && exit 3
        [ \"\$(ls -A disk)\" = a.h5 ] || exit 4
        cmp disk/a.h5 a.h5 || exit 5
        dd if=/dev/zero of=disk/full bs=4096 2>/dev/null
        '$exe' convert good -o disk/b.h5 >out2 2>err2 && exit 6
        [ \"\$(ls -A disk | tr '\n' ' ')\" = 'a.h5 full ' ] || exit 7"
    code=$?
    if [ "$code" != 77 ]; then
        [ "$code" = 0 ] || fail "full disk: step $code: $(cat err err2 2>/dev/null)"
        [ "$(wc -l <err),$(wc -l <err2)" = 1,1 ] || fail "full disk: $(cat err err2)"
        grep -q "disk/a.h5: needs 39.[0-9] MB, but its disk has only" err || fail "$(cat err)"
        grep -q "disk/b.h5: " err2 || fail "$(cat err2)"
    fi
fi

# Stopped in the middle: the exit of that signal, and nothing left. A signal may come too late to
# report it, but not ten times.
for signal in INT TERM HUP; do
    met=0
    for ((try = 0; try < 10 && !met; try++)); do
        rm -f e.h5
        env --default-signal=INT,TERM,HUP "$exe" convert large -o e.h5 >out 2>err &
        pid=$!
        until compgen -G '.e.h5.tmp.*' >/dev/null || ! kill -0 $pid 2>/dev/null; do :; done
        kill -$signal $pid 2>/dev/null
        code=0
        { wait $pid || code=$?; } 2>/dev/null
        [ "$code" = 0 ] || met=1
    done
    [ "$met" = 1 ] || fail "SIG$signal never stopped it"
    [ "$code" = $((128 + $(kill -l $signal))) ] || fail "SIG$signal: exit code $code: $(cat err)"
    [ -z "$(find . -name '*e.h5*')" ] || fail "SIG$signal: left behind $(ls -A)"
    rm -f e.h5
done

# Under a launcher one process does it.
"${MPIEXEC:-mpiexec}" -n 3 "$exe" convert good -o f.h5 >out 2>err || fail "under mpiexec: $(cat err)"
[ "$(wc -l <out)" = 1 ] || fail "under mpiexec: $(cat out)"
cmp a.h5 f.h5 || fail "under mpiexec: another file"
"${MPIEXEC:-mpiexec}" -n 3 "$exe" convert empty -o g.h5 >out 2>err && fail "under mpiexec: success"
[ "$(grep -c 'mnist_dist: error: empty: holds no' err)" = 1 ] || fail "under mpiexec: $(cat err)"
echo "convert: all passed"
