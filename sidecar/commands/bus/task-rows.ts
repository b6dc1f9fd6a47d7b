/** Writes tasks as a table or as JSON, without what they contain. */
import type { TaskRecord } from '../../bus/log/task-record.ts';
import { statusName } from '../../grpc/status.ts';
import { age, table } from '../table.ts';

export function taskAsJson(record: TaskRecord) {
  const { key, agentType, state, publisher, generation, run, lostRuns, holder, cause, result } = record;
  return {
    id: key,
    agent_type: agentType,
    state,
    status: result === undefined ? null : statusName(result.status),
    publisher,
    generation,
    run,
    lost_runs: lostRuns,
    holder,
    submitted_at: timeOf(record.submittedAtMs),
    started_at: timeOf(record.startedAtMs),
    ended_at: timeOf(record.endedAtMs),
    deadline_at: Number.isFinite(record.deadlineAtMs) ? timeOf(record.deadlineAtMs) : null,
    cause,
  };
}

function timeOf(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString();
}

const HEADER = ['ID', 'AGENT TYPE', 'STATE', 'AGE', 'RUN', 'LOST', 'PUBLISHER', 'HELD BY'];

export function taskTable(records: readonly TaskRecord[], nowMs: number): string {
  const rows = records.map(
    ({ key, agentType, state, submittedAtMs, run, lostRuns, publisher, holder, result }) => [
      key,
      agentType,
      result === undefined ? state : `${state} ${statusName(result.status)}`,
      age(Math.max(0, nowMs - submittedAtMs)),
      String(run),
      String(lostRuns),
      publisher || '-',
      holder || '-',
    ],
  );
  return table(HEADER, rows);
}

const DEAD_HEADER = ['ID', 'AGENT TYPE', 'DIED', 'RUNS', 'CAUSE'];

export function deadTable(records: readonly TaskRecord[], nowMs: number): string {
  const rows = records.map(({ key, agentType, endedAtMs, run, cause }) => [
    key,
    agentType,
    `${age(Math.max(0, nowMs - endedAtMs))} ago`,
    String(run),
    cause || '-',
  ]);
  return table(DEAD_HEADER, rows);
}
