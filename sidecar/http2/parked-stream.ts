/** Gives a stream that has lost its connection a place to wait, with all that it has yet to send. */

import { FAILURE_FROM_STALL } from './errors.ts';
import { WaitingStreams } from './flow-control.ts';
import type { HeldByConnection } from './held-by-caller.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { OnBehalf, PeerIdentity } from './peer-identity.ts';
import { queuedMemory } from './queued-memory.ts';
import { SendCredit } from './send-credit.ts';
import type { SendQueue } from './send-queue.ts';
import type { PeerSettings } from './settings.ts';
import { Stream, type StreamConnection } from './streams.ts';

const EMPTY = Buffer.alloc(0);
const UNREAD = { writableLength: 0 };
const BLOCKED = { blocked: true, tap: undefined, flush(): void {} };
const NO_CREDIT = new SendCredit();
const NO_SIGNS = { requestSign(): void {} };

/**
 * In place of a connection that was lost: its stream looks to its handler like one whose reader does not read. What is sent
 * waits, and counts as bytes that wait for readers (`queued-memory.ts`).
 */
class Parking implements StreamConnection {
  readonly scheme: 'http' | 'https';
  readonly limits: ConnectionLimits;
  readonly peer: PeerSettings;
  readonly identity: PeerIdentity | undefined;
  readonly onBehalf: OnBehalf | undefined;
  readonly caller: object | undefined;
  name: string;
  readonly held: HeldByConnection;
  readonly waiting = new WaitingStreams();
  readonly control = NO_SIGNS;
  readonly closed = false;
  readonly lastReadAtMs: number;
  readonly peerGoawayCode: number;
  readonly sendWindow = 0;
  readonly credit = NO_CREDIT;
  readonly socket = UNREAD;
  readonly writer = BLOCKED;

  constructor(lost: StreamConnection) {
    this.scheme = lost.scheme;
    this.limits = lost.limits;
    this.peer = lost.peer;
    this.identity = lost.identity;
    this.onBehalf = lost.onBehalf;
    this.caller = lost.caller;
    this.name = lost.name;
    this.held = lost.held;
    this.lastReadAtMs = lost.lastReadAtMs;
    this.peerGoawayCode = lost.peerGoawayCode;
  }

  sendHeaders(
    stream: Stream,
    list: HeaderList,
    extra: readonly string[] | undefined,
    endStream: boolean,
  ): void {
    // A head is known to the tap's owner, who sends it again.
    if (!endStream || stream.closed) return;
    stream.tap?.onEnd(list, extra);
  }

  sendData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (stream.closed) return end - start;
    this.waiting.push(stream, buffer, start, end, endStream);
    queuedMemory.shedExcess();
    return 0;
  }

  consume(): void {}

  stopReceiving(): void {}

  waste(): void {}

  reset(stream: Stream): void {
    if (stream.closed) return;
    stream.markClosed();
    this.waiting.discard(stream);
  }

  streamError(stream: Stream): void {
    this.reset(stream);
  }

  giveUp(stream: Stream): void {
    this.reset(stream);
    stream.handler.onFailed(stream, FAILURE_FROM_STALL);
  }
}

/**
 * Parks a stream whose connection was lost. @param unsent what the lost one had still to send
 *
 * @param from skips so many of its bytes
 */
export function parkStream(lost: Stream, unsent: SendQueue<Stream> | undefined, from: number): Stream {
  const parking = new Parking(lost.connection);
  const parked = new Stream(parking, lost.id, lost.handler, 0, 0);
  parked.headReceived = true;
  parked.markEndReceived();
  parked.tap = lost.tap;
  // Also without bytes it has a queue, by which its handler sees that nobody reads.
  parking.waiting.push(parked, EMPTY, 0, 0, false);
  let skip = from;
  for (const { buffer, start, end } of unsent?.pieces ?? []) {
    const skipped = Math.min(skip, end - start);
    skip -= skipped;
    if (start + skipped < end) parking.waiting.push(parked, buffer, start + skipped, end, false);
  }
  return parked;
}
