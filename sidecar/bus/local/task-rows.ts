/** Rows of the table of tasks, and the records that they are outside. */
import type { TaskKey, TaskRecord, TaskResult, TaskState } from '../log/task-record.ts';

export interface TaskRow {
  readonly id: number;
  readonly key: TaskKey;
  readonly digest: string;
  readonly agent_type: string;
  readonly publisher: string;
  readonly caller: string;
  readonly generation: number;
  readonly state: TaskState;
  readonly run: number;
  readonly lost_runs: number;
  readonly began: number;
  readonly fence: number;
  readonly holder: string;
  readonly submitted_at: number;
  readonly available_at: number;
  readonly expires_at: number;
  readonly max_age: number;
  readonly started_at: number;
  readonly started_before: number;
  readonly ended_at: number;
  readonly deadline_at: number | null;
  /** A `Wanted`, as JSON. */
  readonly wanted: string;
  readonly lease_until: number | null;
  readonly due_at: number | null;
  readonly max_runs: number;
  readonly retry_base: number;
  readonly retry_max: number;
  readonly run_sequence: number;
  readonly last_sequence: number;
  readonly status: number | null;
  readonly cause: string;
  readonly request_bytes: number;
  readonly chunk_bytes: number;
  readonly result_bytes: number;
  readonly changed: number;
}

export function recordOf(row: TaskRow, short: Uint8Array | undefined): TaskRecord {
  const { status, run_sequence: lastSequence, result_bytes: bytes } = row;
  const result: TaskResult | undefined =
    row.state !== 'done' || status === null
      ? undefined
      : { status, lastSequence, bytes, short: short && bufferOf(short) };
  return {
    key: row.key,
    digest: row.digest,
    agentType: row.agent_type,
    publisher: row.publisher,
    caller: row.caller,
    generation: row.generation,
    state: row.state,
    run: row.run,
    lostRuns: row.lost_runs,
    holder: row.holder,
    submittedAtMs: row.submitted_at,
    startedAtMs: row.started_at,
    endedAtMs: row.ended_at,
    deadlineAtMs: row.deadline_at ?? Number.POSITIVE_INFINITY,
    lastSequence: row.last_sequence,
    result,
    cause: row.cause,
  };
}

/** The same bytes as a Buffer; a Buffer that was sent to another thread arrives as a Uint8Array. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
