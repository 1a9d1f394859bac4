#!/usr/bin/env bash
# Measures email-service against Postfix's smtp-source, the rate of SMTP alone. Starts Kafka, Redis and smtp-sink of
# its own on free loopback ports, and stops them again.
#
#   bench/run.sh                      20000 events, 64 connections, 3 interleaved rounds
#   bench/run.sh -n 5000 --rounds 1 --connections 128 --partitions 12
#   bench/run.sh --micro              the pure parts alone
#   bench/run.sh --growth backlog,window --rounds 1 --out docs/performance    (--growth alone: everything that grows)
#   bench/run.sh --latency --rounds 5 exact latencies: record in Kafka to the relay's 250, assignment to first mail
#   bench/run.sh --check              300 events, correctness only: nothing here depends on time
#
# EMAIL_BUILD_DIR: a build with the programs under test (default: build/bench, which is then built). Figures count
# as ratios within one run on a quiet machine only.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${EMAIL_BUILD_DIR:-}" ]; then
    mkdir -p build
    flock build/.lock sh -c 'cmake --preset bench >/dev/null && cmake --build --preset bench -- --quiet'
    EMAIL_BUILD_DIR=$PWD/build/bench
fi
export EMAIL_BUILD_DIR
if [ "${1:-}" = --latency ]; then
    exec /usr/bin/python3 bench/latency.py "${@:2}"
fi
exec /usr/bin/python3 bench/harness.py "$@"
