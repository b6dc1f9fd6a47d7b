/** What a task's key holds: the record, the lease of its run, and where request and result are. */
import { randomBytes } from 'node:crypto';
import type { TaskRecord, TaskState } from '../log/task-record.ts';
import type { Wanted } from '../log/wanted.ts';
import type { TaskName } from './names.ts';

export interface StoredTask {
  readonly digest: string;
  readonly agentType: string;
  readonly publisher: string;
  readonly caller: string;
  readonly generation: number;
  /** `dropped`: a dead task that was forgotten; only its generation still counts. */
  readonly state: TaskState | 'dropped';
  readonly run: number;
  readonly lostRuns: number;
  readonly holder: string;
  /** With fractions, which keep tasks of one millisecond in order. */
  readonly submittedAtMs: number;
  readonly startedAtMs: number;
  /** When the run before the present one began: one that is handed back leaves that behind. */
  readonly startedBeforeMs: number;
  readonly endedAtMs: number;
  /** null for none. */
  readonly deadlineAtMs: number | null;
  readonly wanted: Wanted;
  readonly lastSequence: number;
  readonly cause: string;
  /** Names the run's lease, also after its end; '' before the first run. */
  readonly lease: string;
  readonly leaseEndsAtMs: number;
  /** Whether the loss of this run counts. */
  readonly begun: boolean;
  /** The log that holds the lease, to which a cancel is told. */
  readonly log: string;
  /** Its present wait began then. */
  readonly queuedSinceMs: number;
  /** Not taken before; after a lost run. */
  readonly notBeforeMs: number;
  /** The sequence of its message in the queue; 0 while unknown. */
  readonly queued: number;
  /** Names the request's parts in a stream of their own; '' where it lies in the queue. */
  readonly largeRequest: string;
  /** When done. */
  readonly result: { readonly status: number; readonly lastSequence: number; readonly large: string } | null;
  /** Differs at each write, so that a writer whose answer was lost finds its own. */
  readonly write: string;
}

/** A key as it was read or written. */
export interface TaskEntry {
  readonly key: string;
  readonly revision: number;
  readonly task: StoredTask;
  /** The result's payload, unless large. */
  readonly body: Buffer;
}

export const nameOfEntry = ({ key, task }: TaskEntry): TaskName => ({ key, publisher: task.publisher });

/** A task that waits for its first run. */
export function newStoredTask(
  task: Pick<
    StoredTask,
    | 'digest'
    | 'agentType'
    | 'publisher'
    | 'caller'
    | 'generation'
    | 'largeRequest'
    | 'submittedAtMs'
    | 'deadlineAtMs'
    | 'wanted'
  >,
  queued: number,
): Omit<StoredTask, 'write'> {
  const { digest, agentType, publisher, caller, generation, largeRequest } = task;
  const { submittedAtMs, deadlineAtMs, wanted } = task;
  return {
    digest,
    agentType,
    publisher,
    caller,
    generation,
    largeRequest,
    state: 'queued',
    run: 0,
    lostRuns: 0,
    holder: '',
    submittedAtMs,
    startedAtMs: 0,
    startedBeforeMs: 0,
    endedAtMs: 0,
    deadlineAtMs,
    wanted,
    lastSequence: 0,
    cause: '',
    lease: '',
    leaseEndsAtMs: 0,
    begun: false,
    log: '',
    queuedSinceMs: submittedAtMs,
    notBeforeMs: 0,
    queued,
    result: null,
  };
}

/** What a key holds of a time that may never come. */
export const finite = (timeMs: number): number | null => (Number.isFinite(timeMs) ? timeMs : null);

const PROCESS_ID = randomBytes(9).toString('base64url');
let writes = 0;

/** Differs from all others, of this process and of others. */
export const writeId = (): string => `${PROCESS_ID}-${(++writes).toString(36)}`;

export function toRecord({ key, task }: TaskEntry, result: Buffer | undefined): TaskRecord {
  return {
    key,
    digest: task.digest,
    agentType: task.agentType,
    publisher: task.publisher,
    caller: task.caller,
    generation: task.generation,
    state: task.state === 'dropped' ? 'dead' : task.state,
    run: task.run,
    lostRuns: task.lostRuns,
    holder: task.state === 'running' ? task.holder : '',
    submittedAtMs: Math.floor(task.submittedAtMs),
    startedAtMs: Math.floor(task.startedAtMs),
    endedAtMs: Math.floor(task.endedAtMs),
    deadlineAtMs: task.deadlineAtMs === null ? Number.POSITIVE_INFINITY : Math.floor(task.deadlineAtMs),
    lastSequence: task.lastSequence,
    result:
      task.result === null || result === undefined
        ? undefined
        : { status: task.result.status, lastSequence: task.result.lastSequence, payload: result },
    cause: task.cause,
  };
}

export function isEnded({ state }: StoredTask): boolean {
  return state === 'done' || state === 'dead' || state === 'cancelled' || state === 'dropped';
}
