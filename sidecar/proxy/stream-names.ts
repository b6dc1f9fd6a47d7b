/** How sidecars name a task's stream to each other, and ask for the rest of one. */
import { announcedName } from '../grpc/sidecar-settings.ts';
import type { StreamConnection } from '../http2/streams.ts';

/** A request for the rest of a stream: its name, a slash, and the number of the first byte that is missing. */
export const RESUME_HEADER = 'outrigger-resume';
/** In the head of the answer to it: the name of the stream that continues. */
export const STREAM_HEADER = 'outrigger-stream';
/** In a task that is sent again: the name of the stream that it was sent on first. */
export const FIRST_STREAM_HEADER = 'outrigger-first-stream';

export function isStreamField(name: string): boolean {
  return name === RESUME_HEADER || name === FIRST_STREAM_HEADER;
}

/**
 * The name of a stream: the server has named the connection with 128 random bits (`grpc/sidecar-settings.ts`), and each
 * stream has a number there. So no other sidecar, and no other process at the same address, has a stream of this name.
 */
export function nameOfStream(connectionName: string, streamId: number): string {
  return `${connectionName}-${streamId}`;
}

/** The same on the client's side. */
export function announcedStreamName(connection: StreamConnection, streamId: number): string {
  return nameOfStream(announcedName(connection.peer), streamId);
}

export interface ResumeRequest {
  readonly name: string;
  readonly connectionName: string;
  readonly streamId: number;
  /** The bytes of DATA that the caller has, with the prefixes of gRPC and without padding. */
  readonly byte: number;
}

const RESUME_PATTERN = /^(([0-9a-f]{32})-(\d{1,10}))\/(\d{1,15})$/;

export function resumeValue(name: string, byte: number): string {
  return `${name}/${byte}`;
}

/** Undefined when it is malformed. */
export function parseResume(value: string): ResumeRequest | undefined {
  const found = RESUME_PATTERN.exec(value);
  if (found === null) return undefined;
  const [, name, connectionName, streamId, byte] = found as unknown as [
    string,
    string,
    string,
    string,
    string,
  ];
  return { name, connectionName, streamId: Number(streamId), byte: Number(byte) };
}
