#!/bin/sh
# Builds the image and runs the stack of docker-compose.yml on this machine's container engine, as an operator would:
# readiness, a grounded session, its row, metrics, a second chatd that gets its share, three iterates with one log, a stop
# that drains, and away again.
#
#   deploy/compose_check.sh               ours
#   deploy/compose_check.sh --langfuse    Langfuse's stack too (pulls some 3 GB)
#
# It works beside a running stack: a project, an image tag and ports of its own, all removed at the end (`--langfuse`
# publishes 3000 and 9090). Each line is a claim: ok, FAILED (exit status 1) or skipped with the reason. Every wait has an end.
# BASE: another base image for the build, as --build-arg BASE.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 2
with_langfuse=
case ${1:-} in
--langfuse) with_langfuse=1 ;;
"") ;;
*) echo "usage: deploy/compose_check.sh [--langfuse]" >&2; exit 2 ;;
esac

docker info >/dev/null 2>&1 || { echo "compose_check: no container engine answers (docker info)" >&2; exit 2; }
if docker compose version >/dev/null 2>&1; then
    engine_compose="docker compose"
elif docker-compose version >/dev/null 2>&1; then
    engine_compose=docker-compose
else
    echo "compose_check: neither docker compose nor docker-compose is installed" >&2
    exit 2
fi

scratch=$(mktemp -d)
project=lakehouse-check-$$
image=$project
# Three ports in a row, one for each iterate.
LAKEHOUSE_PORT=$(python3 -c '
import contextlib, socket
for first in range(20000, 30000, 3):
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        for port in range(first, first + 3):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        print(f"{first}-{first + 2}")
        break')
export LAKEHOUSE_PORT
profile=
: >"$scratch/env"
if [ -n "$with_langfuse" ]; then
    python3 deploy/langfuse_env.py >"$scratch/env"
    profile="--profile langfuse"
fi

# Over the compose file: a model that takes 8 s for an answer (what drains must be seen to run), and connections that
# grow 10 s old rather than 5 minutes, so that a new replica is found while we watch.
sed 's/^attempt = 1$/attempt = 99/; s/^attempt_from = 2$/attempt_from = 1/; s/^delay_ms = .*/delay_ms = 8000/' \
    examples/scripts/fill_demo.toml >"$scratch/slow.toml"
chmod 755 "$scratch"
chmod 644 "$scratch/slow.toml"
cat >"$scratch/check.yml" <<END
services:
  validated: {image: $image}
  iterate: {image: $image}
  chatd:
    image: $image
    volumes: ["$scratch/slow.toml:/etc/lakehouse/slow.toml:ro"]
    environment:
      CHATD_CONNECTION_AGE_MS: "10000"
      CHATD_DEFAULT_PROVIDER: demo
      CHATD_PROVIDERS__DEMO__TYPE: scripted
      CHATD_PROVIDERS__SLOW__TYPE: scripted
      CHATD_PROVIDERS__SLOW__SCRIPT: /etc/lakehouse/slow.toml
END

compose() {
    # shellcheck disable=SC2086
    within 1500 $engine_compose -p "$project" --env-file "$scratch/env" -f docker-compose.yml -f "$scratch/check.yml" $profile "$@"
}

# shellcheck disable=SC2317
cleanup() {
    trap - EXIT INT TERM
    compose down --volumes --timeout 40 >"$scratch/down" 2>&1 || cat "$scratch/down" >&2
    docker image rm "$image" >/dev/null 2>&1
    rm -rf "$scratch"
    exit "$1"
}
trap 'cleanup $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failed=0
ok() { echo "ok       $1"; }
skipped() { echo "skipped  $1"; }
wrong() {
    echo "FAILED   $1"
    [ -z "${2:-}" ] || tail -n 40 "$2" | sed 's/^/         | /'
    failed=$((failed + 1))
}
# claim WORDS COMMAND…: the command ends with 0 within two minutes.
claim() {
    words=$1
    shift
    if "$@" >"$scratch/out" 2>&1; then ok "$words"; else wrong "$words" "$scratch/out"; fi
}
within() { timeout --kill-after=10 "$@"; }
now_ms() { python3 -c 'import time; print(int(time.monotonic() * 1000))'; }
containers() { compose ps --quiet "$1"; }
inside() { within 120 docker exec "$(containers iterate | head -n 1)" "$@"; }
ask() { inside lakehouse iterate --kind fill --prompt "Fill 3 forklift operators in Toledo for Saturday" --spec "$spec" --json "$@"; }
published() { compose port iterate 50051; } # where this machine reaches the first iterate
spec='{"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"}'

# --- the image ---
started=$(now_ms)
# shellcheck disable=SC2086
if compose build ${BASE:+--build-arg BASE=$BASE} >"$scratch/out" 2>&1; then
    ok "build, $((($(now_ms) - started) / 1000)) s, $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB"
else
    wrong "build" "$scratch/out"
    exit 1
fi
run() { within 60 docker run --rm "$@"; }
says() { # says STATUS PATTERN COMMAND…
    status=$1 pattern=$2
    shift 2
    "$@" >"$scratch/said" 2>&1
    got=$?
    cat "$scratch/said"
    echo "exit status $got"
    [ "$got" -eq "$status" ] && grep -q -e "$pattern" "$scratch/said"
}
claim "no service named: says so, exit status 2" says 2 "which one to run" run "$image"
claim "a service that there is not: says so, exit status 2" says 2 "no service and no command" run "$image" iterated
claim "runs as 10001:10001" says 0 "^uid=10001(lakehouse) gid=10001(lakehouse)" run --entrypoint id "$image"
claim "no pip, setuptools or ensurepip in it" run "$image" python -c \
    'import importlib.util as u; found = [n for n in ("pip", "setuptools", "ensurepip") if u.find_spec(n)]; assert not found, found'
claim "no history, tests, keys or logs in it" says 0 "^0 found" run --entrypoint sh "$image" -c \
    'find / -xdev \( -name .git -o -name .venv -o -path "/opt/lakehouse/tests" -o -name sessions.jsonl -o -name ".env" \) -not -path "/proc/*" 2>/dev/null >/tmp/f; cat /tmp/f; echo "$(wc -l </tmp/f) found"'
claim "a service without a configured bind listens beyond the container" says 0 "0.0.0.0:50051" \
    run -e VALIDATED_TRACING__HOST= --entrypoint sh "$image" -c 'timeout 6 lakehouse-entrypoint chatd; true'
claim "lakehouse is on the path" says 0 "Usage: lakehouse" run "$image" lakehouse --help

# --- the stack ---
started=$(now_ms)
if compose up --detach --no-build --wait --wait-timeout 240 >"$scratch/out" 2>&1; then
    ok "up: all healthy after $((($(now_ms) - started) / 1000)) s"
else
    compose logs --tail 15 >>"$scratch/out" 2>&1
    wrong "up --wait" "$scratch/out"
    exit 1
fi
for service in validated chatd iterate; do
    claim "$service: ready" within 60 docker exec "$(containers $service)" python -m lakehouse.server.health_probe 127.0.0.1:50051
    claim "$service: alive" within 60 docker exec "$(containers $service)" python -m lakehouse.server.health_probe 127.0.0.1:50051 --liveness
    limits=$(docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.LogConfig.Config}}' "$(containers $service)")
    case $limits in
    "0 "* | *"map[]") wrong "$service: limits of memory and log: $limits" ;;
    *) ok "$service: limits of memory and log: $limits" ;;
    esac
done
claim "a session is accepted, through the CLI in the image" ask --session-id check-1
claim "validated's brief offers candidates of the roster" says 0 '"candidates_total": *[1-9]' \
    inside lakehouse brief --address validated:50051 --kind fill --spec "$spec" --prompt "Fill it" --json
claim "its row is in the log, accepted" says 0 '"final_verdict":"accepted".*"grounded_in_roster":true' inside lakehouse sessions show check-1 --json
claim "and says what the brief gave" says 0 '"brief":{"grounding":"candidates","candidates":[1-9][0-9]*,"candidates_total":[1-9]' \
    inside lakehouse sessions show check-1 --json
claim "the log is whole" inside lakehouse sessions verify
grpcurl=$(command -v grpcurl || echo .tools/bin/grpcurl)
if [ -x "$grpcurl" ]; then
    claim "a session is accepted, by grpcurl on the published port" says 0 '"accepted"' within 60 "$grpcurl" -plaintext -d \
        "{\"kind\": \"fill\", \"prompt\": \"Fill 3 forklift operators\", \"session_id\": \"check-2\", \"fill\": $spec}" \
        "$(published)" lakehouse.iterate.v1.IterateService/Iterate
else
    skipped "grpcurl on the published port: there is no grpcurl on this machine"
fi
metrics() { # metrics CONTAINER: the exposition of this container, over the stack's network
    inside python -c 'import sys, urllib.request as u; print(u.urlopen("http://" + sys.argv[1] + ":9464/metrics", timeout=5).read().decode())' "$1"
}
claim "iterate's metrics count the session" says 0 '^lakehouse_sessions_total{.*accepted.*} [1-9]' metrics iterate
claim "chatd's metrics count the calls" says 0 '^grpc_server_handled_total{.*OK.*Complete.*} [1-9]' metrics chatd
claim "validated's metrics are there" says 0 '^lakehouse_build_info{.*validated' metrics validated

# --- a second chatd ---
claim "up --scale chatd=2" compose up --detach --no-build --no-recreate --scale chatd=2 --wait --wait-timeout 120
address_of() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }
handled() { # handled METHOD CONTAINER: how many of these calls it has answered
    metrics "$(address_of "$2")" |
        sed -n 's/^grpc_server_handled_total{.*"OK".*"'"$1"'".*} \([0-9]*\).*/\1/p' | head -n 1
}
one=$(containers chatd | sed -n 1p)
other=$(containers chatd | sed -n 2p)
before_one=$(handled Complete "$one") before_other=$(handled Complete "$other")
started=$(now_ms)
sent=0 refused=0
while [ $(($(now_ms) - started)) -lt 120000 ]; do
    sent=$((sent + 1))
    ask >"$scratch/out" 2>&1 || refused=$((refused + 1))
    now_one=$(handled Complete "$one") now_other=$(handled Complete "$other")
    [ "${now_one:-0}" -gt "${before_one:-0}" ] && [ "${now_other:-0}" -gt "${before_other:-0}" ] && break
done
figures="${before_one:-0} to ${now_one:-0} and ${before_other:-0} to ${now_other:-0} calls, $sent sessions, $(($(now_ms) - started)) ms"
if [ "${now_one:-0}" -gt "${before_one:-0}" ] && [ "${now_other:-0}" -gt "${before_other:-0}" ]; then
    ok "both chatd get calls: $figures"
else
    wrong "both chatd get calls: $figures"
fi
if [ "$refused" -eq 0 ]; then ok "none of these sessions failed"; else wrong "$refused of $sent sessions failed" "$scratch/out"; fi

# --- three iterates ---
claim "up --scale iterate=3, on three ports and one volume" \
    compose up --detach --no-build --no-recreate --scale chatd=2 --scale iterate=3 --wait --wait-timeout 120
sent=0 refused=0 shared=
started=$(now_ms)
while [ $(($(now_ms) - started)) -lt 120000 ]; do
    sent=$((sent + 1))
    ask --address dns:///iterate:50051 --session-id "many-$sent" >"$scratch/out" 2>&1 || refused=$((refused + 1))
    shared=
    for each in $(containers iterate); do shared="$shared $(handled StreamIterate "$each")"; done
    case " $shared " in *"  "* | *" 0 "*) ;; *) [ "$(echo "$shared" | wc -w)" -eq 3 ] && [ "$sent" -ge 10 ] && break ;; esac
done
shares=$(for each in $shared; do [ "$each" -gt 0 ] && echo "$each"; done | wc -l)
if [ "$shares" -eq 3 ]; then ok "each of the three runs sessions:$shared"; else wrong "each of the three runs sessions:$shared of $sent"; fi
if [ "$refused" -eq 0 ]; then ok "none of $sent sessions failed"; else wrong "$refused of $sent sessions failed" "$scratch/out"; fi
claim "one log has them all" says 0 "^$((sent - refused))\$" inside lakehouse sessions sql \
    "SELECT count(*) FROM sessions WHERE session_id LIKE 'many-%' AND final_verdict = 'accepted'" --csv
claim "and is whole" inside lakehouse sessions verify

# --- the end ---
container=$(containers iterate | head -n 1)
ask --provider slow --session-id check-slow >"$scratch/slow" 2>&1 &
asking=$!
tries=0
until metrics "$(address_of "$container")" 2>/dev/null | grep -q '^lakehouse_session_log_sessions_open [1-9]' || [ $tries -ge 30 ]; do tries=$((tries + 1)); done
started=$(now_ms)
claim "stop, while a session runs" within 60 docker stop -t 30 "$container"
took=$(($(now_ms) - started))
wait $asking 2>/dev/null
status=$(docker inspect -f '{{.State.ExitCode}}' "$container")
if [ "$status" -eq 0 ] && [ $took -lt 30000 ]; then ok "iterate ended by itself after $took ms (exit status 0)"; else wrong "iterate ended after $took ms with $status"; fi
# The process that asked lived in the same container and went with it: the log says how the session ended.
claim "iterate starts again" compose up --detach --no-build --no-recreate --scale chatd=2 --scale iterate=3 --wait --wait-timeout 120
claim "the session that ran was answered, not cut" says 0 '"final_verdict":"accepted"' inside lakehouse sessions show check-slow --json
claim "the rows of before are still there" inside lakehouse sessions show check-1 --json
claim "and the log is whole" inside lakehouse sessions verify

# --- Langfuse ---
if [ -n "$with_langfuse" ]; then
    claim "Langfuse answers on port 3000" within 30 python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:3000/api/public/ready", timeout=20)'
    claim "MinIO answers a browser on port 9090" within 30 python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:9090/minio/health/live", timeout=20)'
else
    skipped "Langfuse's own images: not asked for (--langfuse)"
fi

claim "down" compose down --volumes --timeout 40
left=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project" | wc -l)
if [ "$left" -eq 0 ]; then ok "nothing is left of it"; else wrong "$left containers are left"; fi
if [ "$failed" -ne 0 ]; then
    echo "$failed failed"
    exit 1
fi
echo "all is well"
