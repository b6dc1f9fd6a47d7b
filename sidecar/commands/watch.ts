/** Shows something again and again, for `--watch`. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FlagTable } from './flags.ts';

const EVERY_MS = 2_000;

/** The flags of commands that show something, once or with `--watch`. */
export const LOOK_FLAGS = {
  watch: { short: '-w', bare: true, help: 'Ask every two seconds, until Ctrl-C' },
  output: {
    short: '-o',
    value: 'FORMAT',
    help: 'table or json; json with --watch writes one line a look [table]',
  },
} satisfies FlagTable;

/** The format that `--output` names. Undefined: it names none of the two. */
export function tableOrJson([output = 'table']: readonly string[]): 'table' | 'json' | undefined {
  return output === 'table' || output === 'json' ? output : undefined;
}

/**
 * Calls `show` once, or with `watch` every two seconds until Ctrl-C. Resolves with the exit code of the last look. `show`
 * gets true when it may clear the terminal before it writes.
 */
export async function repeat(watch: boolean, show: (clears: boolean) => Promise<number>): Promise<number> {
  if (!watch) return show(false);
  const stopped = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort());
  // The reader has left (`| head`).
  process.stdout.once('error', () => stopped.abort());
  const clears = process.stdout.isTTY === true;
  let code = 0;
  while (!stopped.signal.aborted) {
    code = await show(clears);
    await sleep(EVERY_MS, undefined, { signal: stopped.signal }).catch(() => {});
  }
  return code;
}

/** Moves the cursor to the beginning and clears what is below. */
export const CLEAR = '\u001b[H\u001b[2J';
