// What a fault did to the callers: a line of the table, and the bars it has to keep.
import { status } from '@grpc/grpc-js';
import type { CallRecord } from './calls.ts';
import { byTask, type Run, runTwice, TRAVEL_MS } from './run-record.ts';

export interface Bar {
  readonly bar: string;
  readonly holds: boolean;
  /** A number that other work on the machine makes worse, and never better: see `measured.ts`. */
  readonly measured?: boolean;
}

export interface Row {
  readonly fault: string;
  readonly calls: number;
  readonly ok: number;
  /** Failed with UNAVAILABLE, the code that every proxy was told to retry, where a second try harmed nobody. */
  readonly lost: number;
  /** Failed in a way that is not to be retried: another code, or the task may be running still. */
  readonly failed: number;
  /** Waited for an answer until their time was over. */
  readonly timedOut: number;
  /** Streams that ended after the caller had got a part of them. */
  readonly cut: number;
  /** Turned away with RESOURCE_EXHAUSTED. */
  readonly shed: number;
  /** Tasks that ran twice, see `runTwice`. */
  readonly twice: number;
  /** Attempts that went to the faulty replica while it was faulty. */
  readonly reached?: number;
  /** From the fault to the last call that was sent there, before it was left alone. */
  readonly outAfterMs?: number | 'never';
  /** From its end to the first call that was served there again. */
  readonly backAfterMs?: number | string;
  readonly note: string;
  readonly bars: readonly Bar[];
}

export type Counts = Pick<Row, 'calls' | 'ok' | 'lost' | 'failed' | 'timedOut' | 'cut' | 'shed' | 'twice'>;

/**
 * Counts what is the same for all faults. `timeoutMs` is the time the calls had.
 *
 * @param travelMs how long what processes tell each other may be under way
 */
export function countCalls(
  records: readonly CallRecord[],
  runs: readonly Run[],
  timeoutMs: number,
  travelMs = TRAVEL_MS,
): Counts {
  const runsOf = byTask(runs);
  const count = { calls: records.length, ok: 0, lost: 0, failed: 0, timedOut: 0, cut: 0, shed: 0 };
  for (const record of records) {
    if (record.code === status.OK) count.ok++;
    else if (record.chunks > 0) count.cut++;
    else if (record.code === status.RESOURCE_EXHAUSTED) count.shed++;
    // Whatever status it is given: Envoy's own timeout says UNAVAILABLE.
    else if (record.endedMs - record.startedMs >= timeoutMs * 0.95) count.timedOut++;
    else if (mayBeRetried(record, runsOf.get(record.task) ?? [], travelMs)) count.lost++;
    else count.failed++;
  }
  const made = new Set(records.map(({ task }) => task));
  return {
    ...count,
    twice: runTwice(
      runs.filter(({ task }) => made.has(task)),
      travelMs,
    ).length,
  };
}

/** Nothing of the task had come to an end that counts, and nothing was running any more when its call failed. */
function mayBeRetried(record: CallRecord, runs: readonly Run[], travelMs: number): boolean {
  if (record.code !== status.UNAVAILABLE) return false;
  return runs.every(
    ({ end, endedMs }) =>
      end !== undefined && end !== 'ok' && end !== 'answer_lost' && endedMs <= record.endedMs + travelMs,
  );
}

/** Why calls failed, for the note: `UNAVAILABLE connect_failed ×3`. */
export function failuresOf(records: readonly CallRecord[]): string {
  const counts = new Map<string, number>();
  for (const { code, reason } of records) {
    if (code === undefined || code === status.OK) continue;
    const what = `${status[code]}${reason === '' ? '' : ` ${reason}`}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].map(([what, count]) => `${what} ×${count}`).join(', ');
}

/** Milliseconds that so many percent of the calls took at most. */
export function latencyMs(records: readonly CallRecord[], percent: number): number {
  const sorted = records.map(({ startedMs, endedMs }) => endedMs - startedMs).sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0;
}
