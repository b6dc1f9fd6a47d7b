/** Describes what a task's key holds: the record, the lease of its run, and where request and result are. */
import { randomBytes } from 'node:crypto';
import { SHORT_ANSWER_BYTES, type TaskRecord, type TaskResult, type TaskState } from '../log/task-record.ts';
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
  readonly requestBytes: number;
  /** Names the request's parts in a stream of their own; '' where it lies in the queue. */
  readonly largeRequest: string;
  /** When done. */
  readonly result: StoredResult | null;
  /** Differs at each write, so that a writer whose answer was lost finds its own. */
  readonly write: string;
}

interface StoredResult {
  readonly status: number;
  readonly lastSequence: number;
  readonly bytes: number;
  /** Names the answer's parts in a stream of their own; '' where it lies in the key. */
  readonly large: string;
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
    | 'requestBytes'
    | 'largeRequest'
    | 'submittedAtMs'
    | 'deadlineAtMs'
    | 'wanted'
  >,
  queued: number,
): Omit<StoredTask, 'write'> {
  const { digest, agentType, publisher, caller, generation, requestBytes, largeRequest } = task;
  const { submittedAtMs, deadlineAtMs, wanted } = task;
  return {
    digest,
    agentType,
    publisher,
    caller,
    generation,
    requestBytes,
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

/** A key holds a time that may never come in this way. */
export const finite = (timeMs: number): number | null => (Number.isFinite(timeMs) ? timeMs : null);

const PROCESS_ID = randomBytes(9).toString('base64url');
let writes = 0;

/** Differs from all others, of this process and of others. */
export const writeId = (): string => `${PROCESS_ID}-${(++writes).toString(36)}`;

/** As the interface shows it. */
export function toRecord({ key, task, body }: TaskEntry): TaskRecord {
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
    result: task.result === null ? undefined : toResult(task.result, body),
    cause: task.cause,
  };
}

function toResult({ status, lastSequence, bytes, large }: StoredResult, body: Buffer): TaskResult {
  const isShort = large === '' && bytes <= SHORT_ANSWER_BYTES && body.length === bytes;
  return { status, lastSequence, bytes, short: isShort ? body : undefined };
}

export function isEnded({ state }: StoredTask): boolean {
  return state === 'done' || state === 'dead' || state === 'cancelled' || state === 'dropped';
}
