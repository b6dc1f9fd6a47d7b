// Scenarios with more calls than the replicas can serve.
import { setTimeout as sleep } from 'node:timers/promises';
import { isOk } from './calls.ts';
import { Load } from './load.ts';
import { callerMesh, type Fleet, temporaryFolder } from './mesh.ts';
import { commonBars, type Scenario } from './one-fault.ts';
import { Pod } from './pod.ts';
import { type Owner, SETTINGS } from './proxy.ts';
import { countCalls, failuresOf, latencyMs, type Row } from './row.ts';
import { peakConcurrency } from './run-record.ts';

const PODS = 2;
const WORKERS = 2;
/** Long enough that the machine hardly matters: an agent waits for its model. */
const SERVICE_MS = 100;
/** 40 calls a second. */
const CAPACITY = (PODS * WORKERS * 1_000) / SERVICE_MS;
const TIMES = 5;
const FOR_MS = 3_000;
/** The caller's deadline; a later answer has no value. */
const TIMEOUT_MS = 600;
const BAR_PERCENT = 80;

/** Each pod admits the calls that its replica works on, and as many in its queue. */
const LIMIT = 2 * WORKERS;

const NAME = `overload at ${TIMES} times capacity`;

const overload: Scenario = { name: NAME, alone: true, run: overloadOnce };

async function overloadOnce({ kind }: Fleet, owner: Owner): Promise<Row> {
  const folder = temporaryFolder(owner);
  const settings = { ...SETTINGS, maxConcurrentCalls: LIMIT };
  const pods = await Promise.all(
    Array.from({ length: PODS }, (_, index) =>
      Pod.start(owner, kind, settings, { name: `small-${index + 1}`, folder }),
    ),
  );
  await Promise.all(pods.map((pod) => pod.behave({ workers: WORKERS, serviceMs: SERVICE_MS })));
  const endpoints = pods.map(({ address }) => address);
  const mesh = await callerMesh(owner, kind, pods, { ...SETTINGS, name: 'caller', endpoints });

  const startMs = Date.now();
  const load = new Load(mesh.caller, {
    perSecond: TIMES * CAPACITY,
    streamEvery: 0,
    timeoutMs: TIMEOUT_MS,
  });
  await sleep(FOR_MS);
  const endMs = Date.now();
  const records = await load.stop();
  const good = records.filter((record) => isOk(record) && record.endedMs <= endMs);
  const goodput = (good.length * 1_000) / (endMs - startMs);
  const percent = Math.round((100 * goodput) / CAPACITY);
  const counts = countCalls(records, mesh.runs(load.travelMs), TIMEOUT_MS, load.travelMs);
  return {
    fault: NAME,
    ...counts,
    // No replica has capacity for them: whatever their status, they were refused.
    lost: 0,
    shed: counts.shed + counts.lost,
    note: [
      `goodput ${percent} % of ${CAPACITY}/s, p99 of answers ${latencyMs(good, 99)} ms`,
      `at most ${Math.max(...pods.map(({ runs }) => peakConcurrency(runs)))} at a replica`,
      failuresOf(records),
    ].join('; '),
    bars: [
      ...commonBars(counts).slice(1),
      {
        bar: `goodput above ${BAR_PERCENT} % of capacity (${percent} %)`,
        holds: percent >= BAR_PERCENT,
        measured: true,
      },
    ],
  };
}

export const overloadScenarios: readonly Scenario[] = [overload];
