// Runs one long task of a bus with real processes, and says how often its agent began it.
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import type { TaskRecord } from '../../sidecar/bus/log/task-record.ts';
import { Diary, startPod } from './bus-pod.ts';
import { logFile, Submitter } from './task-consumer.ts';

export interface LongReport {
  readonly state: TaskRecord['state'];
  /** Runs that agents have begun. */
  readonly runs: number;
  readonly lostRuns: number;
  /** From the start of the run to its result, by the clock of the log. */
  readonly seconds: number;
}

/** Two pods may take it, so that a lease that ends would make it run twice. */
export async function runLong(
  t: Pick<Test, 'teardown'>,
  { url, seconds, lease = '15s' }: { url?: string; seconds: number; lease?: string },
): Promise<LongReport> {
  const file = logFile(t);
  const bus = url ?? `file:${file}`;
  const diary = new Diary(join(dirname(file), 'diary'));
  const consume = { places: 1, lease };
  const submitter = await Submitter.open(t, bus, consume);
  await Promise.all([1, 2].map(() => startPod(t, { url: bus, diary, consume })));
  const { key } = await submitter.submit({ id: 'long', input: `sleep ${seconds * 1_000}` });
  const { state, lostRuns, startedAtMs, endedAtMs } = await submitter.watched(key);
  return { state, runs: diary.count('begin'), lostRuns, seconds: (endedAtMs - startedAtMs) / 1_000 };
}
