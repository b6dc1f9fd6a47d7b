// Installs what the npm scripts need, and does nothing if it is already there.
//
//   node scripts/install.mjs            node_modules (npm start)
//   node scripts/install.mjs --tests    and the peers and tools that `npm test` uses
//   node scripts/install.mjs --bench    and the peers that `npm run bench` measures
//
// It runs on the host's Node (20 or newer) before any dependency exists, so it is plain JavaScript on Node's own
// modules.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { installConfine } from './tools/confine.mjs';
import { installDebian } from './tools/debian.mjs';
import { installGoTools } from './tools/go.mjs';
import { installIstioSchemas } from './tools/istio.mjs';
import { withInstallLock } from './tools/lock.mjs';
import { installNodeClients } from './tools/node-clients.mjs';
import { checkNode, installNodeModules, nodeModulesAreCurrent } from './tools/node-modules.mjs';
import { installNodeVersions } from './tools/node-versions.mjs';
import { root } from './tools/paths.mjs';
import { installPython } from './tools/python.mjs';
import { Record, recordIsCurrent } from './tools/record.mjs';

const wants = {
  tests: process.argv.includes('--tests'),
  bench: process.argv.includes('--bench'),
};

try {
  await main();
} catch (error) {
  console.error(`outrigger: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}

async function main() {
  const needsPeers = wants.tests || wants.bench;
  const ready = () => nodeModulesAreCurrent() && (!needsPeers || recordIsCurrent(wants));
  if (!ready()) {
    await withInstallLock(async () => {
      // Another install may have finished while this one waited for the lock.
      if (ready()) return;
      const modules = nodeModulesAreCurrent() ? undefined : installNodeModules();
      // A failure of node_modules fails the install at once, and ends its other parts.
      await Promise.all([modules?.then(warmCache), needsPeers ? installPeers() : undefined]);
    });
  }
  checkNode();
}

/** Without it, the sidecar's first start takes twice as long. A failure here fails nothing else. */
function warmCache() {
  const node = join(root, 'node_modules', '.bin', 'node');
  spawnSync(node, [join(root, 'scripts', 'warm-cache.mjs')], { stdio: 'ignore', timeout: 30_000 });
}

/** One after the other, because both may have to install Go itself. */
async function installGo(record) {
  await installGoTools(record, wants);
  await installIstioSchemas(record, wants);
}

/** Tools and peers never fail the install: it records what it can't get, and the report names the skipped tests. */
async function installPeers() {
  const record = new Record(wants);
  // Debian first if it installs Python itself; the rest in parallel.
  await installDebian(record, wants);
  await Promise.all([
    installGo(record),
    installPython(record, wants),
    wants.tests ? installNodeVersions(record) : undefined,
    wants.tests ? installNodeClients(record) : undefined,
    wants.tests ? installConfine(record) : undefined,
  ]);
  record.write();
  for (const [name, reason] of Object.entries(record.missing)) {
    console.error(`outrigger: without ${name}: ${reason}`);
  }
}
