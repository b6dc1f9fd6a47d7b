/**
 * The interface of a task log. Its engines (`local/`, `nats/`) pass one contract test.
 *
 * A task that was accepted is stored. Its runs are fenced: of all that take it, one holds the lease, and what the others
 * still write is refused. There is one result; runs are at least one: a run whose sidecar was lost is begun again.
 */
import type { Answer, NewTask, TaskKey, TaskRecord, TaskState } from './task-record.ts';
import type { Leaving } from './wanted.ts';

/** The most that a reader of an answer gets at once. */
export const ANSWER_PIECE_BYTES = 262_144;

export interface SubmitOptions {
  /**
   * A task with this key that ended longer ago is submitted anew, as the next generation; a younger one is joined. Tasks
   * that are dead or cancelled are submitted anew in any case. Infinity joins every result that is still kept.
   */
  readonly joinEndedForMs: number;
  /** Whether who submits will watch the task at once: a log may get ready for it. */
  readonly isWatched?: boolean;
  /**
   * The caller that waits for the answer (`waiterName`), until it leaves. Undefined for a task that is to run whether or not
   * somebody waits. A task that is joined has the latest deadline of all who have asked for it.
   */
  readonly waiter?: string | undefined;
  /** The most that who submits waits for a log that is not open yet, in milliseconds. Behind it nothing was stored. */
  readonly openWithinMs?: number;
}

/** `stored`: a new generation waits. `joined`: the task was there already; the record says how far it is. */
export type Submitted =
  | { readonly outcome: 'stored' | 'joined'; readonly record: TaskRecord }
  | { readonly outcome: 'refused'; readonly reason: FullPart };

/** The part of a log that has no room for a task: a count or the bytes of a queue, the queues of agent types, the results, or the disk. */
export type FullPart =
  | 'agent_full'
  | 'caller_full'
  | 'caller_bytes_full'
  | 'bytes_full'
  | 'types_full'
  | 'store_full'
  | 'disk_full';

/** Messages of a run, in the order in which the agent sent them. */
export interface ChunkBatch {
  readonly run: number;
  /** The sequence of the first message. Sequences count a task's messages from 1, through all its runs. */
  readonly firstSequence: number;
  readonly count: number;
  /** The messages, encoded by who wrote them. */
  readonly payload: Buffer;
}

/** The room that a reader has in the memory of its process, for what the log reads for it. */
export interface ReaderRoom {
  /** Resolves when the reader has room for so many bytes, in place of what it had; rejects when there is none for it. */
  take(bytes: number): Promise<void>;
  give(): void;
}

/** The most that a watcher gets at once without asking for room: an app's messages come in batches of some 16 KiB. */
export const FREE_BATCH_BYTES = 32_768;

/** A watcher sees these in the order in which they happened. A new run makes the chunks of the one before void. */
export type TaskEvent =
  | { readonly kind: 'state'; readonly record: TaskRecord }
  | { readonly kind: 'chunks'; readonly batch: ChunkBatch };

/** A run of a task, held by the sidecar that has taken it. */
export interface TaskLease {
  /** As it was taken: running, with this run's number. */
  readonly record: TaskRecord;
  /** The bytes that the request takes in the log. */
  readonly requestBytes: number;
  /**
   * Reads the request, which may be large: call it again rather than keep it. Rejects with FencedError, LogUnavailableError, or
   * with LogSetupError when it is no longer there.
   */
  request(): Promise<Buffer>;
  /**
   * Marks the run as begun, so that its loss counts. A log may have done so when the task was taken, unless
   * `runsAlone(record)`: such a task may wait for others to end. Rejects with FencedError.
   */
  begin(): Promise<void>;
  /** Holds the lease for another `leaseMs` from now. Rejects with FencedError, or LogUnavailableError. */
  extend(): Promise<void>;
  /** Appends messages of the run; `firstSequence` follows from the batches before. Resolves when they are stored. Rejects with FencedError. */
  write(count: number, payload: Buffer): Promise<void>;
  /** Stores the result, once, and ends the task. Rejects with FencedError when the run no longer counts. */
  settle(answer: Answer): Promise<void>;
  /** Hands the task back: it is queued as before, and this run is not counted. For a drain, and tasks that never began. */
  giveBack(): Promise<void>;
  /**
   * The run ended without an answer, its agent crashed say: what follows a lost run (`afterLoss`) happens now, and not at the
   * end of the lease. `cause` is for a person, and is the dead task's after its last run.
   */
  lose(cause: string): Promise<void>;
  /** Ends the task as dead, with a cause for a person: it can't be read, say. */
  bury(cause: string): Promise<void>;
  /** Aborts when the task was cancelled or its deadline has passed, within 200 ms; `reason` is a FencedError. */
  readonly cancelled: AbortSignal;
}

/** A sidecar that takes tasks. */
export interface Consumer {
  /** Unique among all sidecars. */
  readonly instance: string;
  /** Name and version of the agent, for HealthCheck. */
  readonly name: string;
  readonly version: string;
  readonly agentTypes: readonly string[];
  readonly places: number;
}

export interface QueueStatus {
  readonly agentType: string;
  readonly queued: number;
  readonly running: number;
  readonly dead: number;
  /** How long the oldest queued task has waited; 0 when none waits. */
  readonly oldestMs: number;
}

export interface ListOptions {
  /** Only tasks of this caller; undefined for all, for operators. */
  readonly caller?: string;
  readonly agentType?: string;
  readonly state?: TaskState;
  /** At most this many, latest first. */
  readonly limit: number;
  /** Continue after this task, as `next` of the page before said. */
  readonly after?: string;
}

export interface TaskPage {
  /** Without their answers, short ones too. */
  readonly records: readonly TaskRecord[];
  /** For the next page; undefined after the last. */
  readonly next: string | undefined;
}

/** Every method rejects with LogUnavailableError while the log can't be reached. */
export interface TaskLog {
  /** Milliseconds since 1970 by the clock that all sidecars of the log share. */
  nowMs(): number;
  /** Whether the log can be reached now. */
  readonly connected: boolean;
  /** Tells a person of a log that works what to know: where it was set up with other limits, say. */
  readonly notices?: readonly string[];
  /** Names the store, for logs whose store may be replaced by one without its tasks; it changes then. */
  readonly storeId?: string | undefined;
  /** Called at each change of `connected`. */
  onConnected: ((connected: boolean) => void) | undefined;

  /** Stores a task, or finds it. */
  submit(task: NewTask, options: SubmitOptions): Promise<Submitted>;
  /**
   * Waits for a task of one of these types and takes it; undefined when the signal ends the wait. Call it once for each
   * free place: nothing is fetched ahead. Callers get turns. Loses no task when the signal comes at the same time.
   */
  take(agentTypes: readonly string[], holder: string, signal: AbortSignal): Promise<TaskLease | undefined>;
  get(key: TaskKey): Promise<TaskRecord | undefined>;
  /**
   * The answer of a done task, in pieces of at most {@link ANSWER_PIECE_BYTES}. Each is read when it is asked for. They end early,
   * or there is none, when the log no longer keeps the answer: their sum is to be compared with `result.bytes`.
   */
  answer(task: Pick<TaskRecord, 'key' | 'generation'>): AsyncIterable<Buffer>;
  /**
   * The events of a task: its present state, the kept chunks after `afterSequence`, then what happens, until its end (the
   * last event is the state of the end, with its result), or until the signal. Of a task that has ended, the kept chunks come
   * first and its state last. Batches aren't cut: the first one may begin at or before `afterSequence`. A slow watcher may
   * miss states that were over before it looked, and void chunks. Ends at once when the task is unknown.
   *
   * @param room asked before a batch of more than {@link FREE_BATCH_BYTES} is read, and given back when the next event is wanted
   */
  watch(
    key: TaskKey,
    afterSequence: number,
    signal: AbortSignal,
    room?: ReaderRoom,
  ): AsyncIterable<TaskEvent>;
  /** Ends a queued or running task as cancelled. Returns the record after it; undefined when the task is unknown. */
  cancel(key: TaskKey, cause: string): Promise<TaskRecord | undefined>;
  /**
   * A caller waits no longer. When it has cancelled, and nobody else wants the answer, the task ends as cancelled, because
   * {@link CALLER_LEFT}. Others are those who wait, at any sidecar, and whoever submitted it without a waiter.
   */
  leave(key: TaskKey, waiter: string, leaving: Leaving): Promise<void>;
  /**
   * Says that the callers of this sidecar still wait; call it again at least each `leaseMs` / 3 while some do. Those of a
   * sidecar that is silent for `leaseMs` count no longer.
   */
  attend(sidecar: string): Promise<void>;
  /** Rejects with UnknownPageError when `after` is no `next` of this log. */
  list(options: ListOptions): Promise<TaskPage>;
  /** Submits a dead task anew, under the next generation. False when there is no dead task of that key. */
  retryDead(key: TaskKey): Promise<boolean>;
  /** Forgets a dead task. */
  dropDead(key: TaskKey): Promise<boolean>;
  status(): Promise<readonly QueueStatus[]>;
  /**
   * Calls `onTask` soon after a task of this type begins to wait, whoever submitted it; at other times, too, and not while
   * the log can't be reached. Returns what ends it.
   */
  listen(agentType: string, onTask: () => void): () => void;

  /** Says that this sidecar takes tasks; call it again at least each `leaseMs` / 3. `places` 0 withdraws it. */
  announce(consumer: Consumer): Promise<void>;
  /** The sidecars that take tasks of this type. */
  consumers(agentType: string): Promise<readonly Consumer[]>;
  /** Ends waits and watches. Leases that are held run out. */
  close(): Promise<void>;
}
