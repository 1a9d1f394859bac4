#!/usr/bin/env bash
# Creates the service's two Kafka topics, as create-topics does, with whatever is at hand: Kafka's own
# kafka-topics.sh (on PATH or in $KAFKA_HOME/bin), the built create-topics, or the service "kafka" of a running
# docker compose project. Running it again is harmless.
#
#   scripts/init-kafka-topics.sh [--help | --version]
#
# Variables (from the environment, or from ./.env):
#   KAFKA_BROKERS                   localhost:9092
#   KAFKA_TOPIC_EMAIL_EVENTS        email-events
#   KAFKA_TOPIC_EMAIL_DLQ           email-events-dlq
#   KAFKA_TOPIC_PARTITIONS          3
#   KAFKA_TOPIC_REPLICATION_FACTOR  1
#   KAFKA_CONFIG_…                  librdkafka's properties (TLS, SASL, …): needs the built create-topics
#
# Exit code: 0 done, 1 failed, 2 wrong flags or variables.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wait_seconds=12 # for one run of kafka-topics.sh, which would go on for a minute with the broker down

usage() {
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "${BASH_SOURCE[0]}"
}

version() {
    sed -n 's/^project(email-service VERSION \([0-9.]*\).*/init-kafka-topics.sh \1/p' "$root/CMakeLists.txt"
}

# ---- variables ----

# The value of a variable in ./.env, without its quotes; nothing where it is not there.
from_env_file() {
    local line value=''
    [ -r .env ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*(.*)$ ]] || continue
        value=${BASH_REMATCH[2]}
        if [[ $value =~ ^\"([^\"]*)\" || $value =~ ^\'([^\']*)\' ]]; then
            value=${BASH_REMATCH[1]}
        else
            value=${value%%[[:space:]]#*}
            value=${value%"${value##*[![:space:]]}"}
        fi
    done <.env
    printf '%s' "$value"
}

setting() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(from_env_file "$1")
    printf '%s' "${value:-$2}"
}

mistakes=()

check_number() {
    [[ $2 =~ ^[1-9][0-9]{0,4}$ && $2 -le $3 ]] || mistakes+=("$1: must be a whole number from 1 to $3")
}

check_topic() {
    [[ ${#2} -le 249 && $2 =~ ^[A-Za-z0-9._-]+$ && $2 != . && $2 != .. ]] ||
        mistakes+=("$1: no legal name of a topic")
}

has_properties() {
    compgen -e | grep -q '^KAFKA_CONFIG_.' || { [ -r .env ] && grep -Eq '^[[:space:]]*(export[[:space:]]+)?KAFKA_CONFIG_.' .env; }
}

# ---- ways to reach Kafka ----

built_program() {
    local candidate
    for candidate in ${EMAIL_BUILD_DIR:+"$EMAIL_BUILD_DIR/bin/create-topics"} "$root"/build/bin/create-topics \
        "$root"/build/*/bin/create-topics "$(command -v create-topics)"; do
        if [ -x "$candidate" ]; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

compose_runs_kafka() {
    command -v docker >/dev/null &&
        timeout 10 docker compose ps --services --status running 2>/dev/null | grep -qx kafka
}

# Sets the array `topics`: the command that stands for kafka-topics.sh.
find_topics_command() {
    if command -v kafka-topics.sh >/dev/null; then
        topics=(kafka-topics.sh)
    elif command -v kafka-topics >/dev/null; then
        topics=(kafka-topics)
    elif [ -n "${KAFKA_HOME:-}" ] && [ -x "$KAFKA_HOME/bin/kafka-topics.sh" ]; then
        topics=("$KAFKA_HOME/bin/kafka-topics.sh")
    else
        return 1
    fi
}

find_compose_command() {
    compose_runs_kafka || return 1
    # shellcheck disable=SC2016 # expanded in the container
    topics=(docker compose exec -T kafka sh -c
        'PATH=$PATH:/opt/kafka/bin; command -v kafka-topics.sh >/dev/null && exec kafka-topics.sh "$@"; exec kafka-topics "$@"'
        kafka-topics.sh)
}

run_topics() {
    timeout "$wait_seconds" "${topics[@]}" --bootstrap-server "$brokers" "$@" </dev/null 2>&1
}

# The line of the output that says why.
reason() {
    local line
    line=$(grep -E -m 1 'Exception|Error|rror while' <<<"$1" || grep -E -m 1 -v '^[[:space:]]*(at |$)' <<<"$1")
    printf '%s' "${line:-no answer within $wait_seconds seconds}"
}

create() {
    local output
    if grep -Fxq -- "$1" <<<"$existing"; then
        echo "✓ Topic '$1' already exists"
    elif output=$(run_topics --create --topic "$1" --partitions "$partitions" --replication-factor "$replication"); then
        echo "✓ Topic '$1' created successfully"
    elif grep -q TopicExistsException <<<"$output"; then
        echo "✓ Topic '$1' already exists"
    else
        echo "✗ Failed to create topic '$1': $(reason "$output")"
        return 1
    fi
}

create_both() {
    local failed=0
    rule='============================================================'
    echo "$rule"
    echo "  Kafka topics of the email service"
    echo "$rule"
    echo "Kafka Brokers: $brokers"
    echo "Email Events Topic: $events"
    echo "DLQ Topic: $dlq"
    echo "Partitions: $partitions"
    echo "Replication Factor: $replication"
    echo "$rule"
    echo "Connecting to Kafka..."
    if ! existing=$(run_topics --list); then
        echo "✗ Failed to connect to Kafka: $(reason "$existing")"
        return 1
    fi
    echo "✓ Connected to Kafka"
    echo "Creating topics..."
    create "$events" || failed=1
    create "$dlq" || failed=1
    return $failed
}

# ---- main ----

case "${1:-}" in
'') ;;
--help | -h)
    usage
    exit 0
    ;;
--version)
    version
    exit 0
    ;;
*)
    echo "init-kafka-topics.sh: $1: unknown flag, see --help" >&2
    exit 2
    ;;
esac

brokers=$(setting KAFKA_BROKERS localhost:9092)
events=$(setting KAFKA_TOPIC_EMAIL_EVENTS email-events)
dlq=$(setting KAFKA_TOPIC_EMAIL_DLQ email-events-dlq)
partitions=$(setting KAFKA_TOPIC_PARTITIONS 3)
replication=$(setting KAFKA_TOPIC_REPLICATION_FACTOR 1)
check_topic KAFKA_TOPIC_EMAIL_EVENTS "$events"
check_topic KAFKA_TOPIC_EMAIL_DLQ "$dlq"
check_number KAFKA_TOPIC_PARTITIONS "$partitions" 10000
check_number KAFKA_TOPIC_REPLICATION_FACTOR "$replication" 100
if [ "${#mistakes[@]}" -gt 0 ]; then
    echo "init-kafka-topics.sh: the configuration is wrong:" >&2
    printf '%s\n' "${mistakes[@]}" >&2
    exit 2
fi

if has_properties; then
    program=$(built_program) && exec "$program"
    echo "✗ KAFKA_CONFIG_… needs create-topics: build it first (cmake --preset release && cmake --build --preset release)"
    exit 1
fi
if ! find_topics_command; then
    program=$(built_program) && exec "$program"
    if ! find_compose_command; then
        echo "✗ Neither kafka-topics.sh (PATH, KAFKA_HOME), nor a built create-topics, nor a docker compose service 'kafka' was found"
        exit 1
    fi
fi
create_both
