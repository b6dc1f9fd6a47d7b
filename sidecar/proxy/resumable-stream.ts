/** The stream of a caller that may lose its connection and come back for the rest of the answer. */
import type { Stream } from '../http2/streams.ts';

/**
 * Sends an answer to one caller and can go on over another stream: the call that runs the task (`task-run.ts`), or one that
 * follows it (`task-follower.ts`).
 */
export interface ResumableStream {
  /** Whether the caller could come back now if it lost its connection. */
  readonly canResume: boolean;
  /** The caller's connection was lost, and the caller has not come back yet. */
  readonly isCut: boolean;
  /** The caller's stream is gone, and the caller may come back. */
  cut(): void;
  /** Whether all bytes from this one on are kept, and this one was sent before or is the next one. */
  mayResumeAt(byte: number): boolean;
  /** The caller is back: its call has a new stream, whose head was sent. */
  resumeAt(byte: number): void;
}

/** The bytes that were sent, and for which the receiver has given no credit back: it may not have received them. */
export function bytesOnTheWay({ connection, sendWindow }: Stream): number {
  return Math.max(0, connection.peer.initialWindowBytes - sendWindow);
}

/** A log that others read. */
interface ReadLog {
  readonly log: { readonly length: number };
  readonly readers: ReadonlySet<{ readonly offset: number }> | undefined;
}

/** How far behind the end of the log the fastest of its readers is; 0 without readers. */
export function fastestLag({ log, readers }: ReadLog): number {
  if (readers === undefined || readers.size === 0) return 0;
  let lag = log.length;
  for (const { offset } of readers) lag = Math.min(lag, log.length - offset);
  return lag;
}
