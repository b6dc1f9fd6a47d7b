// Manifests as strangers have them: what inject says of each and changes in it is held, line by line; the results match
// Kubernetes' schemas, a second injection changes nothing, and containers that do not change keep every byte.
// UPDATE_GOLDEN=1 writes what it says and changes now.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { isMap, isSeq, parseAllDocuments, stringify, visit } from 'yaml';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { changedLines } from './support/changed-lines.ts';

t.setTimeout(290_000);

const root = join(import.meta.dirname, '..');
const charts = join(root, 'test/inject/charts');
const names = readdirSync(charts)
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => name.slice(0, -'.yaml'.length))
  .sort();
const folder = mkdtempSync(join(tmpdir(), 'outrigger-charts-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

interface Injected {
  readonly code: number | string;
  readonly output: string;
  readonly report: string;
}

async function inject(t: Test, file: string): Promise<Injected> {
  const errors = join(folder, 'stderr');
  const args = [join(root, 'sidecar/main.ts'), 'inject', '-f', file, '--image=registry.example/outrigger:1'];
  const quoted = ['-c', `exec "$@" 2>"${errors}"`, 'sh', process.execPath, ...args];
  const { code, output } = await runProcess(t, 'sh', quoted);
  return { code: code ?? 'none', output, report: readFileSync(errors, 'utf8').replaceAll(`${charts}/`, '') };
}

/** The text of each container, by the name of its workload and its own. */
function containersIn(text: string): Map<string, { readonly value: unknown; readonly source: string }> {
  const found = new Map<string, { value: unknown; source: string }>();
  for (const [index, document] of parseAllDocuments(text, { schema: 'yaml-1.1' }).entries())
    visit(document, {
      Pair(_, pair) {
        if (!/^(initC|c)ontainers$/.test(String(pair.key)) || !isSeq(pair.value)) return;
        for (const item of pair.value.items) {
          if (!isMap(item)) continue;
          const [start, end] = item.range!;
          const source = text.slice(start, end).trimEnd();
          found.set(`${index} ${item.get('name')}`, { value: item.toJS(document), source });
        }
      },
    });
  return found;
}

/** The kinds that Kubernetes' own schemas know. */
const isKnown = (version: string): boolean => !/argoproj|openshift|knative/.test(version);

const results = new Map<string, string>();

t.test('what inject tells of a chart, and changes in it, is as it was looked at', async (t) => {
  t.ok(names.length >= 12, `${names.length} charts`);
  for (const name of names) {
    const file = join(charts, `${name}.yaml`);
    const input = readFileSync(file, 'utf8');
    const { code, output, report } = await inject(t, file);
    if (code === 0) results.set(name, output);
    const versionless = output.replaceAll(/(outrigger\.dev\/injected: )[\w.-]+/g, '$1VERSION');
    const changes = code === 0 ? changedLines(input, versionless) : ['(no output)'];
    const told = `${report}\n${withoutSidecar(changes).join('\n')}\n`;
    const golden = join(charts, `${name}.told.txt`);
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(golden, told);
    t.equal(told, readFileSync(golden, 'utf8'), name);
    t.notMatch(report, /sk-only-for-the-test/, 'no secret in the report');
    if (input.includes('\r\n')) t.notMatch(output, /[^\r]\n/, 'line ends stay');
  }
});

/** The sidecar's container is long, and other tests hold it. */
function withoutSidecar(lines: readonly string[]): string[] {
  const kept: string[] = [];
  let within = -1;
  for (const line of lines) {
    const indent = /^\+ ( *)/.exec(line)?.[1]?.length ?? -1;
    if (within >= 0 && indent > within) continue;
    within = /^\+ *- name: outrigger\r?(\\r)?$/.test(line) ? indent : -1;
    kept.push(within >= 0 ? `${line} …` : line);
  }
  return kept;
}

t.test(
  'a container that does not change keeps every byte, and a second injection changes nothing',
  async (t) => {
    let kept = 0;
    for (const [name, output] of results) {
      const after = containersIn(output);
      for (const [key, { value, source }] of containersIn(
        readFileSync(join(charts, `${name}.yaml`), 'utf8'),
      )) {
        const now = after.get(key);
        if (!isDeepStrictEqual(now?.value, value)) continue;
        t.equal(now?.source, source, `${name} ${key}`);
        kept++;
      }
      const again = join(folder, `${name}.yaml`);
      writeFileSync(again, output);
      t.equal((await inject(t, again)).output, output, `${name} twice`);
    }
    t.ok(kept >= 6, `${kept} containers did not change`);
  },
);

t.test(
  'the results match the schemas of Kubernetes',
  { skip: skipWithout('kubernetes-validate') },
  async (t) => {
    const files = Array.from(results, ([name, output]) => {
      const objects = parseAllDocuments(output, { schema: 'yaml-1.1' })
        .map((document) => document.toJS())
        .filter((object) => object !== null)
        .flatMap((object) => (object.kind === 'List' ? object.items : [object]))
        .filter(({ apiVersion }) => isKnown(apiVersion));
      const file = join(folder, `${name}-valid.yaml`);
      writeFileSync(file, objects.map((object) => stringify(object, { schema: 'yaml-1.1' })).join('---\n'));
      return objects.length === 0 ? '' : file;
    }).filter((file) => file !== '');
    t.ok(files.length >= 9);
    const args = ['--kubernetes-version', '1.36.0', '--strict', '--quiet', ...files];
    const { code, output } = await runProcess(t, requireTool('kubernetes-validate'), args, {
      limitMs: 200_000,
    });
    t.equal(code, 0, output);
  },
);
