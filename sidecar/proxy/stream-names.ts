/** How sidecars name a task's run and its stream to each other, and ask for the rest of one. */
import { randomBytes } from 'node:crypto';
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

/** The latest head of an answer, and the same without its run. Others mostly repeat it. */
let latestNamed: HeaderList | undefined;
let latestHead: HeaderList | undefined;

/** The head of an answer as its caller gets it, which has no run. */
export function withoutRun(list: HeaderList): HeaderList {
  if (list === latestNamed) return latestHead!;
  // Connections have different names and otherwise the same heads, and a list that repeats is not encoded again.
  if (latestHead !== undefined && list.neverIndexed === undefined && isWithoutRun(latestHead, list))
    return remember(list, latestHead);
  const head = copyWithout(list, isRunField);
  if (head.neverIndexed === undefined) {
    head.shared = true;
    remember(list, head);
  }
  return head;
}

function remember(named: HeaderList, head: HeaderList): HeaderList {
  if (named.shared) latestNamed = named;
  latestHead = head;
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

/** A name for a connection: 128 random bits, so that no other has it, of any process, and nobody can guess it. */
export function nextConnectionName(): string {
  return randomBytes(NAME_BYTES).toString('hex');
}

/**
 * The name of a stream: the client has named the connection with 128 random bits (`grpc/sidecar-settings.ts`), and each
 * stream has a number there. A task without an id is known by it, at no cost until the task is sent again.
 */
export function nameOfStream({ name }: StreamConnection, streamId: number): string {
  return `${name}-${streamId}`;
}

/** The client's name of a connection, on the server's side. */
export function announcedConnectionName(connection: StreamConnection): string {
  if (connection.name === '') connection.name = announcedName(connection.peer);
  return connection.name;
}

/** The name of the run of which {@link RUN_HEADER} was in the head on this stream. */
export function runName(run: string, streamId: number): string {
  return `${run}-${streamId}`;
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
  readonly run: StreamName;
  /** The bytes of DATA that the caller has, with the prefixes of gRPC and without padding. */
  readonly byte: number;
}

const RESUME_PATTERN = /^([^/]{1,64})\/(\d{1,15})$/;

export function resumeValue(name: string, byte: number): string {
  return `${name}/${byte}`;
}

/** Undefined when it is malformed. */
export function parseResume(value: string): ResumeRequest | undefined {
  const [, name, byte] = RESUME_PATTERN.exec(value) ?? [];
  const run = name === undefined ? undefined : parseStreamName(name);
  return run === undefined ? undefined : { run, byte: Number(byte) };
}
