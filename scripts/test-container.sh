#!/usr/bin/env bash
# Builds the image and runs it as docker-compose.yml does (no root, read-only root, no capabilities) against a Kafka, a
# Redis and a relay on this machine, and repeats the walk-through of docs/KAFKA_EMAIL_SETUP.md.
#
#   scripts/test-container.sh
#
# Needs no registry and touches no running Docker: dockerd is its own, with everything in one temporary folder, and the
# base image is made by debootstrap. Needs root, Debian and 6 GB of disk in /tmp while it runs.
# Exit status: 0 good, 1 failed, 77 skipped because dockerd cannot be installed or started here.
#
# EMAIL_TEST_CONTAINER_BASE: a folder or tar file with a Debian 13 root to use instead of debootstrap's.
set -uo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
'') ;;
-h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "$0"
    exit 0
    ;;
*)
    echo "scripts/test-container.sh: unknown argument $1 (see --help)" >&2
    exit 2
    ;;
esac

skip() {
    echo "SKIPPED: $1"
    exit 77
}
say() { printf -- '-- %s (%d s)\n' "$1" "$SECONDS"; }

[ "$(id -u)" -eq 0 ] || skip "dockerd needs root"
command -v apt-get >/dev/null || skip "no Debian here: docker.io and debootstrap cannot be installed"

# A signal must not wait for the end of what runs: bash runs traps while it waits, not while a command is in front.
running=
run() {
    local status
    "$@" &
    running=$!
    wait "$running"
    status=$?
    running=
    return "$status"
}

dockerd=
free_gb=$(df --output=avail -BG /tmp | tail -n 1 | tr -dc 0-9)
[ "$free_gb" -ge 6 ] || skip "$free_gb GB free in /tmp, 6 GB are needed"
# Short: the path of a socket in it has at most 108 bytes.
folder=$(mktemp -d /tmp/email-container.XXXXXX)
chmod 755 "$folder"
cleanup() {
    trap '' INT TERM
    if [ -n "$running" ]; then
        kill -TERM "$running" 2>/dev/null
        wait "$running" 2>/dev/null
    fi
    if [ -n "$dockerd" ]; then
        docker ps -q 2>/dev/null | xargs -r "$docker" kill >/dev/null 2>&1
        kill -TERM "$dockerd" 2>/dev/null
        wait "$dockerd" 2>/dev/null
    fi
    awk -v below="$folder/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r -n 1 umount
    rm -rf --one-file-system "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "packages"
run scripts/install-packages.sh container || skip "the packages for dockerd cannot be installed"

# Debian's own, even where another one comes first in PATH.
docker=/usr/bin/docker
docker() { "$docker" "$@"; }
export DOCKER_HOST=unix://$folder/docker.sock DOCKER_CONFIG=$folder/config DOCKER_BUILDKIT=0
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH

say "dockerd"
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
    --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs >"$folder/dockerd.log" 2>&1 &
dockerd=$!
for _ in $(seq 300); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$dockerd" 2>/dev/null || break
    sleep 0.1
done
if ! docker version >/dev/null 2>&1; then
    tail -n 5 "$folder/dockerd.log"
    skip "dockerd does not start here"
fi

make_base() {
    local base=${EMAIL_TEST_CONTAINER_BASE:-}
    if [ -f "$base" ]; then
        docker import "$base" email-base:trixie
        return
    fi
    if [ -z "$base" ]; then
        base=$folder/base
        run debootstrap --variant=minbase trixie "$base" >"$folder/debootstrap.log" 2>&1 || {
            tail -n 5 "$folder/debootstrap.log"
            return 1
        }
        # What debian:trixie-slim leaves out too.
        rm -rf "$base"/var/cache/apt/archives/*.deb "$base"/var/lib/apt/lists/* \
            "$base"/usr/share/{doc,man,locale,info}/*
    fi
    tar -C "$base" -c . | docker import - email-base:trixie
    [ "$base" != "$folder/base" ] || rm -rf "$base"
}
say "base image (Debian 13)"
make_base >/dev/null || skip "no base image: debootstrap failed"
docker run --rm --network=host email-base:trixie true || skip "dockerd cannot run a container here"

build_image() {
    say "image $1"
    run "$docker" build --network=host --build-arg BASE_IMAGE=email-base:trixie --target "$1" -t "$1:test" . \
        >"$folder/build.log" 2>&1 || {
        tail -n 60 "$folder/build.log"
        echo "the image $1 is not built"
        exit 1
    }
    docker image inspect --format '   {{.Size}} bytes' "$1:test"
}
build_image email-service
build_image auth-service

say "walk-through"
mkdir "$folder/tmp"
export TMPDIR=$folder/tmp EMAIL_DOCKER=$docker PYTHONDONTWRITEBYTECODE=1
run /usr/bin/python3 tests/container/walkthrough.py email-service:test auth-service:test || exit 1
say "done"
