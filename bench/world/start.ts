// Processes of the bench: each pinned to a core, and waited for until it is ready.
import { get } from 'node:http';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Cleanup } from './cleanup.ts';

/** The load and the upstream share this core … */
export const LOAD_CORE = 0;
/** … and what is measured has this one. */
export const TARGET_CORE = 1;

const START_LIMIT_MS = 30_000;
const POLL_MS = 2;
/** Starts a program on one core. taskset replaces itself by it, so the process is the program's. */
export function startPinned(
  cleanup: Cleanup,
  core: number,
  command: readonly string[],
  env: Record<string, string> = {},
): TestProcess {
  return startProcess(cleanup, requireTool('taskset'), ['-c', `${core}`, ...command], { env });
}

/** Waits until it is; throws with what the process said when it ends before or does not come. */
export async function ready(
  started: TestProcess,
  name: string,
  check: () => boolean | Promise<boolean>,
): Promise<void> {
  let exit: number | NodeJS.Signals | undefined;
  void started.ended.then((code) => {
    exit = code;
  });
  const explain = (why: string): Error =>
    new Error(`${name}: ${why}; its log: ${started.logs().slice(-1_000)}`);
  await waitUntil(`${name} is ready`, () => exit !== undefined || check(), {
    limitMs: START_LIMIT_MS,
    everyMs: POLL_MS,
  }).catch((error) => {
    throw explain((error as Error).message);
  });
  if (exit !== undefined) throw explain(`it exited with ${exit}`);
}

/** Whether an HTTP server says 200. */
export function isOk(port: number, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: '127.0.0.1', port, path, agent: false, timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(false));
  });
}
