#!/usr/bin/env bash
# usage: manpage.sh PROGRAM VERSION >mnist_dist.1 — the manual page, from what --help prints, so that
# the two cannot differ.
set -euo pipefail
program=$1 version=$2

# Roff takes a backslash, and a dot or a quote that begins a line, for its own.
escape() { sed -e 's/\\/\\e/g' -e "s/^\([.']\)/\\\\\&\1/" -e 's/-/\\-/g'; }

# Text paragraphs flow; a line that begins with two blanks is a term and what it means, and one that
# is indented further goes on with it.
format() {
    escape | awk '
        /^  [^ ]/ {
            line = substr($0, 3)
            if (match(line, /  +/)) {
                print ".TP\n.B " substr(line, 1, RSTART - 1) "\n" substr(line, RSTART + RLENGTH)
            } else {
                print ".TP\n.B " line
            }
            term = 1
            next
        }
        /^   / { sub(/^ +/, ""); print; next }
        /^$/ { print ".PP"; term = 0; next }
        { if (term) print ".PP"; term = 0; print }'
}

help=$("$program" --help)
echo ".TH MNIST_DIST 1 \"\" \"mnist_dist $version\" \"User Commands\""
echo ".SH NAME"
echo "mnist_dist \\- distributed data\\-parallel training on MNIST over MPI"
echo ".SH SYNOPSIS"
sed -n '/^Usage: /,/^$/ { s/^Usage: //; s/^ *//; /./ { s/-/\\-/g; s/^/.br\n/; p } }' <<<"$help"
echo ".SH DESCRIPTION"
sed '1,/^$/d' <<<"$help" | format
sed -n '/^Commands:/,/^$/ s/^  \([a-z]*\) .*/\1/p' <<<"$help" | while read -r command; do
    echo ".SH ${command^^}"
    "$program" "$command" --help | sed 's/^Usage: /  /' | format
done
