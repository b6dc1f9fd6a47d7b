#!/usr/bin/env bash
# Starts docker-compose.yml with Docker Compose by podman's socket, sends tasks from the gateway through the sidecars to
# the agents, asks Prometheus what it has scraped, and kills an agent while tasks go on. As root, on Debian:
#
#   apt-get install podman buildah runc netavark aardvark-dns catatonit debootstrap prometheus
#   test/image/compose.sh [FOLDER]        FOLDER keeps the base image and Compose between runs
#
# No registry is asked: Prometheus is Debian's in an image of the same name; Grafana, Tempo and the collector, which
# can't be had so, are not started (the sidecars count their spans as lost and go on). Not part of npm test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=${1:-$(mktemp -d)}
mkdir -p "$work"
. test/image/engine.sh
[ -x "$(command -v prometheus)" ] || { echo 'skipped: prometheus is not installed'; exit 0; }
[ -x /usr/lib/podman/aardvark-dns ] || { echo 'skipped: aardvark-dns is not installed: containers would not find each other'; exit 0; }

compose_version=2.40.3
if docker compose version >/dev/null 2>&1; then compose_command=(docker compose)
elif [[ "$(docker-compose version --short 2>/dev/null)" == [2-9]* ]]; then compose_command=(docker-compose)
else
  command -v go >/dev/null || { echo 'skipped: neither Docker Compose 2 nor Go to build it with'; exit 0; }
  compose_command=("$work/docker-compose")
  if [ ! -x "$work/docker-compose" ]; then
    say 'Docker Compose, from its sources'
    sources=$(cd / && go mod download -json "github.com/docker/compose/v2@v$compose_version" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
    (cd "$sources" && go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=v$compose_version" -o "$work/docker-compose" ./cmd)
  fi
fi
compose() { "${compose_command[@]}" --project-name outrigger-compose-test "$@"; }

socket="$work/podman.sock"
export DOCKER_HOST="unix://$socket"
podman system service --time=0 "unix://$socket" 2>/dev/null &
service=$!
trap 'compose down --volumes --timeout 5 >/dev/null 2>&1; kill "$service"' EXIT
until_ok 20 test -S "$socket"

make_base
say 'the images'
# The names by which Compose asks for them over the socket.
version=$(sed -n 's/^ARG VERSION=//p' Dockerfile)
make_image outrigger "docker.io/library/outrigger:$version"
make_image agents "docker.io/library/outrigger-agents:$version"
prometheus=$(sed -n 's/^ *image: \(prom\/prometheus:.*\)$/\1/p' k8s/observability/docker-compose.yml)
mkdir -p "$work/prometheus"
cp "$(readlink -f "$(command -v prometheus)")" "$work/prometheus/prometheus"
printf 'FROM %s\nCOPY prometheus /bin/prometheus\nRUN mkdir /prometheus && chown 65534:65534 /prometheus\nENTRYPOINT ["/bin/prometheus"]\n' "$base" > "$work/prometheus/Containerfile"
engine build --quiet --tag "docker.io/$prometheus" "$work/prometheus" >/dev/null

say 'the system'
services=$(compose config --services | grep -vxE 'grafana|tempo|otel-collector')
compose up --detach --no-build --pull never $services 2>&1 | grep -vE 'Creat|Start' || true

# task TYPE [CURL ARGUMENT …]: its answer.
task() {
  local type=$1; shift
  curl -s --max-time 60 http://127.0.0.1:8080/api/v1/tasks -H 'content-type: application/json' "$@" \
    -d "{\"input\": \"Why do circuit breakers matter?\", \"agent_type\": \"$type\"}"
}
answered() { task "$@" | grep -q '"output"'; }
# value QUERY: what Prometheus says, or nothing.
value() { curl -sG http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" | sed -n 's/^.*"value":\[[^,]*,"\([^"]*\)".*$/\1/p'; }
says() { [ "$(value "$1")" = "$2" ]; }

say 'a task for each agent, and one as a stream'
for type in research writing code; do until_ok 60 answered "$type"; echo "$type: answered"; done
task writing -H 'accept: text/event-stream' -N | grep -c '^event: chunk' | sed 's/$/ chunks/'

say 'Prometheus scrapes the sidecars by the names of files/prometheus/targets'
for target in gateway research-agent research-agent-2 writing-agent code-agent; do
  until_ok 60 says "up{instance=\"$target:15020\"}" 1
  echo "$target: up"
done
until_ok 60 says 'count(sum by (service) (rpc_server_call_duration_seconds_count{rpc_method="agent.AgentService/ProcessTask"} > 0))' 3

say 'an agent is killed while tasks go on'
failed="$work/failed"; : > "$failed"
for worker in 1 2 3 4; do
  (for _ in $(seq 1 100); do task research | grep -q '"output"' || echo lost >> "$failed"; done) &
  workers+=($!)
done
sleep 1
compose kill research-agent 2>/dev/null
wait "${workers[@]}"
echo "$(wc -l < "$failed") of 400 tasks were lost"
[ ! -s "$failed" ]
until_ok 60 says 'sum(increase(outrigger_ejections_total{service="gateway",cluster="research-agent"}[5m])) > bool 0 or sum(outrigger_ejections_total{service="gateway",cluster="research-agent"}) > bool 0' 1
compose logs --no-log-prefix gateway-sidecar | grep -o '"msg":"[^"]*is ejected[^"]*"' | head -1

say 'it is started again, beside the sidecar that has waited for it; another one crashes and comes back by itself'
compose start research-agent 2>/dev/null
crash() { kill -KILL "$(engine inspect --format '{{.State.Pid}}' "$(compose ps --quiet "$1")")"; }
crash writing-agent
until_ok 60 answered writing
until_ok 60 says 'outrigger_ready{instance="research-agent:15020"}' 1
echo 'both answer'

say 'the end: every call is finished, nothing has to be killed'
compose stop --timeout 60 2>&1 | grep -vE 'Stop' || true
codes=$(compose ps --all --quiet | xargs -n1 podman inspect --format '{{.Name}} {{.State.ExitCode}}' | grep -v prometheus)
echo "$codes"
! grep -qvE ' 0$' <<< "$codes"
say 'all is well'
