// Drives the fuzzer: slices of time, each with a seed of its own, and what must hold of every process in each of them.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { type BystanderReport, PEAK_BYTES } from '../scene.ts';
import { Dice, partSeed } from './dice.ts';
import { episodeOf, type Stage } from './episodes.ts';
import { Lingering } from './sockets.ts';
import { type FuzzedSystem, startFuzzedSystem, type Watched } from './system.ts';

export interface FuzzOptions {
  /** Decides every byte that is sent; how connections interleave is the machine's. */
  readonly seed: number;
  readonly slices: number;
  readonly sliceMs: number;
  /** Only one episode, by the seed that a report names, over and over for one slice. */
  readonly episode?: number | undefined;
  /** Only episodes of this name. */
  readonly only?: string | undefined;
  readonly log: (line: string) => void;
}

export interface FuzzReport {
  readonly episodes: ReadonlyMap<string, number>;
  /** What did not hold, each in a sentence; empty when all did. */
  readonly violations: readonly string[];
  readonly peakBytes: ReadonlyMap<string, number>;
  /** What is resident once the slice is over: a leak shows here first. */
  readonly leftBytes: ReadonlyMap<string, number>;
  readonly bystander: BystanderReport;
  /** How far the attacks got, in words. */
  readonly outcome: string;
}

/** Conversations at a time. */
const LANES = 3;
/** Between two conversations of a lane. */
const PAUSE_MS = 5;
const WATCH_MS = 1_000;
const LIVE_LIMIT_MS = 10_000;
/** For everything that an attack left behind to be gone. */
const SETTLE_LIMIT_MS = 60_000;
/** Episodes that a report names: one of them was on when something broke. */
const NAMED_EPISODES = 12;

/** Runs slice after slice until one does not hold. */
export async function runFuzz(t: Pick<Test, 'teardown'>, options: FuzzOptions): Promise<FuzzReport> {
  const { seed, slices, log } = options;
  const system = await startFuzzedSystem(t, seed);
  log(`the sidecar runs ${system.memory}`);
  let report: FuzzReport | undefined;
  for (let slice = 0; slice < slices; slice++) {
    const sliceSeed = slice === 0 ? seed : partSeed(seed, slice);
    log(`slice ${slice + 1} of ${slices}, seed ${sliceSeed}`);
    report = joined(report, await new Slice(system, options, sliceSeed).run());
    log(describe(report));
    if (report.violations.length > 0) break;
  }
  return (
    report ?? {
      episodes: new Map(),
      violations: ['no slice ran'],
      peakBytes: new Map(),
      leftBytes: new Map(),
      bystander: NOBODY,
      outcome: '',
    }
  );
}

const NOBODY: BystanderReport = { ok: 0, failed: [], slowestMs: 0, p99Ms: 0, boundMs: 0 };

class Slice {
  private readonly system: FuzzedSystem;
  private readonly options: FuzzOptions;
  private readonly seed: number;
  private readonly lingering = new Lingering();
  private readonly episodes = new Map<string, number>();
  private readonly recent: string[] = [];
  private readonly violations: string[] = [];
  private over = false;
  private outcome = '';

  constructor(system: FuzzedSystem, options: FuzzOptions, seed: number) {
    this.system = system;
    this.options = options;
    this.seed = seed;
  }

  async run(): Promise<FuzzReport> {
    const { scene, watched } = this.system;
    const { bystander } = await scene.during(() => this.attack());
    if (watched.every(({ alive }) => alive())) await this.settle();
    const bytesOf = (field: MemoryField) =>
      new Map(watched.map((process) => [process.name, memoryOf(process, field)] as const));
    const peakBytes = bytesOf('VmHWM');
    const leftBytes = bytesOf('VmRSS');
    for (const [name, bytes] of peakBytes) {
      if (bytes >= PEAK_BYTES) this.violate(`the ${name} had a peak of ${megabytes(bytes)}`);
    }
    for (const problem of watched.map(defectOf))
      if (problem !== undefined && this.violations.length === 0) this.violate(problem);
    if (bystander.failed.length > 0) this.violate(`a call of the bystander failed: ${bystander.failed[0]}`);
    if (bystander.p99Ms > bystander.boundMs)
      this.violate(
        `99 of 100 calls of the bystander took up to ${ms(bystander.p99Ms)}, above ${ms(bystander.boundMs)}`,
      );
    const { episodes, violations, outcome } = this;
    return { episodes, violations, peakBytes, leftBytes, bystander, outcome };
  }

  private async attack(): Promise<void> {
    const endAtMs = performance.now() + this.options.sliceMs;
    const watching = this.watch(endAtMs);
    const lanes = Array.from({ length: LANES }, (_, lane) => this.lane(partSeed(this.seed, lane), endAtMs));
    await Promise.all(lanes);
    this.over = true;
    await watching;
    this.lingering.close();
  }

  private async lane(seed: number, endAtMs: number): Promise<void> {
    const stage: Stage = { system: this.system, lingering: this.lingering };
    for (let index = 0; performance.now() < endAtMs && this.violations.length === 0; index++) {
      const episodeSeed = this.options.episode ?? partSeed(seed, index);
      const dice = new Dice(episodeSeed);
      const { name, run } = episodeOf(dice, this.options.only);
      this.episodes.set(name, (this.episodes.get(name) ?? 0) + 1);
      this.recent.push(`${name} ${episodeSeed}`);
      if (this.recent.length > NAMED_EPISODES) this.recent.shift();
      await run(dice, stage);
      await sleep(PAUSE_MS);
    }
  }

  /** Ends the slice early when a process has ended, or does not say that it lives. */
  private async watch(endAtMs: number): Promise<void> {
    while (!this.over && performance.now() < endAtMs) {
      for (const process of this.system.watched) {
        const problem = (await notAlive(process)) ?? defectOf(process);
        if (problem !== undefined) {
          this.violate(problem);
          return;
        }
      }
      await sleep(WATCH_MS);
    }
  }

  /** No call may outlive its connection: what is counted as running must come to nothing once the attack has gone. */
  private async settle(): Promise<void> {
    const { adminPort } = this.system.scene.sidecar;
    let left = '';
    try {
      await waitUntil(
        'no call is left of the attack',
        async () => {
          const response = await fetch(`http://127.0.0.1:${adminPort}/stats`);
          const stats = (await response.json()) as Stats;
          const { listeners, llm } = stats;
          this.outcome = outcomeOf(stats);
          const counts = [
            listeners.inbound.active_calls,
            listeners.outbound.active_calls,
            llm.active_requests,
          ];
          left = `inbound ${counts[0]}, outbound ${counts[1]}, egress ${counts[2]}`;
          return counts.every((count) => count === 0);
        },
        { limitMs: SETTLE_LIMIT_MS, everyMs: 100 },
      );
    } catch {
      this.violate(`calls are left ${SETTLE_LIMIT_MS / 1_000} s after the attack: ${left}`);
    }
  }

  private violate(what: string): void {
    const episodes = this.recent.join(', ');
    this.violations.push(`${what}\n    seed ${this.seed}; the latest episodes: ${episodes}`);
  }
}

interface Stats {
  readonly listeners: Readonly<Record<'inbound' | 'outbound', ListenerStats>>;
  readonly llm: {
    active_requests: number;
    requests: readonly { outcomes: Readonly<Record<string, number>> }[];
  };
}

interface ListenerStats {
  readonly active_calls: number;
  readonly total_requests: number;
  readonly rejected: Readonly<Record<string, number>>;
}

/** How far the attacks got, over all slices: a fuzzer whose every conversation ends at the door finds nothing. */
function outcomeOf({ listeners, llm }: Stats): string {
  const counted = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  const egress: Record<string, number> = {};
  for (const { outcomes } of llm.requests)
    for (const [name, count] of Object.entries(outcomes)) egress[name] = (egress[name] ?? 0) + count;
  const of = (name: 'inbound' | 'outbound'): string => {
    const { total_requests, rejected } = listeners[name];
    return `${name} ${total_requests} calls (${counted(rejected)})`;
  };
  return `${of('inbound')}; ${of('outbound')}; egress ${counted(egress)}`;
}

function defectOf({ name, defects: [first] }: Watched): string | undefined {
  return first === undefined ? undefined : `the ${name} logged a failure of its own: ${first}`;
}

async function notAlive({ name, alive, liveUrl, logs }: Watched): Promise<string | undefined> {
  const ended = () => `the ${name} has ended; its log:\n${logs().slice(-3_000)}`;
  if (!alive()) return ended();
  try {
    const { ok, status } = await fetch(liveUrl, { signal: AbortSignal.timeout(LIVE_LIMIT_MS) });
    return ok || status === 404 ? undefined : `the ${name} says that it does not live: ${status}`;
  } catch (error) {
    // A connection may be turned away or be cut; a process that is there answers the next time.
    await sleep(WATCH_MS);
    if (!alive()) return ended();
    const response = await fetch(liveUrl, { signal: AbortSignal.timeout(LIVE_LIMIT_MS) }).catch(
      () => undefined,
    );
    return response === undefined ? `the ${name} does not answer: ${(error as Error).message}` : undefined;
  }
}

/** Resident memory: the greatest so far, and what there is now. */
type MemoryField = 'VmHWM' | 'VmRSS';

/** In bytes; 0 once the process is gone. */
function memoryOf({ pid }: Watched, field: MemoryField): number {
  try {
    const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(
      readFileSync(`/proc/${pid}/status`, 'utf8'),
    );
    return Number(line?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function joined(before: FuzzReport | undefined, now: FuzzReport): FuzzReport {
  if (before === undefined) return now;
  const episodes = new Map(before.episodes);
  for (const [name, count] of now.episodes) episodes.set(name, (episodes.get(name) ?? 0) + count);
  return { ...now, episodes };
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
const ms = (value: number): string => `${value.toFixed(1)} ms`;

function describe({ episodes, peakBytes, leftBytes, bystander, violations, outcome }: FuzzReport): string {
  const counts = [...episodes].map(([name, count]) => `${name} ${count}`).join(', ');
  const inWords = (all: ReadonlyMap<string, number>) =>
    [...all].map(([name, bytes]) => `${name} ${megabytes(bytes)}`).join(', ');
  const { ok, p99Ms, slowestMs, boundMs } = bystander;
  return [
    `  episodes so far: ${counts}`,
    `  what came of it: ${outcome}`,
    `  peaks: ${inWords(peakBytes)}; resident now: ${inWords(leftBytes)}`,
    `  bystander: ${ok} calls, 99 of 100 within ${ms(p99Ms)}, all within ${ms(slowestMs)}; the bound is ${ms(boundMs)}`,
    ...violations.map((violation) => `  NOT HELD: ${violation}`),
  ].join('\n');
}
