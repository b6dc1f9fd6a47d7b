// The common procedure of all sections: start the targets, prove that each one works, warm up, measure in interleaved
// rounds, keep every value.
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { RawClient } from '../test/support/raw-grpc.ts';
import { skipWithout } from '../test/support/tool.ts';
import { Cleanup } from './cleanup.ts';
import type { SectionResult, SectionRow } from './results.ts';
import { type Setup, startTarget, type Target, targets } from './targets.ts';
import { largeAnswer, paths, smallAnswer } from './traffic/answers.ts';
import { type Measured, runTraffic, type Traffic } from './traffic/run.ts';
import { taskMessage } from './traffic/task-message.ts';
import { startWorld, type World } from './world.ts';

export interface MeasureSpec {
  readonly title: string;
  readonly better: 'more' | 'less';
  /** Decimal places in tables; by size when absent. */
  readonly digits?: number;
  /** A figure about the measurement itself, which is not compared with the peers'. */
  readonly aside?: true;
}

export interface Section {
  /** Of the option --rows and of the file of results. */
  readonly name: string;
  readonly title: string;
  /** What is done, for the reader of the report. */
  readonly about: string;
  /** Names of targets, in the order of the table. */
  readonly targets: readonly string[];
  /** Without them with --quick; all when absent. */
  readonly quickTargets?: readonly string[];
  /** Each target is started once for each of these; one without a name when absent. */
  readonly variants?: readonly string[];
  readonly quickVariants?: readonly string[];
  readonly measures: Readonly<Record<string, MeasureSpec>>;
  /** Rounds of a full run; the common number when absent. */
  readonly rounds?: number;
  /** Each round has processes of its own, one after the other. */
  readonly fresh?: boolean;
  /** Whether a target has this variant at all; each has all when absent. */
  readonly applies?: (target: string, variant: string) => boolean;
  /** Why this one can't be measured, or false. */
  readonly lacks?: (target: string, variant: string) => string | false;
  /** How a target is started; in front of the plain upstream when absent. */
  readonly start?: (world: World, target: string, variant: string) => Promise<Target>;
  readonly measure: (run: Run) => Promise<void>;
}

export interface Run {
  readonly world: World;
  readonly target: Target;
  readonly variant: string;
  readonly quick: boolean;
  /** Of each measurement. */
  readonly seconds: number;
  /** Keeps a value of this round. */
  readonly record: (measure: string, value: number) => void;
  readonly traffic: (traffic: Traffic) => Promise<Measured>;
}

export interface ProcedureOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly quick: boolean;
  /** Names of targets; all that can be had when empty. */
  readonly only: readonly string[];
  readonly log: (line: string) => void;
}

/** After this long a process that has started is idle. */
const SETTLE_MS = 2_500;
const WARM_UP = { connections: 4, streams: 25 } as const;

interface Running {
  readonly row: SectionRow;
  target: Target | undefined;
}

export function checkMachine(): void {
  if (process.platform !== 'linux' || cpus().length < 2)
    throw new Error(
      'the bench pins processes to cores and reads /proc: it needs Linux with two cores or more',
    );
  const lacking = skipWithout('taskset');
  if (lacking !== false) throw new Error(lacking);
}

export async function measureSection(section: Section, options: ProcedureOptions): Promise<SectionResult> {
  const { seconds, quick, only, log } = options;
  const rounds = quick ? options.rounds : (section.rounds ?? options.rounds);
  const result: SectionResult = {
    section: section.name,
    at: new Date().toISOString(),
    commit: commit(),
    processor: cpus()[0]!.model,
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    loadBefore: loadavg()[0]!,
    rounds,
    seconds,
    rows: [],
  };
  const cleanup = new Cleanup();
  try {
    const world = await startWorld(cleanup);
    const running: Running[] = [];
    for (const name of (quick ? section.quickTargets : undefined) ?? section.targets) {
      if (only.length > 0 && !only.some((wanted) => name.startsWith(wanted))) continue;
      for (const variant of (quick ? section.quickVariants : undefined) ?? section.variants ?? ['']) {
        if (section.applies?.(name, variant) === false) continue;
        const row: SectionRow = { target: name, variant, values: {} };
        const missing = targets[name]?.missing() || section.lacks?.(name, variant) || false;
        if (missing !== false) row.missing = missing;
        result.rows.push(row);
        if (missing === false) running.push({ row, target: undefined });
        else log(`${label(row)}: left out (${missing})`);
      }
    }
    if (section.fresh !== true) {
      for (const entry of running) await attempt(entry.row, log, () => begin(section, world, entry, quick));
      await sleep(quick ? SETTLE_MS / 2 : SETTLE_MS);
    }
    for (let round = 1; round <= rounds; round++) {
      for (const entry of running) {
        const { row } = entry;
        const values: Record<string, number> = {};
        const record = (measure: string, value: number): void => {
          values[measure] = value;
          row.values[measure] = [...(row.values[measure] ?? []), value];
        };
        await attempt(row, log, async () => {
          if (section.fresh === true) await begin(section, world, entry, quick);
          const { target } = entry;
          if (target === undefined) return;
          const traffic = (traffic: Traffic): Promise<Measured> =>
            runTraffic(cleanup, target, { seconds, warmUpSeconds: warmUpOf(seconds), ...traffic });
          await section.measure({ world, target, variant: row.variant, quick, seconds, record, traffic });
        });
        if (section.fresh === true) await entry.target?.stop();
        log(`${section.name}, round ${round} of ${rounds}, ${label(row)}: ${describe(values)}`);
      }
      // Each round begins with another target, so that none always follows the same neighbour.
      running.push(...running.splice(0, 1));
    }
    result.loadAfter = loadavg()[0]!;
    return result;
  } finally {
    await cleanup.run();
  }
}

/** Starts a target and sees that it works; the code that it runs is compiled by calls. */
async function begin(section: Section, world: World, entry: Running, quick: boolean): Promise<void> {
  const { target: name, variant } = entry.row;
  entry.target = await (section.start?.(world, name, variant) ?? startTarget(name, world.setup));
  if (section.fresh === true) return;
  if (section.start === undefined) await proveItWorks(entry.target);
  else return;
  await runTraffic(world.cleanup, entry.target, { ...WARM_UP, seconds: quick ? 0.5 : 2, warmUpSeconds: 0 });
}

/** One real call with grpc-js first, byte for byte: what is not the right answer must not be measured. */
export async function proveItWorks({ name, port }: Target): Promise<void> {
  const own = new Cleanup();
  try {
    const client = new RawClient(own, port);
    const request = taskMessage(100).subarray(5);
    for (const [path, answer] of [
      [paths.small, smallAnswer],
      [paths.large, largeAnswer],
    ] as const) {
      const outcome = await client.unary(request, { path, deadline: Date.now() + 10_000 });
      if (outcome.code !== 0 || outcome.response?.equals(answer.subarray(5)) !== true)
        throw new Error(`${name} answers ${path} with ${outcome.code} ${outcome.details}`);
    }
  } finally {
    await own.run();
  }
}

/** What one target does not do is no reason to lose what the others did: it is kept with its row, and said. */
async function attempt(
  row: SectionRow,
  log: (line: string) => void,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await step();
  } catch (error) {
    const { message } = error as Error;
    row.failures = [...(row.failures ?? []), message];
    log(`${label(row)}: ${message}`);
  }
}

/** A third of the time, as much as lets a connection and its streams get under way. */
function warmUpOf(seconds: number): number {
  return Math.max(0.4, seconds / 3);
}

function label({ target, variant }: SectionRow): string {
  return variant === '' ? target : `${target}, ${variant}`;
}

function describe(values: Readonly<Record<string, number>>): string {
  const parts = Object.entries(values).map(
    ([name, value]) => `${name} ${value.toFixed(Math.abs(value) < 10 ? 2 : 0)}`,
  );
  return parts.length === 0 ? 'nothing' : parts.join(', ');
}

/** Undefined outside of a repository; with a plus where files were changed since. */
function commit(): string | undefined {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, {
        cwd: import.meta.dirname,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    const changed = git('status', '--porcelain', '--untracked-files=no', '../sidecar').trim() !== '';
    return `${git('rev-parse', '--short', 'HEAD').trim()}${changed ? '+' : ''}`;
  } catch {
    return undefined;
  }
}

export type { Setup };
