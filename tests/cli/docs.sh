#!/usr/bin/env bash
# The documentation: limits on its length, the reading list of docs/design.md (at most 10 files and 900
# lines, which know nothing of the fast path), that every file that is named exists, and the words used.
set -euo pipefail
cd "$MND_SOURCE_DIR"

failed=0
wrong() {
    echo "FAILED: $*" >&2
    failed=1
}

while read -r limit file; do
    lines=$(wc -l <"$file")
    [ "$lines" -le "$limit" ] || wrong "$file has $lines lines, the limit is $limit"
done <<'LIMITS'
150 README.md
250 docs/design.md
200 docs/performance.md
150 docs/extending.md
LIMITS

# The reading list: the first list of files of design.md.
mapfile -t list < <(sed -n '/^## Reading list/,/^## One step/s/^\* `\([^`]*\)`.*/\1/p' docs/design.md)
[ ${#list[@]} -ge 5 ] || wrong "no reading list in docs/design.md"
[ ${#list[@]} -le 10 ] || wrong "the reading list has ${#list[@]} files, the limit is 10"
for file in "${list[@]}"; do [ -f "$file" ] || wrong "$file of the reading list does not exist"; done
lines=$(cat "${list[@]}" | wc -l)
[ "$lines" -le 900 ] || wrong "the reading list has $lines lines, the limit is 900"
# Whole words: names of functions and of table entries are the interface that the fast path uses.
words='tiles?|tiling|sparse|stream(s|ed|ing)?|avx[0-9]*|simd|prefetch(ed|es|ing)?|fuse[ds]?|fusing|convpool'
words="$words|shared|hierarchical|tree sum|(L[123]|first|second) cache|cache lines?"
if grep -nwiE "$words" "${list[@]}"; then
    wrong "the lines above, of the reading list, speak of the fast path"
fi

# Words for which the field has standard terms, across line ends too: room (module), meeting (barrier),
# hangs on (depends on), dealt out (partitioned), behind (after, next), feed and stage (loader,
# prefetch), turned round (transposed), first cache (L1), pieces and two sums (shard, split-K), word sum
# (checksum), looks (polls), somebody (user, rank), is there (exists), comes to
# (equals). "To leave behind" is English. Words with an everyday sense as well, such as part, before and
# line, cannot be checked so.
words='rooms?|meet(s|ings?)?|met|h[au]ng(s|ing)? on|dealt out|taken together|(?<!left\s)behind'
words="$words|fe(d|eds?|eding|eders?)|stag(es?|ed|ing)|turn(s|ed|ing)? round|(first|second) caches?"
words="$words|owner computes|sharing products|pieces|two sums|word sums?|looks|people"
words="$words|(some|any|every|no)body|whoever|is there|comes? to|came to"
invented() { LC_ALL=C grep -aHizoP "\b(${words// /[\\s*/]+})\b" "$@" | tr '\n' ' ' | tr '\0' '\n'; }
mapfile -t texts < <(git ls-files --cached --others --exclude-standard README.md 'docs/*.md' include src)
[ "$(printf 'no barrier.\n * Depends\n * on. Hangs\n * on.' | invented -)" = '(standard input):Hangs  * on' ] ||
    wrong "the search for words does not work"
found=$(invented "${texts[@]}") || true # grep exits with 1 where there is none
[ -z "$found" ] || wrong "words that the field has a term for: $found"

# What extending.md quotes is what the sources say: of a block of C the text between lines "...", of a
# diff the lines that were there, of the option what is in backquotes. White space does not count.
flat() { tr -s '[:space:]' ' '; }
sources=$(cat tests/extend/*.c src/nn/layer.c src/nn/optimizer.c src/dist/exchange.c \
    src/cli/cmd_train.c src/io/checkpoint_format.c include/mnist_dist/train.h | flat)
quotes=0
while IFS= read -r quote; do
    [[ $sources == *"$quote"* ]] || wrong "docs/extending.md quotes what no source says: $quote"
    quotes=$((quotes + 1))
done < <(
    awk '/^```(c|diff)$/ { inside = 1; next }
        /^```/ { if (inside) print ""; inside = 0; next }
        !inside || /^\+/ { next }
        /^ *\.\.\.$/ { print ""; next }
        { printf "%s ", $0 }' docs/extending.md | tr -s ' ' | sed 's/^ //; s/ $//' | grep .
    sed -n 's/^ *`\({.*\)`.*/\1/p' docs/extending.md
)
[ "$quotes" -ge 11 ] || wrong "only $quotes quotations found in docs/extending.md"

# Links and names of files in all Markdown; table.md is what a script there writes.
files=$(git ls-files --cached --others --exclude-standard | sed 's|^|/|')
while read -r file; do
    while read -r target; do
        target=${target%%#*}
        case $target in '' | http*) continue ;; esac
        [ -e "$(dirname "$file")/$target" ] || wrong "$file: link to $target, which does not exist"
    done < <(grep -oE '\]\([^)]*\)' "$file" | sed 's/^](//; s/)$//')
    while read -r name; do
        [ -e "$name" ] || grep -q "/$name$" <<<"$files" || wrong "$file names $name, which does not exist"
    done < <(
        grep -oE '`(src|include|tests|scripts|bench|docs|cmake|jobs)/[A-Za-z0-9_./-]+`' "$file" | tr -d '`'
        grep -oE '(^|[^A-Za-z0-9_./-])[a-z0-9_]+\.(c|h|inc|sh|py|md)([^a-z0-9_./]|[.]?$|\. )' "$file" |
            grep -oE '[a-z0-9_]+\.[a-z]+' | grep -vx 'table\.md'
    )
done < <(git ls-files --cached --others --exclude-standard '*.md')

[ "$failed" = 0 ] || exit 1
echo "docs: ${#list[@]} files and $lines lines to read first"
