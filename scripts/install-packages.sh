#!/usr/bin/env bash
# Installs the Debian packages (12 or 13) that the project needs; what is there already is left alone.
#
#   scripts/install-packages.sh build        to build the programs
#   scripts/install-packages.sh quickstart   build, and what scripts/quickstart.sh uses
#   scripts/install-packages.sh test         build, and what scripts/test.sh uses
#   scripts/install-packages.sh servers      what scripts/local-servers.sh uses
#   scripts/install-packages.sh container    what scripts/test-container.sh uses
set -euo pipefail

build=(ca-certificates gcc libc6-dev cmake ninja-build pkg-config librdkafka-dev libhiredis-dev
    libcurl4-openssl-dev libjansson-dev libmicrohttpd-dev libidn2-dev libxxhash-dev)
quickstart=(kcat curl)
test=(libcmocka-dev g++ clang clang-format redis-server postfix maven default-jdk-headless kcat curl
    python3 python3-pytest python3-pytest-xdist python3-pytest-timeout python3-jsonschema python3-redis
    python3-confluent-kafka python3-cryptography python3-yaml spin strace)
servers=(ca-certificates redis-server maven default-jre-headless)
container=("${servers[@]}" debootstrap docker.io python3 python3-redis python3-confluent-kafka)
# From Debian 13 on Docker's client is a package of its own; clang's run-time libraries carry clang's version.
case "$(sed -n 's/^VERSION_ID="\([0-9]*\)"/\1/p' /etc/os-release)" in
12) test+=(libclang-rt-14-dev) ;;
*)
    test+=(libclang-rt-19-dev)
    container+=(docker-cli)
    ;;
esac
# Tools that a machine often has from elsewhere, where Debian's package would not go beside them.
command -v node >/dev/null || test+=(nodejs)
command -v npm >/dev/null || test+=(npm)
command -v go >/dev/null || test+=(golang-go)
command -v systemd-analyze >/dev/null || test+=(systemd)

case "${1:-build}" in
build) wanted=("${build[@]}") ;;
quickstart) wanted=("${build[@]}" "${quickstart[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
servers) wanted=("${servers[@]}") ;;
container) wanted=("${container[@]}") ;;
*)
    sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2
    exit 2
    ;;
esac

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "These packages are missing, and installing them needs root (no sudo here):" >&2
        echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3
    -o DPkg::Lock::Timeout=600)
log=$(mktemp)

# One run at a time: a second one waits here, and finds everything installed.
exec 9<"$0"
flock 9

# The servers are started by the tests themselves, on ports of their own; their packages must start none.
policy=/usr/sbin/policy-rc.d
ours=
cleanup() {
    [ -z "$ours" ] || "${as_root[@]}" rm -f "$policy"
    rm -f "$log"
}
trap cleanup EXIT
if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
if [[ " ${missing[*]} " == *" postfix "* ]]; then
    echo "postfix postfix/main_mailer_type select No configuration" |
        "${as_root[@]}" debconf-set-selections
fi

run() {
    "$@" >"$log" 2>&1 9<&- || {
        status=$?
        tail -n 40 "$log" >&2
        echo "failed: $*" >&2
        exit "$status"
    }
}
run "${apt[@]}" update
run "${apt[@]}" install --no-install-recommends "${missing[@]}"
