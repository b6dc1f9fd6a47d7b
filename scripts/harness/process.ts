// Child processes that never outlive their test.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Test } from 'tap';
import { PATIENCE_MS } from './patience.ts';

export interface TestProcess {
  readonly pid: number;
  /** All output so far, standard output and error together. */
  logs(): string;
  /** Resolves with the exit code, or the signal's name, once the process has ended. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
  /** Sends SIGTERM, and SIGKILL if the process still runs after `limitMs`. */
  stop(limitMs?: number): Promise<number | NodeJS.Signals>;
  readonly child: ChildProcess;
}

export interface ProcessOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Whether the test can write to `child.stdin`. */
  stdin?: boolean;
  /** Whether the program starts processes of its own, which have to end with it: `kill` reaches them, too. */
  group?: boolean;
}

type Teardown = Pick<Test, 'teardown'>;

type Kill = (signal: NodeJS.Signals) => void;

const running = new Map<ChildProcess, Kill>();

function killAll(): void {
  for (const kill of running.values()) kill('SIGKILL');
}

process.on('exit', killAll);
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGALRM'] as const) {
  // When a file takes too long, the runner ends it by a signal, which skips 'exit' and every teardown.
  process.once(signal, () => {
    killAll();
    setImmediate(() => process.exit(1));
  });
}

/** Starts a program; the end of the test `t` kills it, however the test ends. */
export function startProcess(
  t: Teardown,
  program: string,
  args: readonly string[],
  { env = {}, cwd, stdin = false, group = false }: ProcessOptions = {},
): TestProcess {
  // Variables for the tests are no settings of the sidecar, which refuses unknown ones.
  const { OUTRIGGER_TEST_SIDECAR: _, ...inherited } = process.env;
  const child = spawn(program, args, {
    env: { ...inherited, ...env },
    stdio: [stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    detached: group,
    ...(cwd === undefined ? {} : { cwd }),
  });
  const kill: Kill = (signal) => (group ? killGroup(child, signal) : void child.kill(signal));
  running.set(child, kill);
  let output = '';
  const keep = (chunk: string): void => {
    // The end of the output explains a failure.
    output = (output + chunk).slice(-1_000_000);
  };
  child.stdout!.setEncoding('utf8').on('data', keep);
  child.stderr!.setEncoding('utf8').on('data', keep);
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('error', (error) => {
      running.delete(child);
      keep(`${program} can't be started: ${error.message}\n`);
      resolve(127);
    });
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve(code ?? signal ?? 1);
    });
  });
  const stop = async (limitMs = PATIENCE_MS): Promise<number | NodeJS.Signals> => {
    kill('SIGTERM');
    const timer = setTimeout(() => kill('SIGKILL'), limitMs);
    const result = await ended;
    clearTimeout(timer);
    return result;
  };
  t.teardown(async () => {
    kill('SIGKILL');
    await ended;
  });
  return { pid: child.pid ?? -1, logs: () => output, ended, kill, stop, child };
}

/** A process that leads a group, and all that it started. */
function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // Nothing of the group is left.
  }
}

/** Runs a program to its end. After `limitMs` it is killed, and its code is 'SIGKILL'. */
export async function runProcess(
  t: Teardown,
  program: string,
  args: readonly string[],
  { limitMs = PATIENCE_MS, ...options }: ProcessOptions & { limitMs?: number } = {},
): Promise<{ code: number | NodeJS.Signals; output: string }> {
  const started = startProcess(t, program, args, options);
  const timer = setTimeout(() => started.kill('SIGKILL'), limitMs);
  const code = await started.ended;
  clearTimeout(timer);
  return { code, output: started.logs() };
}
