#!/usr/bin/env bash
# Formats the C sources by .clang-format; with --check only says which files differ.
# Exit status 77: no clang-format 14 here. Other versions format differently, so none of them is used.
set -euo pipefail
cd "$(dirname "$0")/.."

formatter=
for candidate in clang-format-14 clang-format; do
    if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
        formatter=$candidate
        break
    fi
done
if [ -z "$formatter" ]; then
    echo "clang-format 14 is not installed (Debian 13 does not package it)" >&2
    exit 77
fi

mapfile -t files < <(find lib cmd tests examples -name '*.[ch]' | sort)
case "${1:-}" in
--check)
    differing=0
    for file in "${files[@]}"; do
        "$formatter" "$file" | cmp -s - "$file" || {
            echo "not formatted: $file"
            differing=1
        }
    done
    [ "$differing" -eq 0 ] || echo "scripts/format.sh formats them"
    exit "$differing"
    ;;
'') "$formatter" -i "${files[@]}" ;;
*)
    echo "usage: scripts/format.sh [--check]" >&2
    exit 2
    ;;
esac
