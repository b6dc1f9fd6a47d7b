#!/usr/bin/env bash
# Attacks the tool runner's sandbox in podman, as user 15000 without capabilities: with the engine's own seccomp profile, where the tier
# is landlock, and with k8s/base/tools/seccomp.json, where it is namespaces. The container has this machine's files. As root, on Debian:
#
#   apt-get install podman runc bubblewrap && node scripts/install.mjs --tests && test/image/sandbox.sh
#
# Not part of npm test: most machines have no engine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$(readlink -f node_modules/.bin/node)" "$work/node"
cp "$("$work/node" -p "require('$root/.cache/tools/found.json').confine")" "$work/confine"
cat > "$work/attack.mjs" <<END
const { attackSandbox } = await import('$root/agents/tools/sandbox/self-attack.ts');
const { tier, held, notHeld, problems } = await attackSandbox({ confine: '$work/confine', bubblewrap: '/usr/bin/bwrap' }, '$work');
console.log(\`tier \${tier}: \${held.length} attacks held; not held: \${notHeld.join(', ') || 'none'}\`);
for (const problem of problems) console.log(\`  \${problem}\`);
process.exitCode = tier === process.argv[2] ? 0 : 1;
END
chmod -R a+rX "$work"
chown -R 15000:15000 "$work"
attack() {
  local tier=$1
  shift
  podman --runtime runc --cgroup-manager cgroupfs run --rm --network none --ulimit host --user 15000:15000 \
    --cap-drop ALL --security-opt no-new-privileges "$@" --rootfs /:O "$work/node" "$work/attack.mjs" "$tier"
}
echo "the engine's own profile"
attack landlock
echo 'the profile of k8s/base/tools'
attack namespaces --security-opt "seccomp=$root/k8s/base/tools/seccomp.json"
