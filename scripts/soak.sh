#!/usr/bin/env bash
# Runs one email-service under a steady mixture of events (sent, retried, dead, duplicate) and fails where its memory, file
# descriptors or threads grow: RSS by more than 2 MB or 2 % per 100 000 events after the first quarter.
#
#   scripts/soak.sh                      200 000 events
#   scripts/soak.sh --events 2000000     more of them
#
# Real Kafka and Redis, and a relay that also refuses (tests/soak/relay.py), all started here. The figures go to stdout and
# to build/soak/figures.json, a sample a second to build/soak/samples.csv. EMAIL_BUILD_DIR: a build that is there already
# (else build/release is built). EMAIL_TEST_CACHE: folder that keeps Kafka's jars.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
-h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "$0"
    exit 0
    ;;
esac

if [ -z "${EMAIL_BUILD_DIR:-}" ]; then
    mkdir -p build
    flock build/.lock sh -c 'cmake --preset release >/dev/null && cmake --build --preset release -- --quiet'
    export EMAIL_BUILD_DIR=$PWD/build/release
fi
# Debian's own python3, whose packages were installed, even where another one comes first in PATH.
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/soak/soak.py --output "${EMAIL_SOAK_OUTPUT:-build/soak}" "$@"
