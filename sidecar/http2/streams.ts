import type { StreamFailure } from './errors.ts';
import type { MessageHead } from './head.ts';
import type { HeldByConnection, HeldStream } from './held-by-caller.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { PeerIdentity } from './peer-identity.ts';
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

// Constants of this module, because V8 compiles them into the getters, and loads those of another module each time.
const OPEN = numberOfState('open');
const HALF_CLOSED_LOCAL = numberOfState('halfClosedLocal');
const HALF_CLOSED_REMOTE = numberOfState('halfClosedRemote');
const ENDED = numberOfState('ended');
const CLOSED = numberOfState('closed');
const END_RECEIVED = numberOfEvent('endReceived');
const END_SENT = numberOfEvent('endSent');
const CLOSE = numberOfEvent('close');

/** What a stream tells the one who uses it. No method may throw. */
export interface StreamHandler {
  /**
   * Header fields arrived. A client sees interim heads (1xx), the response head and trailers; a server sees the
   * request's trailers here (the request's own head comes through `ConnectionOwner.onStream`). Of a list that is
   * `oversize` only a part is here.
   */
  onHeaders(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void;
  /**
   * `buffer[start, end)` arrived. Answers how many of these bytes are done with; the rest must be reported with
   * `Connection.consume` later, and until then they count against the stream's window. The buffer stays valid.
   */
  onData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number;
  /** Bytes which `sendData` had to queue have now been written; with the last of them the stream may have closed. */
  onDataSent(stream: Stream, bytes: number): void;
  /** The stream ended without END_STREAM. Nothing more comes. */
  onFailed(stream: Stream, failure: StreamFailure): void;
  /**
   * There is no room for requests that wait, and this one has to go (`held-requests.ts`). A stream whose handler does not say
   * how is reset.
   */
  onNoRoom?(stream: Stream): void;
  /** Whether the request waits for its caller: for more of it, or to read the answer. It is so where nothing is said. */
  readonly awaitsCaller?: boolean;
}

/** What a stream, and who uses it, needs of its connection. */
export interface StreamConnection extends UnreadOutput {
  readonly scheme: 'http' | 'https';
  readonly limits: ConnectionLimits;
  readonly peer: PeerSettings;
  readonly identity: PeerIdentity | undefined;
  readonly caller: object | undefined;
  readonly held: HeldByConnection;
  readonly waiting: { discard(stream: Stream): void };
  readonly control: { askForSign(onAnswer: () => void): void };
  readonly closed: boolean;
  readonly lastReadAtMs: number;
  readonly peerGoawayCode: number;
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

/** Stands in until the owner of a new stream has set its own: drops what comes. */
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
  /** The final (not 1xx) head of the peer arrived: a further HEADERS frame is trailers. */
  headReceived = false;
  /** Reset with NO_ERROR as soon as our side has ended. */
  stopWhenEnded = false;

  /** Bytes we may still send. May go below zero when the peer shrinks its initial window (RFC 9113 §6.9.2). */
  sendWindow: number;
  /** Bytes the peer may still send. */
  receiveWindow: number;
  /** Consumed bytes for which no WINDOW_UPDATE was sent yet. */
  unacknowledged = 0;
  /** Received bytes the handler has not finished with. */
  unconsumed = 0;
  /**
   * What `content-length` still promises; -1 without one. A client's handler may set it to -1 at the head, where the
   * promise is not for this response (HEAD) or the message says its own length.
   */
  expectedBytes = -1;

  /** Of the interim responses so far. */
  interimBytes = 0;
  /** The read of the connection that brought it (servers). */
  bornInRead = 0;
  /** Its answer is our own: it has served nobody, and earns its peer nothing (`flood-guard.ts`). */
  unserved = false;
  /** It came to nothing by the peer's doing, and was counted as such (`wasted-streams.ts`). */
  wasted = false;

  queue: SendQueue<Stream> | undefined = undefined;
  /** What its request holds, in bytes; it and the following are for `held-requests.ts` to write. */
  heldBytes = 0;
  /** They count: nobody works on the request. */
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
    this.receiveWindow = receiveWindow;
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

  /** Its reader does not take what waits for it (`queued-memory.ts`). */
  giveUp(): void {
    this.connection.giveUp(this);
  }

  /** There is no room for its request (`held-requests.ts`). */
  refuseForRoom(): void {
    const { handler } = this;
    if (handler.onNoRoom === undefined) this.connection.giveUp(this);
    else handler.onNoRoom(this);
  }

  get awaitsCaller(): boolean {
    return this.handler.awaitsCaller !== false;
  }
}
