#!/usr/bin/env bash
# Installs what the tests need, builds with ASan and UBSan, and runs every test against servers that it starts itself.
#
#   scripts/test.sh             everything
#   scripts/test.sh --unit      only the unit tests (cmocka, through ctest)
#   scripts/test.sh --e2e       only the end-to-end tests (pytest)
#   scripts/test.sh -k EXPR     only the end-to-end tests that match (as in pytest -k)
#
# EMAIL_TEST_WORKERS: end-to-end tests at the same time (3). EMAIL_TEST_CACHE: folder that keeps Kafka's jars
# (~/.cache/email-service-tests).
set -uo pipefail
cd "$(dirname "$0")/.."

unit=yes e2e=yes checks=yes select=()
while [ $# -gt 0 ]; do
    case "$1" in
    --unit) e2e= checks= ;;
    --e2e) unit= checks= ;;
    -k)
        [ $# -ge 2 ] || { echo "-k needs an expression" >&2; exit 2; }
        unit= checks= select=(-k "$2")
        shift
        ;;
    -h | --help)
        sed -n 's/^# \{0,1\}//; 2,10p' "$0"
        exit 0
        ;;
    *)
        echo "scripts/test.sh: unknown argument $1 (see --help)" >&2
        exit 2
        ;;
    esac
    shift
done

# All temporary files of everything below; gone at the end, whatever happens.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/email-service-test.XXXXXX")
export TMPDIR PYTHONDONTWRITEBYTECODE=1
chmod 755 "$TMPDIR"
child=
trap 'rm -rf "$TMPDIR"' EXIT
stop() {
    trap '' INT TERM
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        # pytest's workers outlive it by a second; their servers end with them.
        kill -KILL -- "-$child" 2>/dev/null
    fi
    exit 130
}
trap stop INT TERM

summary=() failed=
# step NAME COMMAND…: runs it in a process group of its own, so that a signal to this script ends it in order.
step() {
    local name=$1 begin=$SECONDS status verdict
    shift
    printf '\n==> %s\n' "$name"
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    wait "$child"
    status=$?
    child=
    case $status in
    0) verdict=ok ;;
    77) verdict='SKIPPED' ;;
    *) verdict="FAILED (exit status $status)" failed=yes ;;
    esac
    summary+=("$(printf '%-44s %5d s  %s' "$name" $((SECONDS - begin)) "$verdict")")
    [ "$status" -eq 0 ]
}

# Two runs at once share the build folders: one builds, the other waits and finds it done.
build() {
    local preset=$1
    shift
    (
        flock 9
        cmake --preset "$preset" >"$TMPDIR/configure.log" 2>&1 || {
            cat "$TMPDIR/configure.log"
            exit 1
        }
        cmake --build --preset "$preset" "$@" -- --quiet
    ) 9>build/.lock
}

unit_tests() {
    ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
        ctest --test-dir build/asan --output-on-failure --timeout 120 -j 2
}

e2e_tests() {
    # Debian's own python3, whose packages were installed, even where another one comes first in PATH.
    EMAIL_BUILD_DIR=$PWD/build/asan /usr/bin/python3 -m pytest -q -n "${EMAIL_TEST_WORKERS:-3}" \
        --durations=5 "${select[@]}" tests/e2e
}

report() {
    printf '\n==> Summary\n'
    printf '%s\n' "${summary[@]}"
    if [ -n "$failed" ]; then
        printf '\nFAILED\n'
        exit 1
    fi
    printf '\nPASSED in %d s\n' "$SECONDS"
    exit 0
}

step "packages" scripts/install-packages.sh test || report
mkdir -p build
[ -z "$checks" ] || step "format (clang-format 14)" scripts/format.sh --check
step "build (gcc, ASan and UBSan)" build asan --target all unit-tests || report
[ -z "$checks" ] || step "build (clang, warnings are errors)" build clang --target all unit-tests
[ -z "$unit" ] || step "unit tests" unit_tests
[ -z "$e2e" ] || step "end-to-end tests" e2e_tests
[ -z "$checks" ] || step "containers" scripts/test-container.sh
[ -z "$checks" ] || step "quickstart" scripts/quickstart.sh --once
report
