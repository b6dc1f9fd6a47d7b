/** Tells a client what happens to a task, so that it knows which chunks count, also when it comes back after a while. */
import type { ChunkBatch, TaskEvent } from '../../bus/log/task-log.ts';
import { hasEnded, type TaskRecord } from '../../bus/log/task-record.ts';
import { decodeChunks } from '../../bus/message/chunk-payload.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';

/** `run`: the client drops the chunks so far. `end` is the last one. */
export type Told =
  | { readonly kind: 'state' | 'end'; readonly record: TaskRecord }
  | { readonly kind: 'run'; readonly run: number; readonly afterSequence: number }
  | { readonly kind: 'chunk'; readonly sequence: number; readonly run: number; readonly message: Buffer };

/** More chunks than a task has: sequences of a log begin again with each generation, and a client's must not. */
const GENERATION = 1_000_000_000;

/** The sequence of a log as a client gets it: in the first generation the same number. */
export function clientSequence({ generation }: Pick<TaskRecord, 'generation'>, sequence: number): number {
  return (generation - 1) * GENERATION + sequence;
}

/**
 * One client's view of one task: feed it the log's events, from {@link readAfter} on. The chunks of the log are those of all
 * runs that the task had, and a client may come back with those of a run that no longer counts.
 */
export class TaskStory {
  private record: TaskRecord;
  /** The sequence in the log of the last chunk that the client has; 0 for none. */
  private held: number;
  /** The client has chunks of another generation, or more than the task has: they are dropped, and all follow. */
  private readonly isStrange: boolean;
  /** The run of the client's chunks. */
  private heldRun: 'nothing' | 'unknown' | { readonly id: string };
  private toldState = '';
  private readonly open: (payload: Buffer) => Buffer;
  /** Where to read on in the log: the last chunk that the client has comes again, which proves that its run still counts. */
  readonly readAfter: number;

  /**
   * @param record what the log says now
   * @param held the sequence of the last chunk that the client has, as it got it; 0 for none
   * @param open unseals the payload of a batch
   */
  constructor(record: TaskRecord, held: number, open: (payload: Buffer) => Buffer) {
    this.record = record;
    const sequence = held - clientSequence(record, 0);
    this.isStrange = held > 0 && (sequence <= 0 || sequence > record.lastSequence);
    this.held = held === 0 || this.isStrange ? 0 : sequence;
    this.heldRun = this.held === 0 ? 'nothing' : 'unknown';
    this.open = open;
    this.readAfter = Math.max(0, this.held - 1);
  }

  *begin(): Generator<Told> {
    if (this.isStrange) yield this.drop(this.record.run);
    yield* this.tellState();
  }

  *tell(event: TaskEvent): Generator<Told> {
    if (event.kind === 'chunks') {
      yield* this.tellChunks(event.batch);
      return;
    }
    const before = this.record.generation;
    this.record = event.record;
    const { state, run, generation } = this.record;
    if (generation !== before) {
      this.held = 0;
      if (this.heldRun !== 'nothing') yield this.drop(run);
    }
    if (state === 'running' && typeof this.heldRun === 'object' && this.heldRun.id !== idOf(this.record))
      yield this.drop(run);
    yield* this.tellState();
  }

  /** Whether the task has ended. */
  get isOver(): boolean {
    return hasEnded(this.record);
  }

  /** The log's events are over. */
  *finish(): Generator<Told> {
    const { record, heldRun } = this;
    if (!hasEnded(record)) return;
    // The run that ended the task wrote no chunk, and those that the client has are of another.
    const other = heldRun === 'unknown' || (typeof heldRun === 'object' && heldRun.id !== idOf(record));
    if (other && record.state === 'done') yield this.drop(record.run);
    yield { kind: 'end', record };
  }

  private *tellState(): Generator<Told> {
    const { record } = this;
    const state = `${idOf(record)} ${record.state}`;
    if (hasEnded(record) || state === this.toldState) return;
    this.toldState = state;
    yield { kind: 'state', record };
  }

  /** The record may count chunks of the run already that are still to come: only what the client has is known to be void. */
  private drop(run: number): Told {
    this.heldRun = 'nothing';
    return { kind: 'run', run, afterSequence: clientSequence(this.record, this.held) };
  }

  private *tellChunks({ run, firstSequence, payload }: ChunkBatch): Generator<Told> {
    const { record } = this;
    // The log may still have the chunks of runs that no longer count.
    if (run < record.run) return;
    let sequence = firstSequence;
    for (const message of messagesOf(decodeChunks(this.open(payload)).messages)) {
      if (this.heldRun === 'unknown' && sequence >= this.held) {
        if (sequence > this.held) yield this.drop(run);
        this.heldRun = { id: idOf(record) };
      }
      if (sequence > this.held) {
        this.held = sequence;
        this.heldRun = { id: idOf(record) };
        yield { kind: 'chunk', sequence: clientSequence(record, sequence), run, message };
      }
      sequence++;
    }
  }
}

/** A run that was handed back leaves its number to the next one, which begins at another time. */
function idOf({ generation, run, startedAtMs }: TaskRecord): string {
  return `${generation}.${run}.${startedAtMs}`;
}

/** The messages of a batch, each behind its prefix. */
function* messagesOf(payload: Buffer): Generator<Buffer> {
  for (let at = 0; at + PREFIX_BYTES <= payload.length; ) {
    const end = at + PREFIX_BYTES + payload.readUInt32BE(at + 1);
    yield payload.subarray(at + PREFIX_BYTES, end);
    at = end;
  }
}
