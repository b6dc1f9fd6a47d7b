// Checks the labels and the SBOM of a built image for `npm run test:image`: components.ts IMAGE LABELS.json SBOM.json
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [image = '', labelsFile = '', sbomFile = ''] = process.argv.slice(2);
const read = (file: string) => JSON.parse(readFileSync(file, 'utf8'));
const { version } = read(join(import.meta.dirname, '..', '..', 'package.json'));

const labels: Record<string, string> = read(labelsFile);
const label = (name: string): string => labels[`org.opencontainers.image.${name}`] ?? '';
assert.equal(label('title'), image);
assert.equal(label('version'), version);
assert.match(label('revision'), /^[0-9a-f]{40}/);
assert.match(label('created'), /^\d{4}-/);
assert.equal(label('licenses'), 'Apache-2.0');
console.log(`${image}: ${label('description')} ${label('version')} of ${label('revision')}`);

if (image !== 'outrigger-intercept') {
  const { components, metadata } = read(sbomFile) as {
    components: { name: string; purl: string }[];
    metadata: { component: { version: string } };
  };
  assert.equal(metadata.component.version, version);
  const count = (kind: string): number =>
    components.filter(({ purl }) => purl.startsWith(`pkg:${kind}/`)).length;
  assert.ok(count('npm') > 20);
  assert.ok(components.some(({ name }) => name === 'libc6'));
  // What only the gateway has is not in the sidecar's image.
  assert.equal(
    components.some(({ name }) => name === 'fastify'),
    image === 'outrigger-agents',
  );
  // The sidecar's image has the libraries that Node loads, the agents' has the whole of Debian.
  assert.equal(count('deb') < 10, image === 'outrigger');
  console.log(`${image}: ${count('npm')} packages of npm, ${count('deb')} of Debian`);
}
