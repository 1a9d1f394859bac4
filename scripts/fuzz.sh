#!/usr/bin/env bash
# Fuzzes the code that reads what others send, and the state machines, with libFuzzer (clang), AddressSanitizer and
# UndefinedBehaviorSanitizer: tests/fuzz/fuzz_TARGET.c.
#
#   scripts/fuzz.sh                        every target, 20 s each, two at a time
#   scripts/fuzz.sh --seconds 3600 smtp    one target, for an hour
#   scripts/fuzz.sh --merge                puts what build/fuzz/corpus has found into tests/fuzz/corpus, as little as possible
#   scripts/fuzz.sh --list                 the targets
#
# New inputs are kept in build/fuzz/corpus/TARGET from run to run; what fails is kept in build/fuzz/failures. Exit status 1:
# a target failed (crash, leak, time-out, memory); 77: no clang with libFuzzer here. FUZZ_JOBS: targets at a time (2).
# FUZZ_BUILD_DIR: build folder (build/fuzz).
set -uo pipefail
cd "$(dirname "$0")/.."

max_len=4096 max_seconds_per_input=10 max_memory_mb=2048 max_corpus_input=512

all_targets() {
    find tests/fuzz -name 'fuzz_*.c' | sed 's,.*/fuzz_\(.*\)\.c$,\1,' | sort
}

seconds=20 merge= targets=()
while [ $# -gt 0 ]; do
    case "$1" in
    --seconds)
        [[ "${2:-}" =~ ^[0-9]+$ ]] || { echo "--seconds needs a number" >&2; exit 2; }
        seconds=$2
        shift
        ;;
    --merge) merge=yes ;;
    --list)
        all_targets
        exit 0
        ;;
    -h | --help)
        sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "$0"
        exit 0
        ;;
    *)
        [ -e "tests/fuzz/fuzz_$1.c" ] || { echo "scripts/fuzz.sh: no target $1 (see --list)" >&2; exit 2; }
        targets+=("$1")
        ;;
    esac
    shift
done
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(all_targets)

build=${FUZZ_BUILD_DIR:-build/fuzz}
mkdir -p "$build"
build=$(cd "$build" && pwd)
failures=$build/failures logs=$build/logs
mkdir -p "$failures" "$logs"

has_fuzzer() {
    local probe=$build/probe status
    printf '#include <stddef.h>\n#include <stdint.h>\nint LLVMFuzzerTestOneInput(const uint8_t *d, size_t n);\n%s\n' \
        'int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n) { (void)d; return n > 1u << 30; }' >"$probe.c"
    clang -fsanitize=fuzzer,address "$probe.c" -o "$probe" >"$probe.log" 2>&1
    status=$?
    rm -f "$probe.c" "$probe"
    return "$status"
}

if ! has_fuzzer; then
    echo "SKIPPED: no clang with libFuzzer here (Debian 12: clang libclang-rt-14-dev; 13: clang libclang-rt-19-dev)" >&2
    cat "$build/probe.log" >&2
    exit 77
fi

compile() {
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DEMAIL_BUILD_TESTS=OFF \
        -DEMAIL_BUILD_FUZZERS=ON '-DEMAIL_SANITIZE=address;undefined' &&
        cmake --build "$build" --target "${targets[@]/#/fuzz_}"
}
if ! (flock 9 && compile) 9>"$build/.lock" >"$logs/build.log" 2>&1; then
    tail -n 40 "$logs/build.log" >&2
    echo "the fuzz targets do not build" >&2
    exit 1
fi

export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

if [ -n "$merge" ]; then
    for target in "${targets[@]}"; do
        found=$build/corpus/$target kept=$build/merged
        mkdir -p "$found"
        rm -rf "$kept"
        mkdir -p "$kept"
        "$build/bin/fuzz_$target" -set_cover_merge=1 -use_counters=0 -max_len=$max_corpus_input "$kept" \
            "tests/fuzz/corpus/$target" "$found" >"$logs/$target-merge.log" 2>&1 || {
            tail -n 20 "$logs/$target-merge.log" >&2
            exit 1
        }
        # Seeds with a name of their own stay; what libFuzzer has named by its hash is replaced.
        find "tests/fuzz/corpus/$target" -regextype posix-extended -type f -regex '.*/[0-9a-f]{40}' -delete
        seeds=$(find "tests/fuzz/corpus/$target" -type f -exec sha1sum {} + | cut -d' ' -f1)
        for input in "$kept"/*; do
            [[ "$seeds" == *"$(basename "$input")"* ]] || [ ! -s "$input" ] || cp "$input" "tests/fuzz/corpus/$target"
        done
        echo "$target: $(find "tests/fuzz/corpus/$target" -type f | wc -l) inputs," \
            "$(find "tests/fuzz/corpus/$target" -type f -printf '%s\n' | awk '{ s += $1 } END { print s + 0 }') bytes"
    done
    exit 0
fi

run_target() {
    local target=$1 corpus=$build/corpus/$1 options child
    mkdir -p "$corpus"
    options=(-max_total_time="$seconds" -timeout=$max_seconds_per_input -rss_limit_mb=$max_memory_mb -max_len=$max_len
        -print_final_stats=1 -artifact_prefix="$failures/$target-")
    [ ! -e "tests/fuzz/dict/$target.dict" ] || options+=("-dict=tests/fuzz/dict/$target.dict")
    "$build/bin/fuzz_$target" "${options[@]}" "$corpus" "tests/fuzz/corpus/$target" >"$logs/$target.log" 2>&1 &
    child=$!
    trap 'kill "$child" 2>/dev/null' TERM
    wait "$child"
    echo $? >"$logs/$target.status"
}

# As many as FUZZ_JOBS at a time; a signal ends them all.
trap 'trap "" INT TERM; kill $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM
running=0
for target in "${targets[@]}"; do
    rm -f "$logs/$target.status"
    if [ "$running" -ge "${FUZZ_JOBS:-2}" ]; then
        wait -n
        running=$((running - 1))
    fi
    run_target "$target" &
    running=$((running + 1))
done
wait

# The last number that libFuzzer printed under this name.
figure() {
    sed -n "s/.*$2: *\([0-9]*\).*/\1/p" "$logs/$1.log" | tail -n 1
}

printf '%-10s %12s %9s %9s %9s %8s  %s\n' target executions per_s coverage features corpus result
status=0
for target in "${targets[@]}"; do
    result=ok
    if [ "$(cat "$logs/$target.status" 2>/dev/null)" != 0 ]; then
        result=FAILED status=1
    fi
    printf '%-10s %12s %9s %9s %9s %8s  %s\n' "$target" "$(figure "$target" stat::number_of_executed_units)" \
        "$(figure "$target" stat::average_exec_per_sec)" "$(figure "$target" cov)" "$(figure "$target" ft)" \
        "$(figure "$target" corp)" "$result"
done
for target in "${targets[@]}"; do
    [ "$(cat "$logs/$target.status" 2>/dev/null)" != 0 ] || continue
    printf '\n==> %s\n' "$target"
    grep -E 'does not hold|ERROR: |runtime error|SUMMARY' "$logs/$target.log" | head -n 10
    artifact=$(sed -n 's/.*Test unit written to //p' "$logs/$target.log" | tail -n 1)
    echo "log: $logs/$target.log"
    [ -z "$artifact" ] || printf 'replay: %s\n' "$build/bin/fuzz_$target $artifact"
done
exit "$status"
