/** Starts the local system for its tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

/** Helpers for the tests of the local system. */

export const start = fileURLToPath(new URL('start.ts', import.meta.url));

export interface Run {
  child: ChildProcess;
  /** Standard output and error so far. */
  output(): string;
  ended: Promise<[number | null, string | null]>;
}

/** Runs the starter as `npm start` does. The end of the test kills it, and its processes end with it. */
export function runStart(test: Test, args: string[], env: Record<string, string> = {}): Run {
  const { OPENAI_API_KEY: _, ...clean } = process.env;
  const child = spawn(process.execPath, [start, ...args], { env: { ...clean, ...env } });
  let output = '';
  child.stdout.on('data', (text) => (output += text));
  child.stderr.on('data', (text) => (output += text));
  const ended = once(child, 'close') as Run['ended'];
  test.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, output: () => output, ended };
}

/** The child processes of a process. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

/** The command line of a process. Empty for a dead process, reaped or not. */
export function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
  } catch {
    return [];
  }
}

export function isAlive(pid: number): boolean {
  return commandOf(pid).length > 0;
}
