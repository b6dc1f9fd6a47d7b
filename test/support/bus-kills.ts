// Runs tasks of a bus while agents, sidecars and the bus itself are killed at random, and counts what became of them.
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { TaskRecord } from '../../sidecar/bus/log/task-record.ts';
import { type BusPod, Diary, startPod } from './bus-pod.ts';
import { seededRandom } from './seeded-random.ts';
import { logFile, Submitter } from './task-consumer.ts';

export interface KillOptions {
  readonly tasks: number;
  readonly kills: number;
  readonly seed: number;
  readonly pods?: number;
  readonly places?: number;
  /** How long a task takes its agent. */
  readonly workMs?: number;
  /** The bus to use, and how to kill it; a file by default, which nobody can kill. */
  readonly bus?: { readonly url: string; kill(): Promise<void> };
  /** Told after each kill. */
  onProgress?(text: string): void;
}

export interface KillReport {
  readonly tasks: number;
  /** Tasks with a result that is their own. */
  readonly settled: number;
  readonly dead: number;
  /** Runs that agents have begun. */
  readonly runs: number;
  /** Tasks in flight behind what was killed, over all kills. */
  readonly inFlight: number;
  readonly kills: Readonly<Record<'agent' | 'sidecar' | 'bus', number>>;
  readonly seconds: number;
}

/** Tasks that wait or run at a time: enough for all places, and not all of them at once. */
const OUTSTANDING = 200;

interface Kill {
  readonly atMs: number;
  /** The agent whose runs were behind what was killed; undefined for the bus. */
  readonly agentPid: number | undefined;
}

export async function runUnderKills(t: Pick<Test, 'teardown'>, options: KillOptions): Promise<KillReport> {
  const { tasks, kills, seed, pods: count = 3, places = 8, workMs = 20, onProgress = () => {} } = options;
  const random = seededRandom(seed);
  const startedMs = performance.now();
  const file = logFile(t);
  const url = options.bus?.url ?? `file:${file}`;
  const consume = { lease: '3s', places, max_runs: 10, retry_delay: { base: '50ms', max: '500ms' } };
  const diary = new Diary(join(dirname(file), 'diary'));
  const submitter = await Submitter.open(t, url, consume);
  const pods: BusPod[] = [];
  for (let i = 0; i < count; i++) pods.push(await startPod(t, { url, diary, consume }));

  const records: TaskRecord[] = [];
  let next = 0;
  let killed = 0;
  // Kills take longer than tasks: each finds some that run, and leaves some to the next.
  const step = tasks / (kills + 1);
  const margin = Math.min(100, tasks / 4);
  const mayBegin = (): boolean => killed === kills || next < (killed + 1) * step + margin;
  const submitAll = async (): Promise<void> => {
    while (next < tasks) {
      if (!mayBegin()) {
        await waitUntil('more tasks may begin', mayBegin, { limitMs: 600_000 });
        continue;
      }
      const id = `task-${next++}`;
      records.push(await settled(submitter, id, workMs));
    }
  };
  const done = Promise.all(Array.from({ length: Math.min(OUTSTANDING, tasks) }, submitAll));

  const all: Kill[] = [];
  const counts = { agent: 0, sidecar: 0, bus: 0 };
  const victims =
    options.bus === undefined ? (['agent', 'sidecar'] as const) : (['agent', 'sidecar', 'bus'] as const);
  for (let kill = 1; kill <= kills; kill++) {
    const due = Math.min(tasks, Math.floor(kill * step + margin / 2));
    await Promise.race([
      waitUntil(`${due} tasks are done`, () => records.length >= due, { limitMs: 600_000 }),
      done,
    ]);
    const victim = victims[Math.floor(random() * victims.length)]!;
    const pod = pods[Math.floor(random() * pods.length)]!;
    counts[victim]++;
    all.push({ atMs: Date.now(), agentPid: victim === 'bus' ? undefined : pod.agent.pid });
    if (victim === 'agent') await pod.killAgent();
    else if (victim === 'sidecar') await pod.killSidecar();
    else await options.bus!.kill();
    killed = kill;
    onProgress(`kill ${kill} of ${kills}: ${victim}; ${records.length} of ${tasks} tasks are done`);
  }
  await done;
  const isOwn = (record: TaskRecord): boolean => record.state === 'done' && record.result?.status === 0;
  return {
    tasks,
    settled: records.filter(isOwn).length,
    dead: records.filter(({ state }) => state === 'dead').length,
    runs: diary.count('begin'),
    inFlight: inFlight(all, diary, new Map(records.map((record) => [record.key, record])), submitter.keys),
    kills: counts,
    seconds: (performance.now() - startedMs) / 1_000,
  };
}

/** Submits a task and waits for its end; checks that the result is the task's own. */
async function settled(submitter: Submitter, id: string, workMs: number): Promise<TaskRecord> {
  const { key } = await submitter.submit({ id, input: `sleep ${workMs}` });
  const record = await submitter.watched(key);
  if (record.state === 'done' && !submitter.resultOf(record).answer?.includes(id))
    throw new Error(`task ${id} has another task's result`);
  return record;
}

/** The diary's clock and the test's are one; a process is killed a moment after the test has looked at it. */
const KILLED_WITHIN_MS = 100;

/** Runs that had begun when something before them was killed, and whose task had no result then. */
function inFlight(
  kills: readonly Kill[],
  diary: Diary,
  records: ReadonlyMap<string, TaskRecord>,
  keys: ReadonlyMap<string, string>,
): number {
  const begun = diary.lines.map((line) => line.split(' ')).filter(([what]) => what === 'begin');
  let count = 0;
  for (const { atMs, agentPid } of kills) {
    if (agentPid === undefined) continue;
    const untilMs = atMs + KILLED_WITHIN_MS;
    const latest = new Map<string, number>();
    for (const [, id, pid, beganAtMs] of begun)
      if (Number(beganAtMs) <= untilMs) latest.set(id!, Number(pid));
    for (const [id, pid] of latest)
      if (pid === agentPid && records.get(keys.get(id)!)!.endedAtMs > atMs) count++;
  }
  return count;
}
