/** A stream, and the interfaces of its user and of its connection. */
import type { StreamFailure } from './errors.ts';
import type { MessageHead } from './head.ts';
import type { HeldByConnection, HeldStream } from './held-by-caller.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { OnBehalf, PeerIdentity } from './peer-identity.ts';
import { type SendCredit, widen } from './send-credit.ts';
import type { SendQueue } from './send-queue.ts';
import type { PeerSettings } from './settings.ts';
import {
  nameOfState,
  nextStreamState,
  numberOfEvent,
  numberOfState,
  type StreamState,
} from './stream-state.ts';
import type { UnreadOutput } from './unread-output.ts';
import type { WriteTap } from './writer.ts';

// Constants of this module, because V8 compiles them into the getters, and loads those of another module each time.
const OPEN = numberOfState('open');
const HALF_CLOSED_LOCAL = numberOfState('halfClosedLocal');
const HALF_CLOSED_REMOTE = numberOfState('halfClosedRemote');
const ENDED = numberOfState('ended');
const CLOSED = numberOfState('closed');
const END_RECEIVED = numberOfEvent('endReceived');
const END_SENT = numberOfEvent('endSent');
const CLOSE = numberOfEvent('close');

/** The user of a stream, which receives its events. No method may throw. */
export interface StreamHandler {
  /**
   * Header fields have arrived. A client receives interim heads (1xx), the response head and trailers; a server receives the
   * request's trailers (`ConnectionOwner.onStream` receives its head). An `oversize` list has only a part of the fields.
   */
  onHeaders(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void;
  /**
   * `buffer[start, end)` has arrived. Copy bytes that you keep (`shared-read.ts`).
   *
   * @returns the number of bytes that are finished; the rest count against the stream's window until the handler reports them
   *   with `Connection.consume`
   */
  onData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number;
  /** The connection has written bytes that `sendData` had queued; with the last of them the stream may have closed. */
  onDataSent(stream: Stream, bytes: number): void;
  /** The stream ended without END_STREAM. This is its last event. */
  onFailed(stream: Stream, failure: StreamFailure): void;
  /**
   * No memory is left for waiting requests, and this one must end (`held-requests.ts`). Without this method the connection
   * resets the stream.
   */
  onNoRoom?(stream: Stream): void;
  /** Whether the request waits for its caller to send more, or to read the answer. Undefined means true. */
  readonly awaitsCaller?: boolean;
}

/** The parts of a connection that a stream and its user need. */
export interface StreamConnection extends UnreadOutput {
  readonly scheme: 'http' | 'https';
  readonly limits: ConnectionLimits;
  readonly peer: PeerSettings;
  readonly identity: PeerIdentity | undefined;
  readonly onBehalf: OnBehalf | undefined;
  readonly caller: object | undefined;
  /** The name by which both owners know the connection; '' without one. */
  name: string;
  readonly held: HeldByConnection;
  readonly waiting: { discard(stream: Stream): void };
  readonly control: { requestSign(onAnswer: () => void): void };
  readonly closed: boolean;
  readonly lastReadAtMs: number;
  readonly peerGoawayCode: number;
  readonly writer: UnreadOutput['writer'] & { tap: WriteTap | undefined; flush(): void };
  readonly sendWindow: number;
  readonly credit: SendCredit;
  sendHeaders(
    stream: Stream,
    list: HeaderList,
    extra: readonly string[] | undefined,
    endStream: boolean,
    literals?: Buffer,
  ): void;
  sendData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number;
  consume(stream: Stream, bytes: number): void;
  stopReceiving(stream: Stream): void;
  reset(stream: Stream, code: number): void;
  streamError(stream: Stream, code: number, message: string): void;
  giveUp(stream: Stream): void;
  waste(stream: Stream, atOnce?: boolean): void;
}

/** Is told how a stream ends, so that another one can go on with it. No method may throw. */
export interface StreamTap {
  /** The stream ends with these fields, once all DATA before was written. */
  onEnd(list: HeaderList, extra: readonly string[] | undefined): void;
  /** The stream has closed, and this was not sent. */
  onUnsent(queue: SendQueue<Stream>): void;
}

/** The handler until the owner of a new stream sets its own. It drops everything. */
export const UNHANDLED: StreamHandler = {
  onHeaders() {},
  onData: (_stream, _buffer, start, end) => end - start,
  onDataSent() {},
  onFailed() {},
};

/** One HTTP/2 stream. {@link StreamState} draws its states. */
export class Stream implements HeldStream {
  readonly connection: StreamConnection;
  readonly id: number;
  handler: StreamHandler;
  /** The number of its state. */
  private current = OPEN;
  /** The peer's final head (not 1xx) has arrived, so a further HEADERS frame has trailers. */
  headReceived = false;
  /** The connection resets the stream with NO_ERROR when our side has ended. */
  stopWhenEnded = false;

  /** The bytes that we may still send; negative after the peer has reduced its initial window (RFC 9113 §6.9.2). */
  sendWindow: number;
  /** All bytes that we might have sent by now: its first window, and what the peer has added. */
  private grantedBytes: number;
  /** The credit that it has added as it received other bytes. */
  private returnedBytes = 0;
  /** The bytes that the peer may still send. */
  receiveWindow: number;
  /** Consumed bytes for which we have not sent WINDOW_UPDATE yet. */
  unacknowledged = 0;
  /** Received bytes that the handler has not finished. */
  unconsumed = 0;
  /**
   * The bytes that `content-length` still promises; -1 without one. A client's handler may set it to -1 at the head, if the
   * promise is not about this response (HEAD) or the message has a length of its own.
   */
  expectedBytes = -1;

  /** The size of the interim responses so far. */
  interimBytes = 0;
  /** The connection's read that brought the stream (servers). */
  bornInRead = 0;
  /** Our side made the answer itself, so the stream earns the peer nothing (`flood-guard.ts`). */
  unserved = false;
  /** The peer has wasted the stream, and `wasted-streams.ts` has counted it. */
  wasted = false;

  queue: SendQueue<Stream> | undefined = undefined;
  tap: StreamTap | undefined = undefined;
  /** The memory of its request, in bytes. Only `held-requests.ts` writes this and the following fields. */
  heldBytes = 0;
  /** The bytes count, because no endpoint has the request. */
  held = false;
  heldSinceMs = 0;
  heldOlder: HeldStream | undefined = undefined;
  heldNewer: HeldStream | undefined = undefined;
  /** Only {@link StreamTable} writes it. */
  nextInTable: Stream | undefined = undefined;

  constructor(
    connection: StreamConnection,
    id: number,
    handler: StreamHandler,
    sendWindow: number,
    receiveWindow: number,
  ) {
    this.connection = connection;
    this.id = id;
    this.handler = handler;
    this.sendWindow = sendWindow;
    this.grantedBytes = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  /** The bytes of DATA that we have written. */
  get writtenBytes(): number {
    return this.grantedBytes - this.sendWindow;
  }

  /** The last of them, which the peer has not given back. */
  get unreturnedBytes(): number {
    return this.writtenBytes - this.returnedBytes;
  }

  /** The peer gives back bytes that it has received. The window may be not a number then, above its limit. */
  giveBack(bytes: number): void {
    this.returnedBytes += bytes;
    this.grantedBytes += bytes;
    this.sendWindow = widen(this.sendWindow, bytes);
  }

  /** The peer has changed the window of all its streams. */
  moveWindow(bytes: number): void {
    this.grantedBytes += bytes;
    this.sendWindow = widen(this.sendWindow, bytes);
  }

  get state(): StreamState {
    return nameOfState(this.current);
  }

  /** Our side has not sent END_STREAM, and nothing else has ended the stream. */
  get canSend(): boolean {
    return this.current === OPEN || this.current === HALF_CLOSED_REMOTE;
  }

  /** The peer has not sent END_STREAM, and nothing else has ended the stream. */
  get canReceive(): boolean {
    return this.current <= HALF_CLOSED_LOCAL;
  }

  /** Both sides have sent END_STREAM, and the connection has yet to remove the stream. */
  get hasEnded(): boolean {
    return this.current === ENDED;
  }

  /** The connection has removed the stream. */
  get closed(): boolean {
    return this.current >= CLOSED;
  }

  /** The connection has removed the stream, for which both sides had sent END_STREAM. */
  get closedInOrder(): boolean {
    return this.current === CLOSED;
  }

  markEndReceived(): void {
    this.current = nextStreamState(this.current, END_RECEIVED);
  }

  markEndSent(): void {
    this.current = nextStreamState(this.current, END_SENT);
  }

  /** The connection has removed the stream. */
  markClosed(): void {
    this.current = nextStreamState(this.current, CLOSE);
  }

  /** Ends the stream, because its reader does not read (`queued-memory.ts`). */
  giveUp(): void {
    this.connection.giveUp(this);
  }

  /** Ends the stream, because no memory is left for its request (`held-requests.ts`). */
  refuseForRoom(): void {
    const { handler } = this;
    if (handler.onNoRoom === undefined) this.connection.giveUp(this);
    else handler.onNoRoom(this);
  }

  get awaitsCaller(): boolean {
    return this.handler.awaitsCaller !== false;
  }
}
