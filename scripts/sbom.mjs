// `npm run sbom`: writes the contents of the images as a CycloneDX document (JSON) to standard output, or to a file
// with --out FILE. The images have it at /outrigger/sbom.cdx.json.
//
// npm generates it from package-lock.json: every package that runs, with its version, hash and licence. This script
// removes the packages that only tests and builds need, and with --packages FILE (of scripts/bundle.mjs) those that are
// not in the bundle. It adds Node itself, which comes with the images' base, and
// Debian's packages from --debian FILE, which has a line for each: name, version, architecture.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root } from './tools/paths.mjs';

const EX_UNAVAILABLE = 69;
const option = (name) =>
  process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined;
const out = process.argv.includes('--out') ? resolve(option('--out') ?? 'sbom.cdx.json') : undefined;

const args = ['sbom', '--sbom-format=cyclonedx', '--sbom-type=application', '--package-lock-only'];
const made = spawnSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20 });
if (made.status !== 0) {
  console.error(`npm sbom failed, which needs npm 9.6 or newer:\n${made.stderr || made.error?.message}`);
  process.exit(EX_UNAVAILABLE);
}

const bom = JSON.parse(made.stdout);
// npm uses the folder's name.
bom.metadata.component.name = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).name;
const bundled = option('--packages');
const names = bundled === undefined ? undefined : new Set(readFileSync(bundled, 'utf8').split('\n'));
bom.components = bom.components.filter(({ name, version, properties = [] }) =>
  // npm's own --omit=dev also removes packages that tests need and that run as well. A bundle may have code of a package
  // that only tests ask for: what is there counts.
  names === undefined ? !properties.some(isForDevelopment) : names.has(`${name}@${version}`),
);
const refs = new Set([bom.metadata.component, ...bom.components].map((one) => one['bom-ref']));
bom.dependencies = bom.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((one) => refs.has(one)) }));
bom.components.push(node(), ...debian(option('--debian')));
const text = `${JSON.stringify(bom, null, 2)}\n`;
if (out === undefined) process.stdout.write(text);
else writeFileSync(out, text);

function isForDevelopment({ name, value }) {
  return name === 'cdx:npm:package:development' && value === 'true';
}

/** The base image in the Dockerfile: Node, on Debian. */
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

function debian(file) {
  if (file === undefined) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines
    .filter((line) => line !== '')
    .map((line) => {
      const [name, version, architecture] = line.split(' ');
      const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}`;
      return { 'bom-ref': purl, type: 'library', name, version, purl };
    });
}
