// docs/protect.md: its files are written as they stand there, its commands run in order, and their output is what the
// page prints. Commands of kubectl and curl need a cluster and do not run. UPDATE_GOLDEN=1 prints anew.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import t from 'tap';
import { runProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';

t.setTimeout(180_000);

const root = join(import.meta.dirname, '..');
const page = join(root, 'docs/protect.md');

t.test(
  'the commands of "Protect what you have" print what the page says',
  { skip: skipWithout('kustomize') },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-protect-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const bin = join(folder, 'bin');
    const work = join(folder, 'work');
    for (const path of [bin, work]) mkdirSync(path);
    const command = `#!/bin/sh\nexec "${process.execPath}" "${join(root, 'sidecar/main.ts')}" "$@"\n`;
    writeFileSync(join(bin, 'outrigger'), command, { mode: 0o755 });
    const path = [bin, dirname(requireTool('kustomize')), process.env['PATH']].join(delimiter);

    let markdown = readFileSync(page, 'utf8');
    const blocks = [...markdown.matchAll(/^```(\w+)\n(.*?)^```$/gms)];
    let ran = 0;
    for (const [index, [, language, text = '']] of blocks.entries()) {
      const file = /^# (\S+\.yaml)\n/.exec(text)?.[1];
      if (language === 'yaml' && file !== undefined) writeFileSync(join(work, file), text);
      const [next, , printed] = blocks[index + 1] ?? [];
      if (language !== 'sh' || !next?.startsWith('```text')) continue;
      const env = { PATH: path, HOME: folder };
      const { code, output } = await runProcess(t, 'sh', ['-ec', text], { cwd: work, env });
      t.equal(code, 0, text);
      t.equal(output, printed, text);
      if (process.env['UPDATE_GOLDEN'] === '1')
        markdown = markdown.replace(
          `\`\`\`sh\n${text}\`\`\`\n\n${next}`,
          () => `\`\`\`sh\n${text}\`\`\`\n\n\`\`\`text\n${output}\`\`\``,
        );
      ran++;
    }
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(page, markdown);
    t.equal(ran, 3);
    const { workloads } = JSON.parse(readFileSync(join(work, 'report.json'), 'utf8'));
    t.match(workloads, [{ outcome: 'injected', doubts: [] }]);
    t.match(readFileSync(join(work, 'injected.yaml'), 'utf8'), /targetPort: server/);
  },
);

t.test('the page has a line for all that the report may doubt', async (t) => {
  const table = /^## What the report may say$(.*)/ms.exec(readFileSync(page, 'utf8'))![1]!;
  const rows = [...table.matchAll(/^\| (.*?) \|/gm)].map(([, row = '']) => row.replaceAll('`', ''));
  const told = ['app-port', 'injection-notes', 'target-services']
    .map((file) => readFileSync(join(root, `sidecar/kubernetes/inject/${file}.ts`), 'utf8'))
    .join('\n');
  // A row quotes the report's own words.
  for (const words of [
    'nothing tells whether',
    'also looks like gRPC',
    'the pod declares',
    'sends its port',
    'the headless Service',
    'the NetworkPolicy',
    'hostPort',
    'terminationGracePeriodSeconds is',
    'of the workload has no effect',
    'is an annotation here',
    'reach the one address of the Service',
    'nothing here shows the Services behind',
  ]) {
    t.ok(told.includes(words), `the report says "${words}"`);
    t.ok(
      rows.some((row) => row.includes(words)),
      `the page explains "${words}"`,
    );
  }
  const doubts = told.match(/\bdoubt\(/g)?.length ?? 0;
  t.equal(doubts, 12, 'a new doubt needs a row, and its words here');
});
