// `node bench/single/fresh-start.ts [LAYOUT …]`: how long a fresh clone takes to its first answer, in each layout, by the one command
// `npm start -- --layout NAME --task TEXT`: it clones this checkout's last commit into an empty folder, so that the command installs
// packages too, then runs the same command again. The bar: 30 s for the first one. Packages come from the registry, or npm's cache.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layouts } from '../../agents/local/layouts/all.ts';

const BAR_S = 30;
const root = join(import.meta.dirname, '..', '..');
const wanted = process.argv.slice(2);
const chosen = layouts.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
if (chosen.length === 0) {
  console.error(`no layout ${wanted.join(', ')}; there are ${layouts.map(({ name }) => name).join(', ')}`);
  process.exit(64);
}

/** Runs a command to its end. @throws Error with its last lines where it fails */
async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  // Nothing of the npm that may run this one but its registry, no key, and the usual port stays with who has it.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_(?!config_)|OPENAI_|NODE_OPTIONS$)/.test(name)),
  );
  const child = spawn(command, args, { cwd, env: { ...env, PORT: '' }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output.slice(-2000)}`);
  return output;
}

async function answer(name: string, folder: string): Promise<number> {
  const [, input] = layouts.find((layout) => layout.name === name)!.questions[0]!;
  const startedMs = performance.now();
  const output = await run('npm', ['start', '--', '--layout', name, '--task', input], folder);
  const seconds = (performance.now() - startedMs) / 1000;
  if (!/SUCCESS after \d+ ms/.test(output))
    throw new Error(`the layout ${name} has not answered:\n${output}`);
  return seconds;
}

const folder = mkdtempSync(join(tmpdir(), 'outrigger-fresh-'));
try {
  console.log('layout          fresh clone, installed, answered, stopped   again');
  for (const { name } of chosen) {
    const clone = join(folder, name);
    await run('git', ['clone', '--quiet', root, clone], folder);
    const [fresh, again] = [await answer(name, clone), await answer(name, clone)];
    const verdict = fresh <= BAR_S ? 'within the bar' : 'MISSED';
    console.log(
      `${name.padEnd(15)} ${`${fresh.toFixed(1)} s (bar ${BAR_S} s: ${verdict})`.padEnd(43)} ${again.toFixed(1)} s`,
    );
    if (fresh > BAR_S) process.exitCode = 1;
    rmSync(clone, { recursive: true, force: true });
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
