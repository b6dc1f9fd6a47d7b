#!/usr/bin/env bash
# Builds the images with podman and runs a pod of agent and sidecar, without a registry. As root, on Debian:
#
#   apt-get install podman buildah runc netavark catatonit debootstrap
#   test/image/run.sh [FOLDER]        FOLDER keeps the base between runs
#
# Not part of npm test: it takes minutes, and most machines can't.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=${1:-$(mktemp -d)}
mkdir -p "$work"
. test/image/engine.sh
pod=outrigger-image-test
trap 'engine pod rm --force "$pod" >/dev/null 2>&1 || true' EXIT

make_base
say 'the images'
for target in outrigger agents intercept; do make_image "$target"; done
engine images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep localhost/outrigger

say 'the sidecar alone: read-only root, no capabilities, no shell'
engine run --rm --read-only --cap-drop=all --network=none localhost/outrigger:test --version
if engine run --rm --network=none --entrypoint /bin/sh localhost/outrigger:test -c true 2>/dev/null; then
  echo 'there is a shell' >&2; exit 1
fi

say 'the labels, and the list of components'
for name in outrigger outrigger-agents outrigger-intercept; do
  engine inspect --format '{{json .Labels}}' "localhost/$name:test" > "$work/labels.json"
  image=$(engine create "localhost/$name:test" x)
  rm -f "$work/sbom.cdx.json"
  [ "$name" = outrigger-intercept ] || engine cp "$image:/outrigger/sbom.cdx.json" "$work/sbom.cdx.json"
  engine rm "$image" >/dev/null
  node_modules/.bin/node test/image/components.ts "$name" "$work/labels.json" "$work/sbom.cdx.json"
done

say 'a pod: provider, agent, sidecar'
engine pod create --name "$pod" --publish 127.0.0.1:25006:15006 --publish 127.0.0.1:25020:15020 --publish 127.0.0.1:25021:15021 >/dev/null
in_pod() { engine run --detach --pod "$pod" --read-only --cap-drop=all --security-opt=no-new-privileges "$@" >/dev/null; }
in_pod --name "$pod-sidecar" --env OUTRIGGER_NAME=research-agent --env OPENAI_API_KEY=offline \
  --env 'OUTRIGGER_LLM_UPSTREAMS=[{"name": "provider", "url": "http://127.0.0.1:18080/v1", "api_key_env": "OPENAI_API_KEY"}]' \
  localhost/outrigger:test run
in_pod --name "$pod-provider" --env PROVIDER_PORT=18080 localhost/outrigger-agents:test agents/provider/main.ts
in_pod --name "$pod-agent" --env OPENAI_API_KEY=held-by-outrigger --env OPENAI_BASE_URL=http://127.0.0.1:15002/v1 \
  localhost/outrigger-agents:test agents/research/agent.ts
for _ in $(seq 1 120); do
  [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:25021/healthz/ready)" = 200 ] && ready=1 && break
  sleep 0.5
done
[ "${ready:-}" ] || { echo 'the sidecar is not ready' >&2; engine logs "$pod-sidecar" >&2; engine logs "$pod-agent" >&2; exit 1; }

say 'a task, through the sidecar to the agent and through the sidecar to the model'
node_modules/.bin/node test/image/task.ts 127.0.0.1:25006
curl -s http://127.0.0.1:25020/metrics | grep -E '^(rpc_server_call_duration_seconds_count|outrigger_llm_requests_total|process_resident_memory_bytes)'

say 'the preStop hook, and SIGTERM'
engine exec "$pod-sidecar" outrigger drain
for _ in $(seq 1 40); do
  [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:25021/healthz/ready)" != 200 ] && break
  sleep 0.25
done
engine stop --time 30 "$pod-agent" "$pod-sidecar" >/dev/null
engine inspect --format '{{.Name}} ended with {{.State.ExitCode}}' "$pod-agent" "$pod-sidecar"
[ "$(engine inspect --format '{{.State.ExitCode}}' "$pod-sidecar")" = 0 ]
say 'the step that redirects, in a pod as injection makes it'
intercepted=$pod-intercepted
trap 'engine pod rm --force "$pod" "$intercepted" >/dev/null 2>&1 || true' EXIT
engine pod create --name "$intercepted" >/dev/null
in_intercepted() { engine run --pod "$intercepted" --read-only --security-opt=no-new-privileges "$@"; }
listeners=$(node_modules/.bin/node -e 'import("./sidecar/kubernetes/inject/intercept.ts").then(({ INTERCEPTING_LISTENERS }) =>
  console.log(INTERCEPTING_LISTENERS.map(({ name, value }) => `--env=${name}=${value}`).join(" ")))')
rules=$(node_modules/.bin/node -e 'import("./sidecar/kubernetes/inject/intercept.ts").then(({ interceptRules }) =>
  console.log(interceptRules({ inboundPort: 50051, outboundPorts: [50051] })))')
in_intercepted --detach --cap-drop=all $listeners --env OPENAI_API_KEY=offline \
  --env 'OUTRIGGER_LLM_UPSTREAMS=[{"name": "provider", "url": "http://127.0.0.1:18080/v1", "api_key_env": "OPENAI_API_KEY"}]' \
  localhost/outrigger:test run >/dev/null
in_intercepted --detach --cap-drop=all --env PROVIDER_PORT=18080 localhost/outrigger-agents:test agents/provider/main.ts >/dev/null
in_intercepted --detach --cap-drop=all --env AGENT_LISTEN=127.0.0.1:50051 --env OPENAI_API_KEY=held-by-outrigger \
  --env OPENAI_BASE_URL=http://127.0.0.1:15002/v1 localhost/outrigger-agents:test agents/research/agent.ts >/dev/null
in_intercepted --rm --user 0:0 --cap-drop=all --cap-add=NET_ADMIN localhost/outrigger-intercept:test "$rules"
address=$(engine inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(engine pod inspect --format '{{.InfraContainerID}}' "$intercepted")")
until_ok 60 node_modules/.bin/node test/image/task.ts "$address:50051" 2>/dev/null
# Nobody has this address: the answer can only be the sidecar's.
answer=$(in_intercepted --rm --cap-drop=all localhost/outrigger-agents:test -e 'const grpc = require("@grpc/grpc-js");
  const client = new grpc.Client("203.0.113.1:50051", grpc.credentials.createInsecure(), { "grpc.default_authority": "stranger" });
  const bytes = (of) => of;
  client.makeUnaryRequest("/a.B/C", bytes, bytes, Buffer.alloc(0), { deadline: Date.now() + 20_000 }, (error) => {
    console.log(error.code, error.metadata.get("outrigger-reason")[0]);
    client.close();
  });')
echo "a call to 203.0.113.1:50051 is answered $answer"
[ "$answer" = '12 no_route' ]
say 'all is well'
