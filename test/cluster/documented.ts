// The commands of docs/kubernetes.md and docs/upgrade.md, one behind the other, as a reader types them.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess } from '../../scripts/harness/process.ts';
import { skipWithout, tool } from '../../scripts/harness/tool.ts';
import { get, type KubernetesObject, program, tryKubectl } from './kubectl.ts';

const root = join(import.meta.dirname, '..', '..');
/** What needs pods that run, a build, or a chart. */
const NOT_HERE = /port-forward|rollout status|\blogs\b|^docker |^curl |^helm |^outrigger /;

/** The commands of a document's blocks, with lines that go on joined to one. */
function commandsIn(document: string): string[] {
  const markdown = readFileSync(join(root, 'docs', document), 'utf8');
  return [...markdown.matchAll(/^ *```sh\n(.*?)^ *```/gms)].flatMap(([, block = '']) =>
    block
      .replaceAll('\\\n', ' ')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== ''),
  );
}

/** Runs a line as a reader does, with the programs of the test. */
function shell(t: Test, folder: string): (line: string) => Promise<void> {
  const bin = join(folder, 'bin');
  mkdirSync(bin, { recursive: true });
  const command = (name: string, line: string): void => {
    writeFileSync(join(bin, name), `#!/bin/sh\nexec ${line} "$@"\n`);
    chmodSync(join(bin, name), 0o755);
  };
  // By its path: the name alone would be this command again.
  command('kubectl', execFileSync('sh', ['-c', 'command -v "$0"', program], { encoding: 'utf8' }).trim());
  command('outrigger', `${process.execPath} ${join(root, 'sidecar', 'main.ts')}`);
  const helm = tool('helm');
  if (helm !== undefined) command('helm', helm);
  const env = { PATH: `${bin}:${process.env['PATH']}`, HOME: folder, OPENAI_API_KEY: 'not-a-key' };
  return async (line) => {
    const { code, output } = await runProcess(t, 'sh', ['-c', `set -e; ${line}`], { cwd: root, env });
    t.equal(code, 0, code === 0 ? line : `${line}\n${output}`);
  };
}

export function testDocumentedCommands(folder: string): void {
  t.test('the commands of docs/kubernetes.md work as described, in their order', async (t) => {
    const run = shell(t, folder);
    const commands = commandsIn('kubernetes.md');
    const here = commands.filter((line) => !NOT_HERE.test(line));
    t.ok(here.length >= 12 && here.every((line) => line.startsWith('kubectl ')), here.join('\n'));
    for (const line of here) await run(line);
    const { items } = await get('deployments', '-n', 'agents');
    t.equal(items.length, 4, 'the last overlay stands: gateway and three agents');
    const { spec } = items.find(({ metadata }: KubernetesObject) => metadata.name === 'code-agent');
    t.equal(spec.template.metadata.annotations['outrigger.dev/endpoint-slices'], 'true');
  });

  t.test(
    'the commands of docs/upgrade.md upgrade, hand over to Helm, roll back and remove',
    {
      skip: skipWithout('helm'),
    },
    async (t) => {
      const run = shell(t, folder);
      const commands = commandsIn('upgrade.md').filter((line) => !/rollout status/.test(line));
      const removal = commands.findIndex((line) => line.startsWith('kubectl label namespace agents'));
      t.ok(removal > 0 && commands.length >= 9, commands.join('\n'));
      const helm = (word: string): string[] => commands.filter((line) => line.startsWith(`helm ${word} `));
      // Helm's commands come after the one that makes its release, which the page has further down.
      for (const line of commands.slice(0, removal).filter((line) => line.startsWith('kubectl ')))
        await run(line);
      for (const line of [...helm('install'), ...helm('upgrade'), ...helm('rollback')]) await run(line);
      for (const line of commands.slice(removal)) await run(line);
      t.match(await tryKubectl(['get', 'mutatingwebhookconfiguration', 'outrigger']), { stderr: /NotFound/ });
      t.match(await tryKubectl(['get', 'deployment', 'outrigger-webhook', '-n', 'outrigger-system']), {
        stderr: /NotFound/,
      });
      const { metadata } = await get('namespace', 'agents');
      t.notOk('outrigger.dev/inject' in metadata.labels);
    },
  );
}
