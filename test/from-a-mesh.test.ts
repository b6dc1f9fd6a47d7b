// The page for users of other meshes names keys of ours that exist, with their defaults.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { schemaOfKey } from '../scripts/harness/config-schema.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

const page = read('docs/from-a-mesh.md');
const ours = page.split('\n').filter((line) => line.startsWith('| **Outrigger** |'));

t.test('each key of ours exists, with the default that the page names', async (t) => {
  const keys = ours.flatMap((row) => [
    ...row.matchAll(/`((?:inbound|outbound|llm|drain)\.[\w.]+)`(?: \(([^)]*)\))?/g),
  ]);
  t.ok(keys.length > 50, `${keys.length} keys`);
  for (const [, key = '', named] of keys) {
    const found = schemaOfKey(key);
    t.ok(found, key);
    if (named !== undefined) t.equal(String(found?.default), named, `the default of ${key}`);
  }
});

t.test('each annotation of ours is documented', async (t) => {
  const documented = read('docs/kubernetes.md');
  const names = ours.flatMap((row) =>
    [...row.matchAll(/`outrigger\.dev\/([\w-]+)`/g)].map(([, name]) => name!),
  );
  t.ok(names.length > 5, `${names.length} annotations`);
  for (const name of names) t.match(documented, new RegExp(`(?:outrigger\\.dev/|\`)${name}\``), name);
});

t.test('every subject compares all of the meshes, and says what differs for agents', async (t) => {
  const subjects = page.split(/^## /m).slice(1, -2);
  t.equal(subjects.length, 14);
  for (const subject of subjects) {
    const name = subject.slice(0, subject.indexOf('\n'));
    for (const mesh of ['Istio', 'Linkerd', 'Dapr', '**Outrigger**'])
      t.match(subject, mesh, `${name}: ${mesh}`);
    t.match(subject, /^For agents: /m, name);
  }
});
