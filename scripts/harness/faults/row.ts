// The effects of a fault on callers: a row of the table, and the bars that it has to meet.
import { status } from '@grpc/grpc-js';
import type { CallRecord } from './calls.ts';
import { byTask, type Run, runTwice, TRAVEL_MS } from './run-record.ts';

export interface Bar {
  readonly bar: string;
  readonly holds: boolean;
  /** Whether other work on the machine can worsen, but never improve, the number: see `measured.ts`. */
  readonly measured?: boolean;
}

export interface Row {
  readonly fault: string;
  readonly calls: number;
  readonly ok: number;
  /** Failed with UNAVAILABLE, the code that every proxy retries, although a second try would have been harmless. */
  readonly lost: number;
  /** Failed without permission to retry: with another code, or while the task may still run. */
  readonly failed: number;
  /** Waited for an answer until the deadline. */
  readonly timedOut: number;
  /** Streams that ended after the caller had received a part of them. */
  readonly cut: number;
  /** Refused with RESOURCE_EXHAUSTED. */
  readonly shed: number;
  /** Tasks that ran twice, see `runTwice`. */
  readonly twice: number;
  /** Attempts at the faulty replica during the fault. */
  readonly reached?: number;
  /** From the fault to the last call at the replica before the proxy avoided it. */
  readonly outAfterMs?: number | 'never';
  /** From the end of the fault to the first call that the replica served again. */
  readonly backAfterMs?: number | string;
  readonly note: string;
  readonly bars: readonly Bar[];
}

export type Counts = Pick<Row, 'calls' | 'ok' | 'lost' | 'failed' | 'timedOut' | 'cut' | 'shed' | 'twice'>;

/**
 * Counts what all faults have in common. `timeoutMs` is the deadline of the calls.
 *
 * @param travelMs the possible delay of messages between processes
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
    // Whatever its status: Envoy reports its own timeout as UNAVAILABLE.
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

/** When its call failed, no run of the task had an end that counts, and none was in progress. */
function mayBeRetried(record: CallRecord, runs: readonly Run[], travelMs: number): boolean {
  if (record.code !== status.UNAVAILABLE) return false;
  return runs.every(
    ({ end, endedMs }) =>
      end !== undefined && end !== 'ok' && end !== 'answer_lost' && endedMs <= record.endedMs + travelMs,
  );
}

/** The reasons of failed calls, for the note: `UNAVAILABLE connect_failed ×3`. */
export function failuresOf(records: readonly CallRecord[]): string {
  const counts = new Map<string, number>();
  for (const { code, reason } of records) {
    if (code === undefined || code === status.OK) continue;
    const what = `${status[code]}${reason === '' ? '' : ` ${reason}`}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].map(([what, count]) => `${what} ×${count}`).join(', ');
}

/** The latency percentile in milliseconds. */
export function latencyMs(records: readonly CallRecord[], percent: number): number {
  const sorted = records.map(({ startedMs, endedMs }) => endedMs - startedMs).sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0;
}
