#!/usr/bin/env bash
# Three instances, real Kafka, Redis and a relay with a ledger on disk, under chaos: kill -9, frozen processes, network
# faults. Afterwards every event must be accounted for, and every duplicate explained by its own cause.
#
#   scripts/chaos.sh --short                               2 000 events, 40 faults
#   scripts/chaos.sh --events 10000 --kills 200 --seed 1   on demand; half as many other faults come on top
#   scripts/chaos.sh … --policy park                       duplicates only where Redis lost a key
#   scripts/chaos.sh … --asan                              with the ASan and UBSan build
#   scripts/chaos.sh … --build-dir DIR                     with a build that is there already
#   scripts/chaos.sh … --no-network-faults                 without toxiproxy (else it is built: needs Go and its proxy)
#   scripts/chaos.sh … --keep                              keep the evidence of a good run, too
#
# The faults are a pure function of the seed, which is printed (--print-schedule shows them). A failed run keeps its
# evidence and says where (--evidence DIR). EMAIL_TEST_CACHE: folder that keeps Kafka's jars and toxiproxy.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release build_dir='' arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
    --short) arguments+=(--events 2000 --kills 26 --others 14 --gap 1.8) ;;
    --asan) preset=asan ;;
    --build-dir)
        [ $# -ge 2 ] || { echo "--build-dir needs a folder" >&2; exit 2; }
        build_dir=$2
        shift
        ;;
    -h | --help)
        sed -n 's/^# \{0,1\}//; 2,15p' "$0"
        exit 0
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

if [ -z "$build_dir" ]; then
    build_dir=build/$preset
    mkdir -p build
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    (
        flock 9
        cmake --preset "$preset" && cmake --build --preset "$preset"
    ) >"$log" 2>&1 9>build/.lock || {
        cat "$log" >&2
        exit 1
    }
    rm -f "$log"
fi
# Debian's own python3, whose packages were installed, even where another one comes first in PATH.
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/chaos/chaos.py --build-dir "$build_dir" "${arguments[@]}"
