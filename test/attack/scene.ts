// The scene of every attack: a sidecar with default settings before a real grpcio agent, a caller that does nothing wrong,
// and what the attack may cost: the process lives, its memory stays bounded, and the innocent caller is served in time.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { residentBytes } from '../../scripts/harness/memory.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { BystanderFigures } from './bystander.ts';

/** What a sidecar may hold at the worst moment of an attack: injection gives it 512 MiB. */
export const PEAK_BYTES = 400_000_000;

/**
 * The bound of the bystander's 99th percentile: a constant for the collections and the bursts of any process, a multiple of
 * the slowest calm call, and a multiple of the time by which the bystander's own timers were late during the attack,
 * which is how busy the machine was with others.
 */
const BOUND = { constantMs: 1_000, timesCalm: 20, timesLate: 5 } as const;
/** An attack that ends sooner still meets so many calls. */
const LEAST_CALLS = 20;

type Teardown = Pick<Test, 'teardown'>;

export interface SceneOptions {
  /** Sections of the configuration besides `inbound.app`; none by default. */
  config?: Record<string, unknown>;
  env?: Record<string, string>;
  /** What starts the sidecar; it must replace itself by the program (exec). */
  launcher?: readonly string[];
  /** An address in place of the grpcio agent; false for no app. */
  app?: string | false;
  /** The folder of another checkout whose sidecar is attacked. */
  checkout?: string | undefined;
  /** False for a scene without a bystander, which is also one without an app. */
  bystander?: boolean;
}

export interface BystanderReport {
  /** Calls that were answered with OK while the attack ran. */
  readonly ok: number;
  /** What became of the others. */
  readonly failed: readonly string[];
  readonly slowestMs: number;
  readonly p99Ms: number;
  readonly boundMs: number;
}

export interface Scene {
  readonly sidecar: Sidecar;
  /** The greatest resident memory since the process began, in bytes. */
  readonly peakBytes: () => number;
  /** Resident memory now, in bytes. */
  readonly residentBytes: () => number;
  readonly alive: () => boolean;
  /**
   * Runs an attack while the bystander calls `ProcessTask`, one call after the other, through the inbound listener, from a
   * process and on a connection of its own. Calm calls before the attack give the bound.
   */
  readonly during: <T>(attack: () => Promise<T>) => Promise<{ result: T; bystander: BystanderReport }>;
  /**
   * Asserts what every attack must leave true: the process lives, its peak is below `PEAK_BYTES`, and each call of the
   * bystander was answered with OK, 99 of 100 within the bound.
   */
  readonly holds: (t: Test, bystander?: BystanderReport) => void;
}

/** Starts the scene; all of it ends with the test. The grpcio agent needs the tool `python`: skip without it. */
export async function startScene(t: Teardown, options: SceneOptions = {}): Promise<Scene> {
  const { config = {}, env = {}, launcher = [], app: given, checkout } = options;
  const app = given ?? `127.0.0.1:${await startGrpcioAgent(t)}`;
  const inbound = { ...((config['inbound'] as object | undefined) ?? {}), ...(app === false ? {} : { app }) };
  const sidecar = await startSidecar(
    t,
    { ...config, inbound },
    // A test runner's own options are none of the sidecar's.
    { env: { NODE_OPTIONS: '', ...env }, until: given === undefined ? 'ready' : 'live', launcher, checkout },
  );
  let ended: number | NodeJS.Signals | undefined;
  void sidecar.ended.then((code) => {
    ended = code;
  });
  const hasBystander = options.bystander ?? app !== false;
  const bystander = hasBystander ? await Bystander.start(t, sidecar.inboundPort) : undefined;
  const alive = (): boolean => ended === undefined;
  let peak = 0;
  const peakBytes = (): number => {
    // What a process had is gone with it; what was seen before stays.
    if (alive()) peak = Math.max(peak, highWaterBytes(sidecar.pid));
    return peak;
  };

  const during = async <T>(attack: () => Promise<T>): Promise<{ result: T; bystander: BystanderReport }> => {
    if (bystander === undefined) return { result: await attack(), bystander: NOBODY };
    const calm = await bystander.calm();
    await bystander.begin();
    let result: T;
    try {
      result = await attack();
    } finally {
      peakBytes();
      await bystander.end(LEAST_CALLS);
    }
    const figures = bystander.figures;
    const boundMs =
      BOUND.constantMs + BOUND.timesCalm * calm.slowestMs + BOUND.timesLate * figures.latestTimerMs;
    return { result, bystander: { ...figures, boundMs } };
  };

  const holds = (t: Test, report?: BystanderReport): void => {
    const said = alive() ? '' : `; its log:\n${sidecar.logs().slice(-2_000)}`;
    t.equal(ended, undefined, `the sidecar lives${said}`);
    const peakMb = Math.round(peakBytes() / 1e6);
    t.ok(peakBytes() < PEAK_BYTES, `its memory had a peak of ${peakMb} MB, below ${PEAK_BYTES / 1e6} MB`);
    if (report === undefined) return;
    t.strictSame(report.failed.slice(0, 3), [], `${report.ok} calls of the bystander were answered with OK`);
    t.ok(report.ok > 0, 'the bystander called');
    const figures = `99 of 100 within ${report.p99Ms.toFixed(1)} ms, all within ${report.slowestMs.toFixed(1)} ms`;
    t.ok(
      report.p99Ms <= report.boundMs,
      `its calls took ${figures}; the bound is ${Math.round(report.boundMs)} ms`,
    );
  };

  const residentNow = (): number => residentBytes(sidecar.pid);
  return { sidecar, peakBytes, residentBytes: residentNow, alive, during, holds };
}

const NOBODY: BystanderReport = { ok: 0, failed: [], slowestMs: 0, p99Ms: 0, boundMs: 0 };

/** @returns the port of a grpcio agent, as teams write them: test/support/python/agent.py */
export async function startGrpcioAgent(t: Teardown): Promise<number> {
  const script = join(import.meta.dirname, '../support/python/agent.py');
  const agent = startProcess(t, requireTool('python'), [script]);
  const port = await waitUntil('the grpcio agent printed its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
  return Number(port);
}

/** The process that calls; test/attack/bystander.ts is its program. */
class Bystander {
  private readonly process: TestProcess;
  /** Of the last attack. */
  figures: BystanderFigures = { ok: 0, failed: [], slowestMs: 0, p99Ms: 0, latestTimerMs: 0 };
  private answers = 0;

  private constructor(process: TestProcess) {
    this.process = process;
  }

  static async start(t: Teardown, port: number): Promise<Bystander> {
    const program = join(import.meta.dirname, 'bystander.ts');
    const options = { stdin: true, env: { NODE_OPTIONS: '' } };
    return new Bystander(startProcess(t, process.execPath, [program, `${port}`], options));
  }

  calm(): Promise<BystanderFigures> {
    return this.ask('calm');
  }

  async begin(): Promise<void> {
    await this.ask('begin');
  }

  async end(leastCalls: number): Promise<void> {
    this.figures = await this.ask(`end ${leastCalls}`);
  }

  /** Writes a line, and waits for the line of JSON that answers it. */
  private async ask(line: string): Promise<BystanderFigures> {
    this.process.child.stdin!.write(`${line}\n`);
    const wanted = ++this.answers;
    const answer = await waitUntil(`the bystander answered "${line}"`, () => {
      const lines = this.process.logs().match(/^\{.*\}$/gm) ?? [];
      return lines[wanted - 1];
    });
    return JSON.parse(answer) as BystanderFigures;
  }
}

/** The greatest resident memory that a process ever had, in bytes; 0 once it is gone. */
function highWaterBytes(pid: number): number {
  try {
    const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kib ?? 0) * 1024;
  } catch {
    return 0;
  }
}
