/** The messages between the main thread and the thread of the file. Everything here is copied between them. */
import type {
  Consumer,
  ListOptions,
  QueueStatus,
  SubmitOptions,
  Submitted,
  TaskEvent,
  TaskPage,
} from '../log/task-log.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import type { NewTask, TaskKey, TaskRecord } from '../log/task-record.ts';
import type { Leaving } from '../log/wanted.ts';

/** A run that this process holds. `task` and `fence` name it in the file; the rest is for messages. */
export interface Held {
  readonly task: number;
  readonly fence: number;
  readonly key: TaskKey;
  readonly run: number;
}

export interface Taken {
  readonly held: Held;
  readonly record: TaskRecord;
  readonly requestBytes: number;
  /** The request, where it is small. */
  readonly payload: Uint8Array | undefined;
}

/** How far a watcher is. */
export interface WatchPosition {
  /** The last event of a state, in one text; '' before the first. */
  readonly mark: string;
  readonly generation: number;
  readonly afterSequence: number;
}

export interface Watched {
  readonly events: readonly TaskEvent[];
  readonly position: WatchPosition;
  /** Nothing follows. */
  readonly isLast: boolean;
  /** The bytes of the next batch, where the watcher has no room for so many; 0 otherwise. */
  readonly neededBytes: number;
}

/** Operations by name: what goes in, what comes out. */
export interface Operations {
  submit: { in: { task: NewTask; options: SubmitOptions }; out: Submitted };
  /** Waits; undefined after `stop`. */
  take: { in: { agentTypes: readonly string[]; holder: string }; out: Taken | undefined };
  request: { in: { held: Held }; out: Uint8Array };
  begin: { in: { held: Held }; out: undefined };
  extend: { in: { held: Held }; out: undefined };
  write: { in: { held: Held; firstSequence: number; count: number; payload: Buffer }; out: undefined };
  settle: { in: { held: Held; status: number; payload: Buffer }; out: undefined };
  giveBack: { in: { held: Held }; out: undefined };
  lose: { in: { held: Held; cause: string }; out: undefined };
  bury: { in: { held: Held; cause: string }; out: undefined };
  /** Tells a thread that took another's place which runs this process holds. */
  hold: { in: { held: Held }; out: undefined };
  get: { in: { key: TaskKey }; out: TaskRecord | undefined };
  answer: { in: { key: TaskKey; generation: number; part: number }; out: Uint8Array | undefined };
  /** Waits until there are events; undefined after `stop`. */
  watch: { in: { key: TaskKey; position: WatchPosition; maxBytes: number }; out: Watched | undefined };
  cancel: { in: { key: TaskKey; cause: string }; out: TaskRecord | undefined };
  leave: { in: { key: TaskKey; waiter: string; leaving: Leaving }; out: undefined };
  attend: { in: { sidecar: string }; out: undefined };
  list: { in: ListOptions; out: TaskPage };
  retryDead: { in: { key: TaskKey }; out: boolean };
  dropDead: { in: { key: TaskKey }; out: boolean };
  status: { in: object; out: readonly QueueStatus[] };
  announce: { in: { consumer: Consumer }; out: undefined };
  consumers: { in: { agentType: string }; out: readonly Consumer[] };
}

export type OperationName = keyof Operations;

export type Request = {
  [Name in OperationName]: {
    readonly id: number;
    readonly name: Name;
    readonly input: Operations[Name]['in'];
  };
}[OperationName];

/** `stop` ends the wait of an earlier request, `close` ends the thread. */
export type ToThread =
  | Request
  | { readonly name: 'stop'; readonly id: number }
  | { readonly name: 'close'; readonly id: number };

/** Why a request failed, in a form that can be copied. */
export type Failure =
  | { readonly kind: 'fenced'; readonly because: 'lost' | 'cancelled' }
  | {
      readonly kind: 'unavailable';
      readonly message: string;
      readonly isOutcomeUnknown: boolean;
      readonly isFinal: boolean;
    }
  | { readonly kind: 'unstorable'; readonly message: string };

/**
 * `fenced` says by itself that a held run no longer counts, `clock` that the log's clock has another offset, `trouble` why
 * the file can't be used; undefined when it can again.
 */
export type FromThread =
  | { readonly name: 'opened'; readonly clockOffsetMs: number; readonly identity: string }
  | { readonly name: 'refused'; readonly message: string }
  | { readonly name: 'done'; readonly id: number; readonly output: unknown }
  | { readonly name: 'failed'; readonly id: number; readonly failure: Failure }
  | {
      readonly name: 'fenced';
      readonly task: number;
      readonly fence: number;
      readonly because: 'lost' | 'cancelled';
    }
  | { readonly name: 'clock'; readonly offsetMs: number }
  | { readonly name: 'trouble'; readonly trouble: string | undefined };

export interface ThreadData {
  readonly file: string;
  readonly settings: TaskLogSettings;
}
