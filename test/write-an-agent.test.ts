// The page "Write an agent", followed file by file and command by command, with the packages that its reader would have.
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { followAgentPage } from './support/agent-page.ts';
import { copyCheckout, pack, project } from './support/package.ts';
import { installWheel } from './support/python-wheel.ts';

t.setTimeout(290_000);

const manifest = readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8');
const OPENAI = (JSON.parse(manifest) as { dependencies: Record<string, string> }).dependencies['openai'];
const withoutPython = skipWithout('python-package');
/** Where the Python package is installed. */
let wheel = '';
/** What `npm install outrigger openai` gives a reader. */
let installed = '';

t.before(async () => {
  if (withoutPython === false) wheel = await installWheel(t);
  installed = await project(t, [await pack(t, copyCheckout(t)), `openai@${OPENAI}`]);
});

/** The environment of a reader with these programs first in the PATH. */
function readerWith(...folders: string[]): Record<string, string> {
  const path = ['node_modules/.bin', ...folders, dirname(process.execPath), process.env['PATH'] ?? ''];
  return { PATH: path.join(delimiter), PYTHONPATH: wheel };
}

/** Whether the command installs packages; fails if one of them is not what the test has. */
function installs(t: Test, command: string, python = false): boolean {
  const [, how, names = ''] =
    /^(npm init|npm install|pip install|python3 -m venv|\. \.venv)\b *(.*)$/.exec(command) ?? [];
  if (how === 'npm install')
    for (const name of names.split(' ')) t.ok(existsSync(join(installed, 'node_modules', name)), command);
  if (how === 'pip install') t.ok(python, command);
  return how !== undefined;
}

const linkModules = (to: string): void =>
  symlinkSync(join(installed, 'node_modules'), join(to, 'node_modules'));

t.test('the page "Write an agent" holds in TypeScript', async (t) => {
  await followAgentPage(t, 'In TypeScript', readerWith(), (command) => installs(t, command), linkModules);
});

t.test('the page "Write an agent" holds in Python', { skip: withoutPython }, async (t) => {
  const env = readerWith(dirname(requireTool('python-package')));
  await followAgentPage(t, 'In Python', env, (command) => installs(t, command, true), linkModules);
});

t.test('the page "Write an agent" holds on plain grpcio', { skip: withoutPython }, async (t) => {
  const env = { ...readerWith(dirname(requireTool('python-package'))), PYTHONPATH: '' };
  await followAgentPage(t, 'On plain grpcio', env, (command) => installs(t, command, true), linkModules);
});
