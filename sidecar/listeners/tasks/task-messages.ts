/** Reads and writes the messages of `outrigger.v1.Tasks` (`proto/outrigger_tasks.proto`). */
import type { TaskRecord, TaskState } from '../../bus/log/task-record.ts';
import type { Fields, ResultPayload } from '../../bus/message/payload.ts';
import { bytesField, FieldReader, stringField, varintField, WireType } from '../../task/protobuf.ts';
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
}

export interface WatchRequest {
  readonly id: string;
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
    }
  );
}

export function readTaskName(message: Buffer): { readonly id: string } | undefined {
  const of = valuesOf(message);
  return of && { id: of(1).text };
}

export function readWatch(message: Buffer): WatchRequest | undefined {
  const of = valuesOf(message);
  return of && { id: of(1).text, fromSequence: of(2).number };
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

/**
 * @param runner the name of the agent that runs it; '' for none
 * @param result the end, opened; undefined leaves its parts out
 */
export function writeTask(record: TaskRecord, runner: string, result?: ResultPayload): Buffer {
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
  ];
  if (record.result !== undefined) fields.push(bytesField(13, writeEnd(record.result.status, result)));
  return Buffer.concat(fields);
}

function writeEnd(status: number, result: ResultPayload | undefined): Buffer {
  const parts = [varintField(1, status)];
  if (result === undefined) return parts[0]!;
  parts.push(stringField(2, result.statusMessage));
  if (result.answer !== undefined) parts.push(bytesField(3, result.answer));
  parts.push(...writeFields(4, result.head), ...writeFields(5, result.trailers));
  return Buffer.concat(parts);
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

export function writeChunkEvent(sequence: number, run: number, chunk: Buffer): Buffer {
  return bytesField(3, Buffer.concat([varintField(1, sequence), varintField(2, run), bytesField(3, chunk)]));
}

export function writeEndEvent(record: TaskRecord, result: ResultPayload | undefined): Buffer {
  return bytesField(4, writeTask(record, '', result));
}

/** Infinity has no place in a varint; 0 stands for it as for "not yet". */
function time(ms: number): number {
  return Number.isFinite(ms) ? Math.max(0, Math.floor(ms)) : 0;
}
