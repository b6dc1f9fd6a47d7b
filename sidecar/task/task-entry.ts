/** One task in the store, and the readers of its answer. `task-store.ts` changes their state. */

import { ListNode } from '../collections/linked-list.ts';
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import type { KeptAnswer } from './kept-answers.ts';
import { ReplayLog } from './replay-log.ts';
import type { TaskEnd } from './task-end.ts';

/**
 *        ┌─ all callers lost their connections ─▶ ┌──────────┐
 *     running                                     │ orphaned │
 *        │  ◀──────────── a caller joins ──────── └──────────┘
 *        └── either of them:
 *              ├──▶ finished        its answer is kept, and replayed
 *              │       ├──▶ unreplayable   its answer was dropped to make room
 *              │       └──▶ forgotten      its answer is too old
 *              ├──▶ unreplayable    it is over, and its answer is too large to be kept
 *              │       └──▶ forgotten      its age is over
 *              └──▶ forgotten       it failed and a retry may succeed, or all callers left, or a short answer moved to the ring
 */
export type TaskState = 'running' | 'orphaned' | 'finished' | 'unreplayable' | 'forgotten';

export const TASK_ARROWS: Arrows<TaskState> = {
  running: ['orphaned', 'finished', 'unreplayable', 'forgotten'],
  orphaned: ['running', 'finished', 'unreplayable', 'forgotten'],
  finished: ['unreplayable', 'forgotten'],
  unreplayable: ['forgotten'],
  forgotten: [],
};

export const TASK_STATE = statesOf(TASK_ARROWS);

/** `too_large` to be kept; `dropped` to make room for others; `full`: the store can track no more tasks. */
export type TaskRefusal = 'too_large' | 'dropped' | 'full';

/** Texts for `grpc-message`. The first two are final: answer FAILED_PRECONDITION; `full` is RESOURCE_EXHAUSTED. */
export const TASK_REFUSALS: Readonly<Record<TaskRefusal, string>> = {
  too_large:
    'this task has been given to the agent, and its answer is too large to be repeated; send it with a new task_id to run it again',
  dropped:
    'this task has been done, and its answer is not kept any more; send it with a new task_id to run it again',
  full: 'too many tasks are in flight to keep them apart; try again later',
};

/** Why a caller waits no longer. Only one whose connection was lost may retry. */
export type Leaving = 'cancelled' | 'time_is_up' | 'connection_lost';

/**
 * `go_on`: other callers wait, or the task is over. `linger`: let it run a moment longer. `abort`: cancel the runner now;
 * the task is forgotten.
 */
export type Remains = 'go_on' | 'linger' | 'abort';

/** About what an entry takes besides its bytes. */
const ENTRY_BYTES = 512;

export class TaskEntry<Runner> extends ListNode<TaskEntry<Runner>> {
  readonly fingerprint: string;
  /** The hash of the fingerprint. */
  readonly hash: number;
  /** The call that runs the task; undefined once it is over, because an answer is kept much longer than its call. */
  runner: Runner | undefined;
  private current: StateOf<TaskState> = TASK_STATE.running;
  /** Response header fields, names and values in turn; undefined before they arrive, and for a trailers-only answer. */
  head: readonly string[] | undefined = undefined;
  end: TaskEnd | undefined = undefined;
  readonly log = new ReplayLog();
  /** The number of callers that wait for the answer, the runner's own included. */
  callers = 1;
  readers: Set<TaskReader<Runner>> | undefined = undefined;
  /** Why new callers can't have all of the answer; undefined while they can. */
  refusal: TaskRefusal | undefined = undefined;
  /** Orphaned: until when it runs without callers. Its caller's connection was lost, and the caller may retry. */
  orphanUntilMs = Number.POSITIVE_INFINITY;
  expiresAtMs = Number.POSITIVE_INFINITY;
  /** The bytes of `head` and the trailers; counted once, because each step reads the sum. */
  fieldsBytes = 0;
  /** The bytes that the store has counted for it. */
  countedBytes = 0;

  constructor(fingerprint: string, hash: number, runner: Runner | undefined) {
    super();
    this.fingerprint = fingerprint;
    this.hash = hash;
    this.runner = runner;
  }

  /** Makes the entry of a finished task from its kept answer. */
  static finished<Runner>(fingerprint: string, hash: number, answer: KeptAnswer): TaskEntry<Runner> {
    const entry = new TaskEntry<Runner>(fingerprint, hash, undefined);
    entry.become(TASK_STATE.finished);
    entry.callers = 0;
    entry.expiresAtMs = answer.expiresAtMs;
    if (answer.head !== undefined) entry.setHead(answer.head);
    entry.setEnd(answer.end);
    entry.log.append(answer.bytes, 0, answer.bytes.length);
    return entry;
  }

  get state(): TaskState {
    return this.current.name;
  }

  /** Whether the agent still works on it, with callers or without. */
  get isRunning(): boolean {
    return this.current === TASK_STATE.running || this.current === TASK_STATE.orphaned;
  }

  become(state: StateOf<TaskState>): void {
    this.current = move(this.current, state);
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

  /** Drops the answer; only the fact that it was given remains. */
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

/** Notified when there is more to read. It may read, and leave, within the call. */
export interface TaskSubscriber {
  onTaskProgress(): void;
}

/** A follower: it reads the answer of another call from the beginning, at its own pace. */
export class TaskReader<Runner> {
  readonly entry: TaskEntry<Runner>;
  readonly subscriber: TaskSubscriber;
  /** Bytes of the response's messages read so far. */
  offset = 0;
  /** It was too slow, so bytes that it had not read were dropped: end its call with `stream_cut`. */
  lost = false;

  constructor(entry: TaskEntry<Runner>, subscriber: TaskSubscriber) {
    this.entry = entry;
    this.subscriber = subscriber;
  }

  /** Response header fields; undefined before they arrive. */
  get head(): readonly string[] | undefined {
    return this.entry.head;
  }

  /** Returns the next bytes, at most a page; undefined when there are none yet. They are a view: don't write to them. */
  next(): Buffer | undefined {
    if (this.lost) return undefined;
    const bytes = this.entry.log.read(this.offset);
    if (bytes !== undefined) this.offset += bytes.length;
    return bytes;
  }

  /** The task's end, once all of the answer has been read. */
  get end(): TaskEnd | undefined {
    return this.lost || this.offset < this.entry.log.length ? undefined : this.entry.end;
  }
}

/** A caller of a task whose answer may be in an encoding that the caller can't read. */
export interface AnswerReader<Runner> {
  /**
   * @param head the answer's head; undefined before it arrives, or when there was none
   * @param runner the call that runs the task; undefined once it is over
   */
  canRead(head: readonly string[] | undefined, runner: Runner | undefined): boolean;
}

export const UNREADABLE = { decision: 'unreadable' } as const;

/** The decision on an arriving task. */
export type Begun<Runner> =
  | {
      readonly decision: 'run';
      readonly entry: TaskEntry<Runner>;
      /** Cancel this one: its place was needed, and it has no caller. */
      readonly abandoned: TaskEntry<Runner> | undefined;
    }
  | { readonly decision: 'join' | 'replay'; readonly reader: TaskReader<Runner> }
  /** The caller can't read the present or coming answer. The store has changed nothing. */
  | { readonly decision: 'unreadable' }
  | { readonly decision: 'refuse'; readonly reason: TaskRefusal };
