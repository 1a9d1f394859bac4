#!/usr/bin/env bash
# Runs a Kafka (localhost:9092) and a Redis (localhost:6379) for trying things out, until Ctrl-C or SIGTERM.
#
#   scripts/local-servers.sh               both
#   scripts/local-servers.sh kafka|redis   only that one
#
# Data stays in build/local-servers; delete it to start anew. Not for production: one broker, no replicas, no TLS.
# EMAIL_TEST_CACHE: folder that keeps Kafka's jars (~/.cache/email-service-tests), shared with the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
'') wanted=(redis kafka) ;;
kafka | redis) wanted=("$1") ;;
-h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "$0"
    exit 0
    ;;
*)
    echo "scripts/local-servers.sh: unknown argument $1 (see --help)" >&2
    exit 2
    ;;
esac

scripts/install-packages.sh servers
folder=$PWD/build/local-servers
mkdir -p "$folder"

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

fetch_kafka() {
    local version cache
    version=$(sed -n 's/.*<kafka.version>\(.*\)<\/kafka.version>.*/\1/p' tests/kafka/pom.xml)
    cache=${EMAIL_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/email-service-tests}
    jars=$cache/kafka-$version
    mkdir -p "$cache"
    (
        flock 9
        [ ! -d "$jars" ] || exit 0
        echo "Fetching Kafka $version..."
        filling=$(mktemp -d "$cache/filling-XXXXXX")
        if ! mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
            "-DoutputDirectory=$filling"; then
            rm -rf "$filling"
            exit 1
        fi
        chmod 755 "$filling"
        mv "$filling" "$jars"
    ) 9>"$cache/lock"
}

start_kafka() {
    local java
    fetch_kafka
    java=(java -Xmx512m -XX:-UsePerfData -Djava.awt.headless=true -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
        -cp "$jars/*")
    cat >"$folder/kafka.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
advertised.listeners=PLAINTEXT://localhost:9092
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/kafka
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
END
    [ -e "$folder/kafka/meta.properties" ] ||
        "${java[@]}" kafka.tools.StorageTool format -t ZW1haWwtc2VydmljZS10ZQ -c "$folder/kafka.properties" \
            >>"$folder/kafka.log" 2>&1
    "${java[@]}" kafka.Kafka "$folder/kafka.properties" >>"$folder/kafka.log" 2>&1 &
}

start_redis() {
    redis-server --port 6379 --bind 127.0.0.1 --dir "$folder" --save '' --appendonly yes \
        --maxmemory-policy noeviction --daemonize no >>"$folder/redis.log" 2>&1 &
}

declare -A port=([kafka]=9092 [redis]=6379)
pids=()
cleanup() {
    trap '' INT TERM
    [ "${#pids[@]}" -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap cleanup EXIT
trap 'exit 0' INT TERM

for name in "${wanted[@]}"; do
    if taken "${port[$name]}"; then
        echo "port ${port[$name]} is taken: is a $name running already?" >&2
        exit 1
    fi
    "start_$name"
    pids+=($!)
    for _ in $(seq 600); do
        taken "${port[$name]}" && break
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    if ! taken "${port[$name]}"; then
        tail -n 20 "$folder/$name.log" >&2
        echo "$name does not start" >&2
        exit 1
    fi
    echo "$name: localhost:${port[$name]}"
done
echo "Ctrl-C stops."
# One that ends by itself ends the other.
wait -n
echo "a server ended; see $folder/*.log" >&2
exit 1
