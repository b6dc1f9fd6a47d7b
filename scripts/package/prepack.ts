// `npm pack` runs this first: it builds the package's files, and puts the package's manifest in the place of the
// repository's, which postpack.ts puts back.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildAgent } from './agent.ts';
import { publishedManifest } from './manifest.ts';
import { manifestFile, putBack, savedManifestFile } from './postpack.ts';

const root = join(import.meta.dirname, '..', '..');

const dist = join(root, 'dist');

// A run that was interrupted has left the package's manifest.
putBack();
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
const { status } = spawnSync(
  process.execPath,
  [join(root, 'scripts/bundle.mjs'), '--target', 'node22', '--out', join(dist, 'command')],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
if (status !== 0) throw new Error('the command was not built; see above');
await buildAgent(dist);
copyFileSync(join(root, 'sidecar/bin.mjs'), join(dist, 'bin.mjs'));
chmodSync(join(dist, 'bin.mjs'), 0o755);

const checkout = readFileSync(manifestFile, 'utf8');
mkdirSync(join(root, '.cache'), { recursive: true });
writeFileSync(savedManifestFile, checkout);
writeFileSync(manifestFile, `${JSON.stringify(publishedManifest(JSON.parse(checkout)), null, 2)}\n`);
