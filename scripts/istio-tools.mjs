// Builds the tools of `npm run test:istio`, once: istioctl, and with --pilot also istiod. They take nine and two
// minutes of a core.
//
//   node scripts/istio-tools.mjs [--pilot]
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './tools/command.mjs';
import { findGo } from './tools/go.mjs';
import { cache, which } from './tools/paths.mjs';

/** The release whose schemas scripts/tools/istio.mjs uses. */
const version = 'v0.0.0-20260827124520-eed52ebb66ad';
const bin = join(cache, 'istio', 'bin');
const programs = {
  istioctl: `istio.io/istio/istioctl/cmd/istioctl@${version}`,
  ...(process.argv.includes('--pilot')
    ? { 'pilot-discovery': `istio.io/istio/pilot/cmd/pilot-discovery@${version}` }
    : {}),
};

try {
  for (const [name, target] of Object.entries(programs)) await build(name, target);
} catch (error) {
  console.error(`outrigger: ${error.message}`);
  process.exit(1);
}

async function build(name, target) {
  if (existsSync(join(bin, name)) || (name === 'istioctl' && which(name) !== undefined)) return;
  mkdirSync(bin, { recursive: true });
  console.log(`outrigger: building ${name}; this takes minutes …`);
  const env = { GOBIN: bin, GOFLAGS: '-p=1', GOTOOLCHAIN: 'local', GOWORK: 'off' };
  await run('nice', [await findGo(), 'install', target], { cwd: bin, limitMs: 3 * 3_600_000, env });
}
