// Holds the documents to what they say: samples load, files they point to exist.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { REFUSAL_REASONS, type RefusalReason, statusOfRefusal } from '../sidecar/llm/caller/refusals.ts';

const root = join(import.meta.dirname, '..');
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  'bench/README.md',
  ...markdownUnder('docs'),
];

function markdownUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => join(folder, path));
}

/** The fenced blocks of one language. */
function blocks(markdown: string, language: string): string[] {
  return [...markdown.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(
    (match) => match[1]!,
  );
}

t.test('every YAML sample parses, and configurations pass outrigger check', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-docs-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const authority = await TestAuthority.make();
  const { cert, key } = await authority.issue({ names: ['agent.example'] });
  for (const [name, content] of Object.entries({ 'tls.crt': cert, 'tls.key': key, 'ca.crt': authority.ca }))
    writeFileSync(join(folder, name), content);
  let checked = 0;
  for (const path of documents) {
    for (const sample of blocks(readFileSync(join(root, path), 'utf8'), 'yaml')) {
      const errors = parseAllDocuments(sample).flatMap((document) => document.errors.map(String));
      t.same(errors, [], `${path}: ${sample.slice(0, 40)}`);
      if (!sample.startsWith('# outrigger.yaml')) continue;
      const file = join(folder, 'outrigger.yaml');
      // Certificates where the samples have them.
      writeFileSync(file, sample.replaceAll('/run/outrigger/tls/', `${folder}/`));
      const check = spawnSync(process.execPath, [join(root, 'sidecar/main.ts'), 'check', '--config', file], {
        encoding: 'utf8',
      });
      t.equal(check.status, 0, `outrigger check accepts the sample of ${path}: ${check.stderr}`);
      checked++;
    }
  }
  t.ok(checked > 0, 'at least one configuration was checked');
});

t.test('every link to a file of the repository leads to one, and every anchor to a heading', async (t) => {
  for (const path of documents) {
    const markdown = readFileSync(join(root, path), 'utf8');
    for (const [, target = ''] of markdown.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file = '', anchor] = target.split('#');
      const full = file === '' ? join(root, path) : join(root, dirname(path), file);
      t.ok(existsSync(full), `${path} → ${target}`);
      if (anchor !== undefined)
        t.ok(anchorsOf(readFileSync(full, 'utf8')).includes(anchor), `${path} → ${target}`);
    }
  }
});

t.test('each behaviour of the egress is in the file and the method that its document names', async (t) => {
  const [, section = ''] =
    /^## Where to find it$(.*?)^## /ms.exec(readFileSync(join(root, 'docs/llm-egress.md'), 'utf8')) ?? [];
  const rows = [...section.matchAll(/^\| (.*?) \| `(\S+?)` \| (.*?) \|$/gm)];
  t.ok(rows.length > 40, `${rows.length} behaviours were found`);
  for (const [, behaviour = '', path = '', names = ''] of rows) {
    const file = join(root, path.startsWith('agents/') ? '' : 'sidecar', path);
    t.ok(existsSync(file), `${path}: ${behaviour}`);
    if (!existsSync(file)) continue;
    const source = readFileSync(file, 'utf8');
    for (const [, name = ''] of names.matchAll(/`(\S+?)`/g)) {
      const declared = new RegExp(
        `^(?:export |  )?(?:private |protected )?(?:readonly |override )?(?:function |class )?${name}\\b *[(=<{]|^export class ${name}\\b`,
        'm',
      );
      t.match(source, declared, `${path} has ${name}: ${behaviour}`);
    }
  }
});

function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

t.test('the life of a call names files that exist', async (t) => {
  const markdown = readFileSync(join(root, 'docs/life-of-a-call.md'), 'utf8');
  const named = new Set(
    [...markdown.matchAll(/\b([a-z0-9]+(?:\/[a-z0-9-]+)+\.ts)\b/g)].map((match) => match[1]!),
  );
  t.ok(named.size > 15);
  for (const path of named) t.ok(existsSync(join(root, 'sidecar', path)), path);
});

t.test('the life of a call names methods that exist', async (t) => {
  const markdown = readFileSync(join(root, 'docs/life-of-a-call.md'), 'utf8');
  const folders = ['proxy', 'policy', 'cluster', 'http2', 'task', 'grpc'].map((name) =>
    join(root, 'sidecar', name),
  );
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
      .map((name) => readFileSync(join(folder, name), 'utf8')),
  );
  const layers = /^\| layer +\|[\s\S]*?\n\n/m.exec(markdown)![0];
  const back = /^\| what arrived +\|[\s\S]*?\n\n/m.exec(markdown)![0];
  const methodsIn = (table: string) =>
    table
      .split('\n')
      .flatMap((row) => [...(row.split('|')[2] ?? '').matchAll(/`([a-z]\w+)`/g)].map(([, name]) => name!));
  const named = [...markdown.matchAll(/`([A-Z]\w+)\.([a-z]\w+)`/g)].map(
    ([, owner, name]) => [owner!, name!] as const,
  );
  const all = [
    ...named,
    ...methodsIn(layers).map((name) => ['(?:Pipeline|AttemptStarter)', name] as const),
    ...methodsIn(back).map((name) => ['CallAttempts', name] as const),
  ].filter(([owner]) => !/^(?:Task(?:Request|Response))$/.test(owner));
  t.ok(all.length > 20, `${all.length} methods`);
  for (const [owner, name] of all) {
    const declares = new RegExp(`^(?:export )?(?:abstract )?class ${owner}\\b`, 'm');
    const member = new RegExp(`^  (?:private |override |get |readonly )*${name}\\b *[(=:<]`, 'm');
    t.ok(
      files.some((source) => declares.test(source) && member.test(source)),
      `${owner}.${name}`,
    );
  }
});

t.test('the threat model names tests that exist, and every attack', async (t) => {
  const markdown = readFileSync(join(root, 'docs/threat-model.md'), 'utf8');
  const named = new Set([...markdown.matchAll(/`([\w/.-]+\.test\.ts)`/g)].map((match) => match[1]!));
  t.ok(named.size > 15);
  for (const path of named) t.ok(existsSync(join(root, path)), path);
  for (const name of readdirSync(join(root, 'test/attack')))
    if (name.endsWith('.test.ts')) t.ok(named.has(`test/attack/${name}`), `${name} is in the threat model`);
});

t.test('the document of the egress has every reason, with its status', async (t) => {
  const markdown = readFileSync(join(root, 'docs/llm-egress.md'), 'utf8');
  const rows = [...markdown.matchAll(/^\| (`\w+`(?:, `\w+`)*) +\| (\d{3}|4xx) +\|/gm)];
  const status = new Map(
    rows.flatMap(([, names, code]) => [...names!.matchAll(/\w+/g)].map(([name]) => [name, code!] as const)),
  );
  const [, inStreams = ''] = /^Once an answer has begun([\s\S]*?)\n\n/m.exec(markdown) ?? [];
  const known = new Set<string>([...status.keys(), ...[...inStreams.matchAll(/`(\w+)`/g)].map((m) => m[1]!)]);
  t.strictSame([...known].sort(), [...REFUSAL_REASONS].sort());
  for (const [name, code] of status)
    t.match(
      String(statusOfRefusal(name as RefusalReason)),
      new RegExp(`^${code.replaceAll('x', '\\d')}$`),
      name,
    );
});
