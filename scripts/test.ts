// `npm test`: checks lint, types and unused code, then runs every test file (or the given ones). The last line is
// `N passed, N failed`, with `, N skipped` when a test lacks a tool.
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closingCounts, TapDigest, type TestCounts } from './tap-digest.ts';

const root = join(import.meta.dirname, '..');
const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const totals: TestCounts = { passed: 0, failed: 0, skipped: 0 };
const filesAndOptions = process.argv.slice(2);

for (const [name, program, args] of [
  ['lint', 'biome', ['check', '--error-on-warnings', '.']],
  ['types', 'tsc', ['--noEmit']],
  ['unused code', 'knip', ['--treat-config-hints-as-errors']],
] as const) {
  const startedMs = Date.now();
  const code = await inherit(bin(program), [...args]);
  console.log(`${code === 0 ? 'ok' : 'not ok'} - ${name} (${Date.now() - startedMs} ms)`);
  if (code === 0) totals.passed += 1;
  else totals.failed += 1;
}

const tests = process.stdout.isTTY ? await runOnTerminal() : await runPiped();
totals.passed += tests.counts.passed;
totals.failed += tests.counts.failed;
totals.skipped += tests.counts.skipped;
if (tests.counts.passed + tests.counts.failed === 0) {
  console.error('no test ran: name existing files, or none to run all');
  totals.failed += 1;
} else if (tests.code !== 0 && tests.counts.failed === 0) {
  // A file ended early, or the runner failed, without a failed assertion.
  console.error(`the test runner exited with ${tests.code}`);
  totals.failed += 1;
}

const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
process.exitCode = totals.failed === 0 ? 0 : 1;

interface Outcome {
  code: number;
  counts: TestCounts;
}

/** On a terminal tap prints its own report; the counts come from the TAP that it also writes to a file. */
async function runOnTerminal(): Promise<Outcome> {
  const file = join(tmpdir(), `outrigger-tap-${process.pid}.tap`);
  try {
    const code = await inherit(bin('tap'), tapArguments(`--output-file=${file}`));
    return { code, counts: closingCounts(read(file)) };
  } finally {
    rmSync(file, { force: true });
  }
}

/** Elsewhere (a log, a pipe) this prints one line a file, and the whole TAP of a failed file. */
async function runPiped(): Promise<Outcome> {
  const digest = new TapDigest((line) => console.log(line));
  const child = spawn(bin('tap'), tapArguments('--reporter=tap'), {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => digest.write(chunk));
  const code = await ended(child);
  digest.end();
  return { code, counts: digest.counts };
}

function tapArguments(output: string): string[] {
  return [output, ...filesAndOptions];
}

function inherit(program: string, args: string[]): Promise<number> {
  return ended(spawn(program, args, { cwd: root, stdio: 'inherit' }));
}

function ended(child: ReturnType<typeof spawn>): Promise<number> {
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGINT', passOn).on('SIGTERM', passOn);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      process.off('SIGINT', passOn).off('SIGTERM', passOn);
      resolve(code ?? 1);
    });
  });
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
