/** The interface of a connection for the code that receives. */
import type { ClosedStreams } from './closed-streams.ts';
import type { ConnectionOwner } from './connection-owner.ts';
import type { ControlFrames } from './control-frames.ts';
import type { FloodGuard } from './flood-guard.ts';
import { ErrorCode } from './frame.ts';
import type { FrameReader } from './frame-reader.ts';
import type { HeldByConnection } from './held-by-caller.ts';
import type { WindowConnection } from './receive-window.ts';
import type { StreamTable } from './stream-table.ts';
import type { Stream } from './streams.ts';

/** The parts of a connection that receiving needs. */
export interface ReceivingConnection extends WindowConnection {
  readonly role: 'server' | 'client';
  readonly owner: ConnectionOwner<ReceivingConnection>;
  readonly clock: () => number;
  readonly flood: FloodGuard;
  readonly held: HeldByConnection;
  readonly reader: Pick<FrameReader, 'spend'>;
  readonly control: ControlFrames;
  readonly isOpening: boolean;
  readonly streams: StreamTable;
  readonly closedStreams: ClosedStreams;
  /** The highest stream id that the peer has used (servers). */
  lastPeerStreamId: number;
  /** We ignore streams of the peer above this id. */
  readonly lastServedStreamId: number;
  acceptStream(id: number): Stream;
  closeStream(stream: Stream, resetByUs: boolean): void;
  streamError(stream: Stream, code: number, message: string): void;
  fail(source: 'peer', code: number, message: string): void;
  refuse(streamId: number, code: number): void;
}

/** Counts a frame that moves no bytes. @returns false if it exceeded the allowance, and the connection has ended */
export function countUseless(connection: ReceivingConnection): boolean {
  if (connection.flood.controlFrame()) return true;
  failForFlood(connection);
  return false;
}

export function failForFlood(connection: ReceivingConnection): void {
  connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, 'too many frames without content');
}
