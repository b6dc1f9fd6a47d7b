/** Reads an answer from the log in pieces, within a room: its head first, then its message, as fast as somebody takes it. */
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import { LogSetupError } from '../log/log-errors.ts';
import { ANSWER_PIECE_BYTES, type TaskLog } from '../log/task-log.ts';
import type { TaskRecord, TaskResult } from '../log/task-record.ts';
import type { Room } from '../memory/room.ts';
import { type AnswerHead, decodeResultStart, headEnd } from './payload.ts';
import type { Sealer } from './sealer.ts';

/** A head has the fields of a head and of trailers, which the listeners bound. */
const MOST_HEAD_BYTES = 4_194_304;
/** A piece, and the same bytes opened, or on their way to the reader. */
const HELD_BYTES = 2 * ANSWER_PIECE_BYTES;

/** An answer as its reader gets it. */
export interface OpenAnswer extends AnswerHead {
  readonly status: number;
  /** The length of its message, which `pieces` give; undefined where it has none. */
  readonly bytes: number | undefined;
  readonly pieces: AsyncIterable<Buffer>;
}

/** The log has dropped the answer while it was read. */
class AnswerGoneError extends TypedError {
  readonly source: ErrorSource = 'upstream';
  readonly isSafeToRetry = false;

  constructor() {
    super('the answer is no longer kept (bus.results.max_age); submit the task again');
    this.name = 'AnswerGoneError';
  }
}

interface AnswerSource {
  readonly log: Pick<TaskLog, 'answer'>;
  readonly sealer: Sealer;
}

/**
 * Calls `use` with the answer of a task, and holds its room until that has ended; with undefined when the task has none, or it is
 * no longer kept.
 */
export async function withAnswer<T>(
  source: AnswerSource,
  task: TaskRecord,
  room: Room,
  use: (answer: OpenAnswer | undefined) => Promise<T>,
): Promise<T> {
  const { result } = task;
  if (result === undefined) return await use(undefined);
  if (result.short !== undefined) return await use(shortAnswer(source.sealer, result, result.short));
  const pieces = openedPieces(source, task, result.bytes);
  try {
    await room.take(Math.min(HELD_BYTES, 2 * result.bytes));
    const start = await readStart(pieces);
    if (start === undefined) return await use(undefined);
    const { first, answerBytes, ...head } = start;
    return await use({ ...head, status: result.status, bytes: answerBytes, pieces: joined(first, pieces) });
  } finally {
    await pieces.return(undefined);
    room.give();
  }
}

function shortAnswer(sealer: Sealer, { status }: TaskResult, payload: Buffer): OpenAnswer {
  const { first, answerBytes, ...head } = decodeResultStart(sealer.open(payload));
  return { ...head, status, bytes: answerBytes, pieces: joined(first) };
}

async function* openedPieces(
  { log, sealer }: AnswerSource,
  task: TaskRecord,
  bytes: number,
): AsyncGenerator<Buffer, undefined> {
  const opener = sealer.opener();
  let read = 0;
  for await (const piece of log.answer(task)) {
    read += piece.length;
    const opened = opener.add(piece);
    if (opened.length > 0) yield opened;
  }
  if (read === 0) return;
  if (read !== bytes) throw new AnswerGoneError();
  const rest = opener.end();
  if (rest.length > 0) yield rest;
}

/** Undefined when there is no answer. */
async function readStart(
  pieces: AsyncGenerator<Buffer, undefined>,
): Promise<ReturnType<typeof decodeResultStart> | undefined> {
  let start: Buffer = Buffer.alloc(0);
  for (;;) {
    const end = headEnd(start);
    if (end !== undefined && end <= start.length) return decodeResultStart(start);
    if (end !== undefined && end > MOST_HEAD_BYTES)
      throw new LogSetupError(`an answer on the bus has a head of ${end} bytes: drop its task`);
    const next = await pieces.next();
    if (next.done === true) return start.length === 0 ? undefined : decodeResultStart(start);
    start = start.length === 0 ? next.value : Buffer.concat([start, next.value]);
  }
}

async function* joined(first: Buffer, rest?: AsyncGenerator<Buffer, undefined>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first;
  if (rest !== undefined) yield* rest;
}
