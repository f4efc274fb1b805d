#!/usr/bin/env bash
# The documentation: limits on its length, the reading list of docs/design.md (at most 10 files and 900
# lines, which know nothing of the fast path), and that every file that is named exists.
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
if grep -nwiE 'tiles?|sparse|stream(ing|ed)?|avx[0-9]*|simd|fused?|convpool|shared|hierarchical|tree sum|L[12] cache' \
    "${list[@]}"; then
    wrong "the lines above, of the reading list, speak of the fast path"
fi

# Links and names of files in all Markdown.
while read -r file; do
    while read -r target; do
        target=${target%%#*}
        case $target in '' | http*) continue ;; esac
        [ -e "$(dirname "$file")/$target" ] || wrong "$file: link to $target, which does not exist"
    done < <(grep -oE '\]\([^)]*\)' "$file" | sed 's/^](//; s/)$//')
    while read -r name; do
        [ -e "$name" ] || wrong "$file names $name, which does not exist"
    done < <(grep -oE '`(src|include|tests|scripts|bench|docs|cmake|jobs)/[A-Za-z0-9_./-]+`' "$file" | tr -d '`')
done < <(git ls-files --cached --others --exclude-standard '*.md')

[ "$failed" = 0 ] || exit 1
echo "docs: ${#list[@]} files and $lines lines to read first"
