// The help of each command is its own and fits on a screen; a misspelled command or flag gets the nearest one.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess } from '../scripts/harness/process.ts';

t.setTimeout(290_000);

const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
const outrigger = (t: Test, ...args: string[]) => runProcess(t, process.execPath, [main, ...args]);

/** A page of help is shorter than a terminal. */
const MAX_LINES = 40;

t.test('the help lists the commands, one line each', async (t) => {
  const { code, output } = await outrigger(t, '--help');
  t.equal(code, 0);
  t.ok(output.split('\n').length < MAX_LINES);
  const names = [...output.matchAll(/^ {2}outrigger (\S+) +\S/gm)].map(([, name]) => name!);
  t.ok(names.length >= 8, names.join());
  const pages = new Map<string, string>();
  for (const name of names) {
    const page = await outrigger(t, name, '--help');
    t.equal(page.code, 0, name);
    const lines = page.output.trimEnd().split('\n');
    t.ok(lines.length < MAX_LINES, `${name} has ${lines.length} lines`);
    t.match(lines[0], new RegExp(`^outrigger ${name}\\b`), `${name} begins with its usage`);
    t.match(page.output, /^Exit code: 0 /m, `${name} lists its exit codes`);
    t.notOk(pages.has(page.output), `${name} has a page of its own`);
    pages.set(page.output, name);
  }
  t.equal((await outrigger(t, 'help', 'calls')).output, [...pages].find(([, name]) => name === 'calls')![0]);
  const all = await outrigger(t, 'run', '--help', '--all');
  t.match(all.output, /--outbound\.clusters\.NAME\.retry\.max_attempts/, 'the long list is elsewhere');
});

t.test('a misspelled command or flag gets the nearest one, and exit code 64', async (t) => {
  for (const [args, remedy] of [
    [['stat'], 'did you mean status?'],
    [['help', 'chek'], 'did you mean check?'],
    [['run', '--inbound.ap', 'x:1'], 'did you mean --inbound.app?'],
    [['check', '--confg', 'x'], 'did you mean --config?'],
    [['status', '--wach'], 'did you mean --watch?'],
    [['calls', '--older', '10s'], 'did you mean --older-than?'],
    [['inject', '--fil', 'x'], 'did you mean --file?'],
  ] as const) {
    const { code, output } = await outrigger(t, ...args);
    t.equal(code, 64, args.join(' '));
    t.match(output, remedy, args.join(' '));
  }
});
