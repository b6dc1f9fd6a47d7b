// What somebody who runs Outrigger may want to know of where it comes from: its licence, and all that it is made of.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runProcess } from '../scripts/harness/process.ts';

const root = join(import.meta.dirname, '..');
const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');
const manifest = JSON.parse(textOf('package.json'));
const lock = JSON.parse(textOf('package-lock.json'));

interface Component {
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly type: string;
  readonly hashes?: readonly { alg: string; content: string }[];
  readonly licenses?: readonly object[];
}

t.test('all files name the same licence', async (t) => {
  t.equal(manifest.license, 'Apache-2.0');
  t.equal(lock.packages[''].license, manifest.license);
  const licence = textOf('LICENSE');
  t.match(licence, /Apache License\s+Version 2\.0, January 2004\s+http:\/\/www\.apache\.org\/licenses\//);
  t.match(licence, /END OF TERMS AND CONDITIONS/);
  const dockerfile = textOf('Dockerfile');
  const labels = [...dockerfile.matchAll(/org\.opencontainers\.image\.licenses="([^"]+)"/g)].map(
    ([, id]) => id,
  );
  t.strictSame(labels, ['Apache-2.0', 'Apache-2.0', 'Apache-2.0'], 'each of the three images has the label');
  t.match(textOf('README.md'), /\[Apache License, version 2\.0\]\(LICENSE\)/);
});

t.test('npm run sbom lists every package that runs, and none that only tests need', async (t) => {
  const folder = t.testdir();
  const file = join(folder, 'sbom.cdx.json');
  const { code, output } = await runProcess(t, process.execPath, [
    join(root, 'scripts/sbom.mjs'),
    '--out',
    file,
  ]);
  t.equal(code, 0, output);
  const bom = JSON.parse(readFileSync(file, 'utf8'));
  t.equal(bom.bomFormat, 'CycloneDX');
  t.match(bom.specVersion, /^1\.[5-9]$/);
  t.match(bom.metadata.component, { name: 'outrigger', version: manifest.version });
  const components: readonly Component[] = bom.components;
  const listed = new Set(components.map(({ name, version }) => `${name}@${version}`));
  const locked = Object.entries(lock.packages as Record<string, { version: string; dev?: boolean }>)
    .filter(([path]) => path !== '')
    .map(([path, { version, dev }]) => ({ name: `${path.replace(/.*node_modules\//, '')}@${version}`, dev }));
  const running = new Set(locked.filter(({ dev }) => dev !== true).map(({ name }) => name));
  t.strictSame(
    [...running].filter((name) => !listed.has(name)),
    [],
    'every package that runs is listed',
  );
  const others = locked.filter(({ name }) => !running.has(name) && listed.has(name));
  t.strictSame(others, [], 'and no other one');
  for (const [name, version] of Object.entries(manifest.dependencies))
    t.ok(listed.has(`${name}@${version}`), name);
  const packages = components.filter(({ type }) => type === 'library');
  t.ok(packages.length > Object.keys(manifest.dependencies).length, 'with what they need themselves');
  const incomplete = packages.filter(
    ({ purl, hashes, licenses }) =>
      !purl.startsWith('pkg:npm/') || hashes?.[0]?.alg !== 'SHA-512' || (licenses?.length ?? 0) === 0,
  );
  t.strictSame(incomplete, [], 'each with its place, its hash and its licence');
  const [, node] = /node:([\d.]+)-/.exec(textOf('Dockerfile'))!;
  t.match(
    components.find(({ type }) => type === 'platform'),
    { name: 'node', version: node },
  );
  const refs = new Set([
    bom.metadata.component['bom-ref'],
    ...bom.components.map((one: { 'bom-ref': string }) => one['bom-ref']),
  ]);
  const unknown = bom.dependencies.flatMap(({ ref, dependsOn = [] }: { ref: string; dependsOn?: string[] }) =>
    [ref, ...dependsOn].filter((one) => !refs.has(one)),
  );
  t.strictSame(unknown, [], 'what they need is listed, too');
});
