// `npm run sbom`: what the images are made of, as a CycloneDX document (JSON) on standard output; --out FILE writes a file.
//
// npm makes it from package-lock.json: every package that runs, at its version, with its hash and its licence. What only
// tests and builds need is taken out. Node itself comes to the images with their base, so it is added.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root } from './tools/paths.mjs';

const EX_UNAVAILABLE = 69;
const at = process.argv.indexOf('--out');
const out = at < 0 ? undefined : resolve(process.argv[at + 1] ?? 'sbom.cdx.json');

const args = ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application', '--package-lock-only'];
const made = spawnSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20 });
if (made.status !== 0) {
  console.error(`npm sbom failed, which needs npm 9.6 or newer:\n${made.stderr || made.error?.message}`);
  process.exit(EX_UNAVAILABLE);
}

const bom = JSON.parse(made.stdout);
// npm takes the folder's name.
bom.metadata.component.name = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).name;
// npm's own --omit=dev leaves out what tests need, too, though it runs as well.
bom.components = bom.components.filter(({ properties = [] }) => !properties.some(isForDevelopment));
const refs = new Set([bom.metadata.component, ...bom.components].map((one) => one['bom-ref']));
bom.dependencies = bom.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((one) => refs.has(one)) }));
bom.components.push(node());
const text = `${JSON.stringify(bom, null, 2)}\n`;
if (out === undefined) process.stdout.write(text);
else writeFileSync(out, text);

function isForDevelopment({ name, value }) {
  return name === 'cdx:npm:package:development' && value === 'true';
}

/** The base that the Dockerfile names: Node, on Debian. */
function node() {
  const [, version, variant] = /node:([\d.]+)-([\w-]+)/.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'));
  const purl = `pkg:docker/node@${version}-${variant}`;
  return {
    'bom-ref': purl,
    type: 'platform',
    name: 'node',
    version,
    description: `Node.js, from the image node:${version}-${variant}`,
    purl,
    licenses: [{ license: { id: 'MIT' } }],
  };
}
