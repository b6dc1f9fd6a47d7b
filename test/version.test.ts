// Holds that Outrigger has one version: package.json's.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runProcess } from '../scripts/harness/process.ts';
import { ownVersion, versionPlaces } from '../scripts/version.ts';

const root = join(import.meta.dirname, '..');
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');

t.test('every file that names the version of Outrigger names the one of package.json', async (t) => {
  const version = ownVersion();
  const places = versionPlaces();
  for (const { file, versions } of places)
    for (const each of versions) t.equal(each, version, `${file}: run node scripts/version.ts`);
  const named = new Map(places.map(({ file, versions }) => [file, versions.length]));
  for (const [file, count] of Object.entries({
    'package-lock.json': 2,
    'python/pyproject.toml': 1,
    'k8s/helm/outrigger/Chart.yaml': 2,
    'k8s/base/webhook/kustomization.yaml': 1,
    'k8s/base/agents/kustomization.yaml': 1,
    'k8s/overlays/local/kustomization.yaml': 1,
    'docker-compose.yml': 2,
    'docs/kubernetes.md': 2,
    Dockerfile: 4,
  }))
    t.ok((named.get(file) ?? 0) >= count, `${file} names it`);
});

t.test('the command prints it, and the changelog has a section for it', async (t) => {
  const version = ownVersion();
  const printed = await runProcess(t, process.execPath, [join(root, 'sidecar/main.ts'), '--version']);
  t.strictSame(printed, { code: 0, output: `${version}\n` });
  const headings = [...textOf('CHANGELOG.md').matchAll(/^## (\S+)(.*)$/gm)];
  const sections = headings.map(([, name]) => name);
  // Only the first may be a version that is not released yet.
  const released = headings.slice(headings[0]?.[2] === ' (unreleased)' ? 1 : 0);
  t.equal(released[0]?.[1], version, 'its newest released section');
  t.strictSame(
    released.filter(([, , rest]) => rest !== ''),
    [],
    'no other is marked',
  );
  t.equal(new Set(sections).size, sections.length);
});
