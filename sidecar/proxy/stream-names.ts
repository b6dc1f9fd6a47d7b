/** How sidecars name a task's run and its stream to each other, and ask for the rest of one. */
import { randomFillSync } from 'node:crypto';
import { FIRST_STREAM_HEADER, RESUME_HEADER, RUN_HEADER } from '../grpc/hop-fields.ts';
import { announcedName } from '../grpc/sidecar-settings.ts';
import { copyWithout, type HeaderList } from '../http2/hpack/header-list.ts';
import type { StreamConnection } from '../http2/streams.ts';

export function isStreamField(name: string): boolean {
  return name === RESUME_HEADER || name === FIRST_STREAM_HEADER;
}

function isRunField(name: string): boolean {
  return name === RUN_HEADER;
}

/** The latest head of an answer without its run. Others mostly repeat it, and a list that repeats is not encoded again. */
let latestHead: HeaderList | undefined;

/** The head of an answer as its caller gets it, which has no run. */
export function withoutRun(list: HeaderList): HeaderList {
  if (latestHead !== undefined && list.neverIndexed === undefined && isWithoutRun(latestHead, list))
    return latestHead;
  const head = copyWithout(list, isRunField);
  if (head.neverIndexed === undefined) {
    head.shared = true;
    latestHead = head;
  }
  return head;
}

function isWithoutRun({ fields }: HeaderList, list: HeaderList): boolean {
  const all = list.fields;
  let at = 0;
  for (let i = 0; i < all.length; i += 2) {
    if (all[i] === RUN_HEADER) continue;
    if (fields[at] !== all[i] || fields[at + 1] !== all[i + 1]) return false;
    at += 2;
  }
  return at === fields.length;
}

const NAME_BYTES = 16;
/** Random bytes are drawn for many names at a time: a call into native code costs more than the bytes. */
const pool = Buffer.allocUnsafeSlow(256 * NAME_BYTES);
let drawn = pool.length;

/** A name for a run: 128 random bits, so that no other run has it, of any process, and nobody can guess it. */
export function nextRunName(): string {
  if (drawn === pool.length) {
    randomFillSync(pool);
    drawn = 0;
  }
  const name = pool.toString('hex', drawn, drawn + NAME_BYTES);
  drawn += NAME_BYTES;
  return name;
}

/**
 * The name of a stream: the client has named the connection with 128 random bits (`grpc/sidecar-settings.ts`), and each
 * stream has a number there. A task without an id is known by it, at no cost until the task is sent again.
 */
export function nameOfStream({ name }: StreamConnection, streamId: number): string {
  return `${name}-${streamId}`;
}

/** The same on the server's side. */
export function announcedStreamName(connection: StreamConnection, streamId: number): string {
  if (connection.name === '') connection.name = announcedName(connection.peer);
  return nameOfStream(connection, streamId);
}

const STREAM_PATTERN = /^([0-9a-f]{32})-(\d{1,10})$/;

export interface StreamName {
  readonly connection: string;
  readonly id: number;
}

/** Undefined when it is malformed. */
export function parseStreamName(value: string): StreamName | undefined {
  const [, connection, id] = STREAM_PATTERN.exec(value) ?? [];
  return connection === undefined ? undefined : { connection, id: Number(id) };
}

export interface ResumeRequest {
  /** Of the run. */
  readonly name: string;
  /** The bytes of DATA that the caller has, with the prefixes of gRPC and without padding. */
  readonly byte: number;
}

const RESUME_PATTERN = /^([0-9a-f]{32})\/(\d{1,15})$/;

export function resumeValue(name: string, byte: number): string {
  return `${name}/${byte}`;
}

/** Undefined when it is malformed. */
export function parseResume(value: string): ResumeRequest | undefined {
  const [, name, byte] = RESUME_PATTERN.exec(value) ?? [];
  return name === undefined ? undefined : { name, byte: Number(byte) };
}
