// The pattern of most scenarios: one replica of several gets a fault under load, and recovers later.
import { setTimeout as sleep } from 'node:timers/promises';
import type { CallRecord } from './calls.ts';
import { Load, type LoadOptions } from './load.ts';
import type { Fleet, Mesh, MeshOptions } from './mesh.ts';
import type { Pod } from './pod.ts';
import type { Owner, ProxySettings } from './proxy.ts';
import { type Bar, type Counts, countCalls, failuresOf, latencyMs, type Row } from './row.ts';
import { Watch } from './watch.ts';

export interface Scenario {
  readonly name: string;
  /** Whether others beside it would spoil what it measures. */
  readonly alone?: boolean;
  run(fleet: Fleet, owner: Owner): Promise<Row>;
}

/** The measurements for the bars. */
export interface Measured {
  readonly counts: Counts;
  readonly records: readonly CallRecord[];
  readonly reached: number;
  /** Calls in flight at the start of the fault. */
  readonly inFlight: number;
  readonly balancer: ProxySettings['balancer'];
}

export interface OneFault {
  readonly name: string;
  readonly mesh?: MeshOptions;
  readonly load?: Partial<LoadOptions>;
  readonly faultMs?: number;
  /** Causes the fault, and returns a function that ends it. */
  fault(pod: Pod, mesh: Mesh): Promise<() => Promise<unknown>>;
  readonly bars?: (measured: Measured) => Bar[];
  readonly note?: (measured: Measured) => string;
}

/** Callers wait a little longer than their proxy (SETTINGS.timeoutMs), so that the proxy times out first. */
export const LOAD: LoadOptions = { perSecond: 80, streamEvery: 5, timeoutMs: 2_500 };
const BEFORE_MS = 700;
const FAULT_MS = 2_500;
/** The longest wait for a recovered replica to get calls again. */
const BACK_LIMIT_MS = 4_000;

export function oneFault(plan: OneFault): Scenario {
  return {
    name: plan.name,
    async run(fleet, owner) {
      const mesh = await fleet.mesh(owner, plan.mesh);
      const options = { ...LOAD, ...plan.load };
      const load = new Load(mesh.caller, options);
      await sleep(BEFORE_MS);
      const pod = busiest(mesh);
      const watch = await Watch.begin(mesh.front, pod.address);
      const { inFlight } = load;
      const faultAtMs = Date.now();
      const mend = await plan.fault(pod, mesh);
      await sleep(plan.faultMs ?? FAULT_MS);
      const faultEndMs = Date.now();
      await mend();
      const mendedAtMs = Date.now();
      const backAtMs = await servedAgain(pod, load, mendedAtMs);
      await sleep(200);
      const records = await load.stop();
      await watch.stop();
      const measured: Measured = {
        counts: countCalls(records, mesh.runs(load.travelMs), mesh.settings.timeoutMs, load.travelMs),
        records,
        reached: watch.sentBetween(faultAtMs, faultEndMs),
        inFlight,
        balancer: mesh.settings.balancer,
      };
      const { counts, reached } = measured;
      const notes = [plan.note?.(measured), failuresOf(records)];
      return {
        fault: plan.name,
        ...counts,
        reached,
        outAfterMs: watch.quietAfterMs(faultAtMs, faultEndMs),
        backAfterMs: backAtMs === undefined ? `over ${BACK_LIMIT_MS}` : backAtMs - mendedAtMs,
        note: notes.filter((note) => note !== undefined && note !== '').join('; '),
        bars: [...commonBars(counts), ...(plan.bars?.(measured) ?? [])],
      };
    },
  };
}

/** The replica that a fault hurts most; a balancer need not use all alike. */
export function busiest({ pods }: Mesh): Pod {
  return pods.toSorted((a, b) => b.runs.length - a.runs.length)[0]!;
}

/** When the replica began the first task made after `sinceMs`. */
async function servedAgain(pod: Pod, load: Load, sinceMs: number): Promise<number | undefined> {
  const endMs = Date.now() + BACK_LIMIT_MS;
  while (Date.now() < endMs) {
    const fresh = new Set(
      load.records.filter(({ startedMs }) => startedMs >= sinceMs).map(({ task }) => task),
    );
    const run = pod.runs.find(
      ({ task, beganMs, end }) => beganMs >= sinceMs && end === 'ok' && fresh.has(task),
    );
    if (run !== undefined) return run.beganMs;
    await sleep(50);
  }
  return undefined;
}

export function commonBars({ lost, twice }: { lost: number; twice: number }): Bar[] {
  return [
    { bar: `no call lost that was safe to retry (${lost})`, holds: lost === 0 },
    { bar: `no task run twice (${twice})`, holds: twice === 0 },
  ];
}

/**
 * A silent replica costs the calls in flight and the calls until its detection: few if the balancer notices it too;
 * with round robin all that go there in a second, about a third of the calls.
 */
export function grayBars({ counts, inFlight, balancer }: Measured): Bar[] {
  const cost = counts.calls - counts.ok;
  const toNotice = balancer === 'round_robin' ? Math.ceil(LOAD.perSecond / 3) : 10;
  const limit = inFlight + toNotice;
  const bar = `a silent replica costs at most ${limit} calls (${cost})`;
  return [{ bar, holds: cost <= limit, measured: true }];
}

export const latencyNote = ({ records }: Measured): string =>
  `latency p50 ${latencyMs(records, 50)} ms, p99 ${latencyMs(records, 99)} ms`;
