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
running=$TMPDIR/running summary=$TMPDIR/summary aside_log=$TMPDIR/aside.log
mkdir "$running"
touch "$summary"
trap 'rm -rf "$TMPDIR"' EXIT
any_lives() {
    local group
    for group in "$running"/*; do
        ! kill -0 "$(basename "$group")" 2>/dev/null || return 0
    done
    return 1
}
aside_pid=
stop() {
    trap '' INT TERM
    local group
    [ -z "$aside_pid" ] || kill -KILL "$aside_pid" 2>/dev/null # so that it begins no further step
    for group in "$running"/*; do
        kill -TERM "$(basename "$group")" 2>/dev/null
    done
    for ((i = 0; i < 100; i++)); do
        any_lives || break
        sleep 0.1
    done
    # pytest's workers outlive it by a second; their servers end with them.
    for group in "$running"/*; do
        kill -KILL -- "-$(basename "$group")" 2>/dev/null
    done
    exit 130
}
trap stop INT TERM

# step NAME COMMAND…: runs it in a process group of its own, so that a signal to this script ends it in order.
step() {
    local name=$1 begin=$SECONDS status verdict child
    shift
    printf '\n==> %s\n' "$name"
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    touch "$running/$child"
    while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
    rm -f "$running/$child"
    case $status in
    0) verdict=ok ;;
    77) verdict='SKIPPED' ;;
    *) verdict="FAILED (exit status $status)" ;;
    esac
    printf '%-44s %5d s  %s\n' "$name" $((SECONDS - begin)) "$verdict" >>"$summary"
    [ "$status" -eq 0 ]
}

# aside FUNCTION: its steps beside those that follow, which leave a core idle half the time. What they print comes
# with `gather`, so that the two don't mix.
aside() {
    rm -f "$aside_log.complete"
    (
        trap - EXIT
        trap : INT TERM # not ignored: what it runs would inherit that
        renice -n 10 -p "$BASHPID" >/dev/null # takes what the others leave
        "$1"
        touch "$aside_log.complete"
    ) >"$aside_log" 2>&1 &
    aside_pid=$!
}

gather() {
    [ -n "$aside_pid" ] || return 0
    while kill -0 "$aside_pid" 2>/dev/null; do wait "$aside_pid"; done
    aside_pid=
    cat "$aside_log"
    [ -e "$aside_log.complete" ] || echo "what ran aside did not get to its end: FAILED " >>"$summary"
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
        ctest --test-dir build/asan --output-on-failure --timeout 120 --no-tests=error -j 2
}

e2e_tests() {
    # Debian's own python3, whose packages were installed, even where another one comes first in PATH.
    EMAIL_BUILD_DIR=$PWD/build/asan /usr/bin/python3 -m pytest -q -n "${EMAIL_TEST_WORKERS:-3}" \
        --durations=5 "${select[@]}" tests/e2e
}

report() {
    gather
    printf '\n==> Summary (some ran side by side)\n'
    cat "$summary"
    if grep -q ' FAILED ' "$summary"; then
        printf '\nFAILED\n'
        exit 1
    fi
    printf '\nPASSED in %d s\n' "$SECONDS"
    exit 0
}

thread_tests() {
    ctest --test-dir build/tsan -L threads --output-on-failure --timeout 120 --no-tests=error -j 2
}

# Short forms of what docs/RELIABILITY.md describes.
proofs() {
    step "unit tests" unit_tests
    step "threads (TSan)" thread_tests
    step "model of the delivery protocol" scripts/model-check.sh
    step "crash sweep, short" scripts/crash-sweep.sh --short
}

fuzzing() {
    step "fuzzing, 20 s a target" scripts/fuzz.sh
}

step "packages" scripts/install-packages.sh test || report
mkdir -p build
[ -z "$checks" ] || step "format (clang-format 14)" scripts/format.sh --check
step "build (gcc, ASan and UBSan)" build asan --target all unit-tests || report
if [ -z "$checks" ]; then
    [ -z "$unit" ] || step "unit tests" unit_tests
    [ -z "$e2e" ] || step "end-to-end tests" e2e_tests
    report
fi
step "build (clang, warnings are errors)" build clang --target all unit-tests
step "build (TSan)" build tsan --target thread-tests
step "build (release)" build release
aside proofs
step "end-to-end tests" e2e_tests
gather
aside fuzzing
step "ledger under chaos, short" scripts/chaos.sh --short
step "containers" scripts/test-container.sh
step "benchmark, correctness only" bench/run.sh --check
step "quickstart" scripts/quickstart.sh --once
report
