#!/usr/bin/env bash
# Builds email-service, runs it with nothing else installed (--dev) and shows what becomes of three events.
#
#   scripts/quickstart.sh          leaves the service running until Ctrl-C
#   scripts/quickstart.sh --once   stops it again; exit status 0 if everything happened as it should
#
# EMAIL_SERVICE_PORT: HTTP port (8085, or a free one where that is taken).
set -euo pipefail
cd "$(dirname "$0")/.."

once=
case "${1:-}" in
'') ;;
--once) once=yes ;;
-h | --help)
    sed -n 's/^# \{0,1\}//; 2,8p' "$0"
    exit 0
    ;;
*)
    echo "scripts/quickstart.sh: unknown argument $1 (see --help)" >&2
    exit 2
    ;;
esac

bold= plain=
[ ! -t 1 ] || bold=$'\033[1m' plain=$'\033[0m'
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

say "1. Packages"
scripts/install-packages.sh quickstart
echo "all there"

say "2. Build"
mkdir -p build
flock build/.lock sh -c 'cmake --preset release >/dev/null && cmake --build --preset release' | tail -n 1

folder=$(mktemp -d)
service=
cleanup() {
    if [ -n "$service" ]; then
        kill "$service" 2>/dev/null || true
        wait "$service" 2>/dev/null || true
        service=
    fi
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
log=$folder/log

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=${EMAIL_SERVICE_PORT:-8085}
while taken "$port"; do
    [ -z "${EMAIL_SERVICE_PORT:-}" ] || { echo "port $port is taken" >&2; exit 1; }
    port=$((port + 1))
done

say "3. Start: email-service --dev"
# A clean environment and an empty folder: no .env and no variable of yours changes what you see here.
program=$PWD/build/release/bin/email-service
(cd "$folder" && exec env -i EMAIL_SERVICE_PORT="$port" EMAIL_SERVICE_LISTEN=127.0.0.1 "$program" --dev) >"$log" &
service=$!

# field NAME: the string member NAME of the JSON lines on stdin. Enough for the log's own flat lines.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
# logged SECONDS PATTERN…: waits for a log line that matches all patterns, and prints it.
logged() {
    local tries=$(($1 * 10)) line pattern
    shift
    while [ "$tries" -gt 0 ]; do
        line=$(cat "$log")
        for pattern in "$@"; do
            line=$(grep -F -- "$pattern" <<<"$line" || true)
        done
        if [ -n "$line" ]; then
            head -n 1 <<<"$line"
            return 0
        fi
        kill -0 "$service" 2>/dev/null || return 1
        sleep 0.1
        tries=$((tries - 1))
    done
    return 1
}
fail() {
    printf '\n%s. The end of the log:\n' "$1" >&2
    tail -n 20 "$log" >&2
    exit 1
}

bootstrap=$(logged 20 '"msg":"In-process Kafka is ready"' | field bootstrap) && [ -n "$bootstrap" ] ||
    fail "the service did not start"
url=http://127.0.0.1:$port
until curl -fs -o /dev/null "$url/ready"; do
    kill -0 "$service" 2>/dev/null && [ "$((waited = ${waited:-0} + 1))" -lt 300 ] ||
        fail "the service did not get ready"
    sleep 0.1
done
echo "Kafka (in the same process, for trying out): $bootstrap"
echo "HTTP: $url"

say "4. Publish three events: a verification code, its duplicate, and an invalid one"
publish() { kcat -P -b "$bootstrap" -t email-events -k ada@example.com -X log_level=0; }
id=verification-$(date +%s)
good='{"messageID":"'$id'","type":"verification_code","to":"Ada <ada@example.com>","subject":"Your code","text":"Your code is 314159."}'
bad='{"messageID":"'$id'-invalid","to":"not an address","subject":"Your code","text":"Your code is 271828."}'
for event in "$good" "$good" "$bad"; do
    echo "$event"
    publish <<<"$event"
done

say "5. What became of them, in the log"
ok=yes
# From one JSON object a line to: time, level, message, then name=value; mails with their line breaks.
readable() {
    sed -E -e 's/^\{"level":"([^"]*)","msg":"([^"]*)","time":"[^T]*T([0-9:]*)[^"]*",?/\3 \1: \2 | /' \
        -e 's/\}$//' -e 's/,?"([A-Za-z]+)":/ \1=/g' -e 's/\\r\\n/\n        /g'
}
outcome() { # outcome WHAT PATTERN…
    local what=$1 line
    shift
    printf '%s\n' "$what"
    if line=$(logged 15 "$@"); then
        readable <<<"$line" | sed 's/^/    /'
    else
        printf '    MISSING: %s\n' "$*"
        ok=
    fi
}
outcome "the mail (log mode):" '"msg":"Email"' "\"messageID\":\"$id\""
outcome "the code was sent:" '"msg":"Email sent successfully"' "\"messageID\":\"$id\""
outcome "and marked:" '"msg":"Marked email as processed"' "\"messageID\":\"$id\""
outcome "its duplicate:" '"msg":"Duplicate email event detected, skipping"' "\"messageID\":\"$id\""
outcome "the invalid one:" '"msg":"Email moved to dead letter queue"' "\"messageID\":\"$id-invalid\""

say "6. $url/stats"
stats=$(curl -fs "$url/stats") || ok=
sed -E 's/,"([a-z_]+)":\{/,\n "\1":{/g' <<<"$stats"
for expected in '"sent":1' '"duplicates":1' '"dead_letters":1'; do
    grep -qF "$expected" <<<"$stats" || {
        echo "MISSING: $expected"
        ok=
    }
done

[ -n "$ok" ] || fail "not everything happened as it should"
if [ -n "$once" ]; then
    kill "$service"
    wait "$service" || fail "the service did not stop in order"
    service=
    say "Everything happened as it should; stopped again."
    exit 0
fi

say "The service is running. Ctrl-C stops it."
cat <<EOT
Look at:     $url/  $url/health  $url/stats  $url/metrics
Publish:     echo '{"messageID":"m-1","to":"you@example.com","subject":"Hello","text":"Hi!"}' |
                 kcat -P -b $bootstrap -t email-events
Its log follows.
EOT
trap 'exit 0' INT TERM
tail -n 0 -f --pid="$service" "$log" &
wait "$service"
