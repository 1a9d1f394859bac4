#!/usr/bin/env bash
# Kills email-service at one system call after another while one event goes its way, restarts it, and reconciles.
#
#   scripts/crash-sweep.sh                   every path, every system call from exec to after the commit
#   scripts/crash-sweep.sh --short           every call from the claim to the mark, some before and after
#   scripts/crash-sweep.sh --path sent|slow|refused|invalid|unreadable --policy resend|park [--short]
#                                            one path under one SMTP_AMBIGUOUS_POLICY
#   ... --segment S --from N --to M          only these calls: the N-th to the M-th of segment S
#   scripts/crash-sweep.sh --prove           breaks the service on purpose, in a copy; the sweep has to notice
#
# docs/RELIABILITY.md says what is checked. EMAIL_BUILD_DIR: a build without sanitizers (build/release, built here).
# Exit status 77: tracing other processes (ptrace) is not permitted here.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
-h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "$0"
    exit 0
    ;;
esac

# The service keeps its memory to itself (PR_SET_DUMPABLE): only root may look what it sends, be it in a namespace.
if [ "$(id -u)" -ne 0 ]; then
    if ! unshare --map-root-user true; then
        echo "SKIPPED: needs root, or a user namespace"
        exit 77
    fi
    exec unshare --map-root-user scripts/crash-sweep.sh "$@"
fi

folder=$(mktemp -d)
child=
cleanup() {
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

kill_at=$folder/kill-at
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -o "$kill_at" tests/crash_sweep/kill_at.c
# Does it kill where it should? Here: the write of a text that it looks for, which is not carried out.
status=0
said=$("$kill_at" "$folder/report" 1 1 landmark /bin/echo landmark) || status=$?
if [ "$status" -eq 77 ]; then
    echo "SKIPPED: tracing other processes (ptrace) is not permitted here"
    exit 77
fi
if [ "$status" -ne 0 ] || [ -n "$said" ] || ! grep -q '"outcome":"killed"' "$folder/report"; then
    echo "kill-at does not kill" >&2
    exit 1
fi

if [ -z "${EMAIL_BUILD_DIR:-}" ]; then
    mkdir -p build
    flock build/.lock sh -c 'cmake --preset release >/dev/null && cmake --build --preset release -- --quiet'
    export EMAIL_BUILD_DIR=$PWD/build/release
fi

export TMPDIR=$folder PYTHONDONTWRITEBYTECODE=1
# Debian's own python3, whose packages were installed, even where another one comes first in PATH.
python=/usr/bin/python3
program=sweep.py
if [ "${1:-}" = --prove ]; then
    program=prove.py
    shift
fi
"$python" -m pytest -q -p no:cacheprovider tests/crash_sweep
"$python" "tests/crash_sweep/$program" --kill-at "$kill_at" "$@" &
child=$!
status=0
wait "$child" || status=$?
child=
exit "$status"
