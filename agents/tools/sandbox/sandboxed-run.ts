/** One run behind walls: starts it, collects its output, and waits until nothing of it is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { descriptorsOf, type Launch, launchArguments, type Programs, reportFd } from './launch.ts';
import type { LimitName } from './limits.ts';
import type { Walls } from './tiers.ts';

export interface RunUsage {
  wallMs: number;
  cpuMs: number;
  /** The largest sum that was sampled, in bytes. */
  memory: number;
  processes: number;
}

/** How a run ended. `lost`: its supervisor was ended from outside, so nobody knows how far it came. */
export type RunEnd =
  | { kind: 'exited'; code: number; usage: RunUsage; stdout: Buffer; stderr: Buffer }
  | { kind: 'limit'; limit: LimitName; usage: RunUsage; stdout: Buffer; stderr: Buffer }
  | { kind: 'not_started'; failure: string; isProgram: boolean }
  /** By its caller; `started` if its program may have done some of its work. */
  | { kind: 'cancelled'; started: boolean }
  | { kind: 'lost' };

export interface RunOptions {
  stdin?: string | Buffer;
  /** Ends the run. */
  signal: AbortSignal;
  onOutput?: (stream: 'stdout' | 'stderr', chunk: Buffer) => void;
  /** Gets the runner's end of descriptor 3. */
  onProxy?: (connection: Duplex) => void;
}

/** What `confine supervise` writes at the end. */
interface Report {
  started: boolean;
  failure: string;
  code: number;
  signal: number;
  limit: LimitName | null;
  told: boolean;
  wall_ms: number;
  cpu_ms: number;
  memory: number;
  processes: number;
}

/** The user of every run. A runner that is root becomes this user for its runs. */
export const runUser = 15000;

/** The time for a supervisor to end its run; after it, it is ended itself, and the kernel ends the rest. */
const endMs = 5_000;

export function runBehind(
  walls: Walls,
  programs: Programs,
  launch: Launch,
  options: RunOptions,
): Promise<RunEnd> {
  const { signal } = options;
  if (signal.aborted) return Promise.resolve({ kind: 'cancelled', started: false });
  const asOther = process.getuid?.() === 0 ? { uid: runUser, gid: runUser } : {};
  const child = spawn(programs.confine, launchArguments(walls, programs, launch, process.pid), {
    cwd: '/',
    env: {},
    stdio: [
      // A pipe for nothing costs as much as one for something.
      options.stdin ? 'pipe' : 'ignore',
      ...(['pipe', 'pipe', launch.hasProxy ? 'pipe' : 'ignore', 'pipe'] as const),
      ...descriptorsOf(walls, programs),
    ],
    ...asOther,
  });
  return new Promise((resolve) => {
    const output = new Output(launch.limits.output, options.onOutput, () => stop(child));
    let report = '';
    let failure: string | undefined;
    let late: NodeJS.Timeout | undefined;
    const end = () => {
      stop(child);
      late ??= setTimeout(() => child.kill('SIGKILL'), endMs);
    };
    signal.addEventListener('abort', end, { once: true });
    child.once('error', (error) => {
      failure = error.message;
      if (child.pid === undefined) settle();
    });
    child.once('close', settle);
    output.read(child.stdout!, 'stdout');
    output.read(child.stderr!, 'stderr');
    (child.stdio[reportFd] as Readable).on('data', (chunk: Buffer) => {
      report += chunk.toString();
    });
    const proxied = child.stdio[3] as Duplex | null;
    if (launch.hasProxy && proxied) options.onProxy?.(proxied);
    // A program that does not read its input closes it.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.stdin);

    function settle(): void {
      clearTimeout(late);
      signal.removeEventListener('abort', end);
      proxied?.destroy();
      resolve(endOf(report, failure, signal.aborted, output, walls));
    }
  });
}

function stop(child: ChildProcess): void {
  child.kill('SIGTERM');
}

function endOf(
  text: string,
  failure: string | undefined,
  isCancelled: boolean,
  output: Output,
  walls: Walls,
): RunEnd {
  if (failure !== undefined) return { kind: 'not_started', failure, isProgram: false };
  const report = parseReport(text);
  if (report === undefined) return isCancelled ? { kind: 'cancelled', started: true } : { kind: 'lost' };
  const usage = {
    wallMs: report.wall_ms,
    cpuMs: report.cpu_ms,
    memory: report.memory,
    processes: report.processes,
  };
  const { stdout, stderr } = output;
  if (output.isFull) return { kind: 'limit', limit: 'output', usage, stdout, stderr };
  if (report.limit !== null) return { kind: 'limit', limit: report.limit, usage, stdout, stderr };
  if (isCancelled) return { kind: 'cancelled', started: report.started };
  if (!report.started) {
    const why = report.failure || stderr.toString().trim().slice(-500) || `${walls} did not start`;
    return { kind: 'not_started', failure: why, isProgram: report.failure.startsWith('/') };
  }
  if (report.told) return { kind: 'lost' };
  const code = report.signal > 0 ? 128 + report.signal : report.code;
  return { kind: 'exited', code, usage, stdout, stderr };
}

function parseReport(text: string): Report | undefined {
  try {
    return JSON.parse(text) as Report;
  } catch {
    return undefined;
  }
}

/** Collects both outputs up to the limit. */
class Output {
  isFull = false;
  private left: number;
  private readonly onOutput: RunOptions['onOutput'];
  private readonly onFull: () => void;
  private readonly chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };

  constructor(most: number, onOutput: RunOptions['onOutput'], onFull: () => void) {
    this.left = most;
    this.onOutput = onOutput;
    this.onFull = onFull;
  }

  get stdout(): Buffer {
    return Buffer.concat(this.chunks.stdout);
  }

  get stderr(): Buffer {
    return Buffer.concat(this.chunks.stderr);
  }

  read(from: Readable, stream: 'stdout' | 'stderr'): void {
    from.on('error', () => {});
    from.on('data', (chunk: Buffer) => {
      if (this.isFull) return;
      const kept = chunk.length > this.left ? chunk.subarray(0, this.left) : chunk;
      this.left -= kept.length;
      if (kept.length > 0) {
        this.chunks[stream].push(kept);
        this.onOutput?.(stream, kept);
      }
      if (kept.length === chunk.length) return;
      this.isFull = true;
      this.onFull();
    });
  }
}
