/** Reads and writes the messages of `outrigger.v1.Tasks` (`proto/outrigger_tasks.proto`). */
import type { TaskRecord, TaskState } from '../../bus/log/task-record.ts';
import type { OpenAnswer } from '../../bus/message/answer-reader.ts';
import type { Fields } from '../../bus/message/payload.ts';
import {
  bytesField,
  bytesFieldStart,
  FieldReader,
  stringField,
  varintField,
  WireType,
} from '../../task/protobuf.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../../task/task-message.ts';
import { clientSequence } from './task-story.ts';

const STATES: readonly (TaskState | undefined)[] = [
  undefined,
  'queued',
  'running',
  'done',
  'dead',
  'cancelled',
];
const METHODS: readonly string[] = [PROCESS_TASK_PATH, PROCESS_TASK_PATH, STREAM_PROCESS_PATH];

export interface SubmitRequest {
  readonly task: Buffer;
  /** Undefined for a method that this version does not know. */
  readonly path: string | undefined;
  readonly agentType: string;
  readonly timeoutMs: number;
  readonly idempotencyKey: string;
  readonly withoutLarge: boolean;
}

export interface TaskName {
  readonly id: string;
  readonly withoutLarge: boolean;
}

export interface WatchRequest extends TaskName {
  readonly fromSequence: number;
}

export interface ListRequest {
  /** `unknown` for a state that this version does not know. */
  readonly state: TaskState | 'unknown' | undefined;
  readonly agentType: string;
  readonly pageSize: number;
  readonly pageToken: string;
}

type Values = (field: number) => { readonly number: number; readonly text: string; readonly bytes: Buffer };

/** The last value of each field, as every parser takes it; undefined when the message is malformed. */
function valuesOf(message: Buffer): Values | undefined {
  const numbers = new Map<number, number>();
  const bytes = new Map<number, Buffer>();
  const reader = new FieldReader(message, 0, message.length);
  while (reader.next()) {
    if (reader.wireType === WireType.VARINT) numbers.set(reader.field, reader.varint);
    else if (reader.wireType === WireType.BYTES)
      bytes.set(reader.field, message.subarray(reader.valueStart, reader.valueEnd));
  }
  if (reader.malformed) return undefined;
  return (field) => {
    const value = bytes.get(field) ?? Buffer.alloc(0);
    return { number: numbers.get(field) ?? 0, bytes: value, text: value.toString('utf8') };
  };
}

export function readSubmit(message: Buffer): SubmitRequest | undefined {
  const of = valuesOf(message);
  return (
    of && {
      task: of(1).bytes,
      path: METHODS[of(2).number],
      agentType: of(3).text,
      timeoutMs: of(4).number,
      idempotencyKey: of(5).text,
      withoutLarge: of(6).number !== 0,
    }
  );
}

export function readTaskName(message: Buffer): TaskName | undefined {
  const of = valuesOf(message);
  return of && { id: of(1).text, withoutLarge: of(2).number !== 0 };
}

export function readWatch(message: Buffer): WatchRequest | undefined {
  const of = valuesOf(message);
  return of && { id: of(1).text, fromSequence: of(2).number, withoutLarge: of(3).number !== 0 };
}

export function readList(message: Buffer): ListRequest | undefined {
  const of = valuesOf(message);
  if (of === undefined) return undefined;
  const state = of(1).number;
  return {
    state: state < STATES.length ? STATES[state] : 'unknown',
    agentType: of(2).text,
    pageSize: of(3).number,
    pageToken: of(4).text,
  };
}

/** A message up to an answer, whose bytes are its last ones: it is never copied into the message. */
export interface MessageStart {
  readonly start: Buffer;
  /** The length of the answer that follows; 0 for none. */
  readonly follow: number;
}

/**
 * A task without its end's parts.
 *
 * @param runner the name of the agent that runs it; '' for none
 */
export function writeTask(record: TaskRecord, runner: string): Buffer {
  return writeTaskWith(record, runner, undefined).start;
}

/** @param answer undefined when the log no longer keeps it */
export function writeEndedTask(
  record: TaskRecord,
  runner: string,
  answer: OpenAnswer | undefined,
): MessageStart {
  return writeTaskWith(answer === undefined ? { ...record, result: undefined } : record, runner, answer);
}

function writeTaskWith(record: TaskRecord, runner: string, answer: OpenAnswer | undefined): MessageStart {
  const fields = [
    stringField(1, record.key),
    stringField(2, record.agentType),
    varintField(3, STATES.indexOf(record.state)),
    varintField(4, record.generation),
    varintField(5, record.run),
    varintField(6, record.lostRuns),
    varintField(7, time(record.submittedAtMs)),
    varintField(8, time(record.startedAtMs)),
    varintField(9, time(record.endedAtMs)),
    varintField(10, time(record.deadlineAtMs)),
    varintField(11, record.lastSequence === 0 ? 0 : clientSequence(record, record.lastSequence)),
    stringField(12, record.cause),
    stringField(14, runner),
    varintField(15, record.result?.bytes ?? 0),
  ];
  if (record.result === undefined) return { start: Buffer.concat(fields), follow: 0 };
  const end = writeEnd(record.result.status, answer);
  return within(13, end, fields);
}

function writeEnd(status: number, answer: OpenAnswer | undefined): MessageStart {
  const parts = [varintField(1, status)];
  if (answer === undefined) return { start: parts[0]!, follow: 0 };
  parts.push(stringField(2, answer.statusMessage));
  parts.push(...writeFields(4, answer.head), ...writeFields(5, answer.trailers));
  if (answer.bytes !== undefined) parts.push(bytesFieldStart(3, answer.bytes));
  return { start: Buffer.concat(parts), follow: answer.bytes ?? 0 };
}

/** A message as the last field of another one. */
function within(
  field: number,
  { start, follow }: MessageStart,
  before: readonly Buffer[] = [],
): MessageStart {
  return { start: Buffer.concat([...before, bytesFieldStart(field, start.length + follow), start]), follow };
}

function writeFields(field: number, fields: Fields): Buffer[] {
  const entries: Buffer[] = [];
  for (let i = 0; i < fields.length; i += 2)
    entries.push(
      bytesField(field, Buffer.concat([stringField(1, fields[i]!), stringField(2, fields[i + 1]!)])),
    );
  return entries;
}

/** @param tasks as `writeTask` wrote them */
export function writeList(tasks: readonly Buffer[], next: string | undefined): Buffer {
  return Buffer.concat([...tasks.map((task) => bytesField(1, task)), stringField(2, next ?? '')]);
}

export function writeStateEvent(record: TaskRecord, runner: string): Buffer {
  return bytesField(1, writeTask(record, runner));
}

export function writeRunEvent(run: number, afterSequence: number): Buffer {
  return bytesField(2, Buffer.concat([varintField(1, run), varintField(2, afterSequence)]));
}

/** The chunk of so many bytes follows it. */
export function writeChunkEvent(sequence: number, run: number, chunkBytes: number): Buffer {
  const start = [varintField(1, sequence), varintField(2, run), bytesFieldStart(3, chunkBytes)];
  return within(3, { start: Buffer.concat(start), follow: chunkBytes }).start;
}

export function writeEndEvent(record: TaskRecord, answer: OpenAnswer | undefined): MessageStart {
  return within(4, writeEndedTask(record, '', answer));
}

/** Infinity has no place in a varint; 0 stands for it as for "not yet". */
function time(ms: number): number {
  return Number.isFinite(ms) ? Math.max(0, Math.floor(ms)) : 0;
}
