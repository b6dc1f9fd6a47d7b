/** One task in the store, and those who read its answer. `task-store.ts` moves them. */

import { ListNode } from '../collections/linked-list.ts';
import type { KeptAnswer } from './kept-answers.ts';
import { ReplayLog } from './replay-log.ts';
import type { TaskEnd } from './task-end.ts';

/**
 *     running ──▶ finished          its answer is kept, and replayed
 *        │   └──▶ unreplayable      it is over, or will be, but its answer is too large, or had to make room
 *        └──────▶ forgotten         it failed in a way that may end better next time, or nobody wanted it any more
 */
export type TaskState = 'running' | 'finished' | 'unreplayable' | 'forgotten';

/** `too_large` to be kept; `dropped` to make room for others; `full`: no more tasks can be told apart. */
export type TaskRefusal = 'too_large' | 'dropped' | 'full';

/** For `grpc-message`. The first two are final: answer FAILED_PRECONDITION; `full` is RESOURCE_EXHAUSTED. */
export const TASK_REFUSALS: Readonly<Record<TaskRefusal, string>> = {
  too_large:
    'this task has been given to the agent, and its answer is too large to be repeated; send it with a new task_id to run it again',
  dropped:
    'this task has been done, and its answer is not kept any more; send it with a new task_id to run it again',
  full: 'too many tasks are in flight to keep them apart; try again later',
};

/** Why a caller waits no longer. Only one whose connection was lost may come back. */
export type Leaving = 'cancelled' | 'time_is_up' | 'connection_lost';

/** `go_on`: others wait, or it is over. `linger`: for a moment. `abort`: cancel the runner now; it is forgotten. */
export type Remains = 'go_on' | 'linger' | 'abort';

/** What an entry takes besides its bytes, about. */
const ENTRY_BYTES = 512;

export class TaskEntry<Runner> extends ListNode<TaskEntry<Runner>> {
  readonly fingerprint: string;
  /** Of the fingerprint. */
  readonly hash: number;
  /** The call that runs the task; undefined once it is over, for an answer is kept much longer than its call. */
  runner: Runner | undefined;
  state: TaskState = 'running';
  /** Response header fields, names and values in turn; undefined until they came, or for a Trailers-Only answer. */
  head: readonly string[] | undefined = undefined;
  end: TaskEnd | undefined = undefined;
  readonly log = new ReplayLog();
  /** Callers that wait for the answer, the runner's own included. */
  callers = 1;
  readers: Set<TaskReader<Runner>> | undefined = undefined;
  /** Why new callers can't have all of the answer; undefined while they can. */
  refusal: TaskRefusal | undefined = undefined;
  /** Without callers it runs on until then: its caller's connection was lost, and may be back with a retry. */
  orphanUntilMs = Number.POSITIVE_INFINITY;
  expiresAtMs = Number.POSITIVE_INFINITY;
  /** Of `head` and the trailers; counted once, for the sum is asked for at each step. */
  fieldsBytes = 0;
  /** What the store has counted for it. */
  countedBytes = 0;

  constructor(fingerprint: string, hash: number, runner: Runner | undefined) {
    super();
    this.fingerprint = fingerprint;
    this.hash = hash;
    this.runner = runner;
  }

  /** One that is over, from its answer. */
  static finished<Runner>(fingerprint: string, hash: number, answer: KeptAnswer): TaskEntry<Runner> {
    const entry = new TaskEntry<Runner>(fingerprint, hash, undefined);
    entry.state = 'finished';
    entry.callers = 0;
    entry.expiresAtMs = answer.expiresAtMs;
    if (answer.head !== undefined) entry.setHead(answer.head);
    entry.setEnd(answer.end);
    entry.log.append(answer.bytes, 0, answer.bytes.length);
    return entry;
  }

  get bytes(): number {
    return ENTRY_BYTES + this.fingerprint.length + this.log.heldBytes + this.fieldsBytes;
  }

  setHead(fields: readonly string[]): void {
    this.head = fields;
    this.fieldsBytes += fieldsBytes(fields);
  }

  setEnd(end: TaskEnd): void {
    this.end = end;
    this.fieldsBytes += fieldsBytes(end.trailers);
  }

  /** Of the answer only that it was given is known from now on. */
  forgetAnswer(): void {
    this.log.clear();
    this.head = undefined;
    this.end = undefined;
    this.fieldsBytes = 0;
  }
}

function fieldsBytes(fields: readonly string[]): number {
  let bytes = 0;
  for (const text of fields) bytes += text.length + 16;
  return bytes;
}

/** Told when there is more to read. May read, and leave, within the call. */
export interface TaskSubscriber {
  onTaskProgress(): void;
}

/** A caller that gets the answer of another's call, from its beginning and at its own pace. */
export class TaskReader<Runner> {
  readonly entry: TaskEntry<Runner>;
  readonly subscriber: TaskSubscriber;
  /** Bytes of the response's messages read so far. */
  offset = 0;
  /** It was so slow that what it has not read yet had to be dropped: end its call with `stream_cut`. */
  lost = false;

  constructor(entry: TaskEntry<Runner>, subscriber: TaskSubscriber) {
    this.entry = entry;
    this.subscriber = subscriber;
  }

  /** Response header fields; undefined until they came. */
  get head(): readonly string[] | undefined {
    return this.entry.head;
  }

  /** The next bytes, at most a page, or undefined when there are none yet. They are a view: don't write to them. */
  next(): Buffer | undefined {
    if (this.lost) return undefined;
    const bytes = this.entry.log.read(this.offset);
    if (bytes !== undefined) this.offset += bytes.length;
    return bytes;
  }

  /** How it ended, once all of it has been read. */
  get end(): TaskEnd | undefined {
    return this.lost || this.offset < this.entry.log.length ? undefined : this.entry.end;
  }
}

/** A caller of a task whose answer may be in an encoding that the caller can't read. */
export interface AnswerReader<Runner> {
  /**
   * @param head of the answer; undefined while it has not come, or when there was none
   * @param runner who runs the task; undefined once it is over
   */
  canRead(head: readonly string[] | undefined, runner: Runner | undefined): boolean;
}

export const UNREADABLE = { decision: 'unreadable' } as const;

/** The decision on a task that has come. */
export type Begun<Runner> =
  | {
      readonly decision: 'run';
      readonly entry: TaskEntry<Runner>;
      /** To be cancelled: its place was needed, and no caller of it is there. */
      readonly abandoned: TaskEntry<Runner> | undefined;
    }
  | { readonly decision: 'join' | 'replay'; readonly reader: TaskReader<Runner> }
  /** There is an answer, or will be, that who asks can't read. Nothing has changed. */
  | { readonly decision: 'unreadable' }
  | { readonly decision: 'refuse'; readonly reason: TaskRefusal };
