// The commands of docs/kubernetes.md, one behind the other, as a reader types them.
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runProcess } from '../../scripts/harness/process.ts';
import { get, type KubernetesObject, program } from './kubectl.ts';

const root = join(import.meta.dirname, '..', '..');
/** What needs pods that run, a build, or a chart. */
const NOT_HERE = /port-forward|rollout status|\blogs\b|^docker |^curl |^helm |^outrigger /;

/** The commands of its blocks, with lines that go on joined to one. */
function documentedCommands(): string[] {
  const markdown = readFileSync(join(root, 'docs', 'kubernetes.md'), 'utf8');
  return [...markdown.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block = '']) =>
    block
      .replaceAll('\\\n', ' ')
      .split('\n')
      .filter((line) => line.trim() !== ''),
  );
}

export function testDocumentedCommands(folder: string): void {
  t.test('the commands of docs/kubernetes.md work as described, in their order', async (t) => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    const command = (name: string, line: string): void => {
      writeFileSync(join(bin, name), `#!/bin/sh\nexec ${line} "$@"\n`);
      chmodSync(join(bin, name), 0o755);
    };
    command('kubectl', program);
    command('outrigger', `${process.execPath} ${join(root, 'sidecar', 'main.ts')}`);
    const commands = documentedCommands();
    const here = commands.filter((line) => !NOT_HERE.test(line));
    t.ok(here.length >= 12 && here.every((line) => line.startsWith('kubectl ')), here.join('\n'));
    for (const line of here) {
      const env = { PATH: `${bin}:${process.env['PATH']}`, OPENAI_API_KEY: 'not-a-key' };
      const { code, output } = await runProcess(t, 'sh', ['-c', `set -e; ${line}`], { cwd: root, env });
      t.equal(code, 0, `${line}\n${output}`);
    }
    const { items } = await get('deployments', '-n', 'agents');
    t.equal(items.length, 4, 'the last overlay stands: gateway and three agents');
    const { spec } = items.find(({ metadata }: KubernetesObject) => metadata.name === 'code-agent');
    t.equal(spec.template.metadata.annotations['outrigger.dev/endpoint-slices'], 'true');
  });
}
