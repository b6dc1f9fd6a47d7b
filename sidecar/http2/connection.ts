/** One HTTP/2 connection: puts the parts together, and sends. */
import type { Socket } from 'node:net';
import { ClosedStreams } from './closed-streams.ts';
import { ConnectionLifecycle } from './connection-lifecycle.ts';
import type { ConnectionOptions, ConnectionOwner } from './connection-owner.ts';
import { ControlFrames } from './control-frames.ts';
import {
  ConnectionError,
  FAILURE_FROM_STALL,
  failureFromConnection,
  failureFromProtocol,
  type StreamFailure,
} from './errors.ts';
import { FloodGuard } from './flood-guard.ts';
import { WaitingStreams } from './flow-control.ts';
import { beginBatch, endBatch } from './flush-queue.ts';
import { lossOf } from './foreign.ts';
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  errorName,
  Flag,
  FrameType,
  MAX_STREAM_ID,
} from './frame.ts';
import { FrameReader } from './frame-reader.ts';
import { beginShutdown, closeWhenDone, endBehindGoaway, endShutdown, writeGoaway } from './goaway.ts';
import { HeaderSender } from './header-sender.ts';
import { HeldByConnection } from './held-by-caller.ts';
import { heldRequests } from './held-requests.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';
import type { OnBehalf, PeerIdentity } from './peer-identity.ts';
import { queuedMemory } from './queued-memory.ts';
import { Receiver } from './receiver.ts';
import { SendCredit } from './send-credit.ts';
import type { SendQueue } from './send-queue.ts';
import { PeerSettings } from './settings.ts';
import { StreamTable } from './stream-table.ts';
import { Stream, type StreamConnection, type StreamHandler, UNHANDLED } from './streams.ts';
import { boundUnreadOutput, leavesMuchUnread, readAgain } from './unread-output.ts';
import { countFault, waste } from './wasted-streams.ts';
import { workTurns } from './work-turns.ts';
import { FrameWriter } from './writer.ts';

/**
 * One HTTP/2 connection, either side of it, over any socket: cleartext with prior knowledge, or TLS that has
 * negotiated h2. It does what RFC 9113 requires of a connection and knows nothing of the layers above HTTP/2: `receiver.ts`
 * acts on received HEADERS and DATA, `control-frames.ts` on all other frames, and the methods here send.
 */
export class Connection extends ConnectionLifecycle implements StreamConnection {
  readonly role: 'server' | 'client';
  readonly limits: ConnectionLimits;
  readonly socket: Socket;
  readonly owner: ConnectionOwner<Connection>;
  readonly clock: () => number;
  readonly writer: FrameWriter;
  readonly peer: PeerSettings;
  readonly flood: FloodGuard;
  readonly streams = new StreamTable();
  readonly closedStreams = new ClosedStreams();
  readonly waiting = new WaitingStreams();
  readonly held = new HeldByConnection(this);
  readonly headers: HeaderSender;
  readonly reader: FrameReader;
  readonly receiver: Receiver;
  readonly control: ControlFrames;
  /** The `:scheme` of its requests. */
  readonly scheme: 'http' | 'https';
  /** Undefined if the peer has shown no certificate. */
  identity: PeerIdentity | undefined = undefined;
  /** Undefined unless this process has made the connection to itself; this layer never reads it. */
  onBehalf: OnBehalf | undefined = undefined;
  /** The caller for which the owner counts the streams; this layer never reads it. */
  caller: object | undefined = undefined;
  /** The name by which both owners know it; '' without one. This layer never reads it. */
  name = '';

  /** Bytes we may still send on the connection. */
  sendWindow = DEFAULT_WINDOW_BYTES;
  readonly credit = new SendCredit();
  maxFrameBytes = DEFAULT_MAX_FRAME_BYTES;
  /** The highest stream id that the peer has used (servers). */
  lastPeerStreamId = 0;
  /** We ignore streams of the peer above this id, which our last GOAWAY named (servers). */
  lastServedStreamId = MAX_STREAM_ID;
  nextStreamId = 1;
  /** The code of the peer's latest GOAWAY; -1 before the first. */
  peerGoawayCode = -1;
  /** The number of reads from the socket. */
  reads = 0;
  /** RST_STREAM frames we have sent. */
  resetsSent = 0;
  /** The connection waits for a turn, with this many bytes; only `work-turns.ts` writes both. */
  inLine = false;
  inLineBytes = 0;
  /** The time of the latest read from the socket; keepalive measures silence from it. */
  lastReadAtMs: number;

  constructor(socket: Socket, owner: ConnectionOwner<Connection>, options: ConnectionOptions) {
    super();
    this.socket = socket;
    this.owner = owner;
    this.role = options.role;
    this.scheme = 'encrypted' in socket ? 'https' : 'http';
    this.limits = options.limits;
    this.peer = new PeerSettings(options.extension?.ids);
    this.clock = options.clock;
    this.lastReadAtMs = options.clock();
    this.writer = new FrameWriter(socket);
    this.headers = new HeaderSender(this.writer, options.knownNames);
    this.flood = new FloodGuard(options.clock, options.limits);
    this.receiver = new Receiver(this);
    this.control = new ControlFrames(this, options);
    this.reader = new FrameReader(this.receiver, DEFAULT_MAX_FRAME_BYTES, options.role === 'server');
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.onBytes(chunk));
    socket.on('drain', () => this.onDrain());
    socket.on('end', () => this.lost(lossOf(this, undefined)));
    socket.on('error', (error) => this.lost(lossOf(this, error), error));
    socket.on('close', () => this.lost('the connection was closed'));
    if (this.role === 'client') this.control.sendPrefaceAndSettings();
  }

  private onBytes(chunk: Buffer): void {
    this.reads = (this.reads + 1) & 0x3fffffff;
    this.work(chunk);
  }

  /** Works on a read, or on frames left from an earlier turn (`work-turns.ts`), for one turn at most. */
  work(chunk: Buffer | undefined): void {
    if (this.closed || (chunk === undefined && this.role === 'server' && leavesMuchUnread(this))) return;
    const { reader } = this;
    beginBatch();
    const nowMs = this.clock();
    const sinceMs = nowMs - this.lastReadAtMs;
    this.lastReadAtMs = nowMs;
    try {
      if (chunk === undefined) reader.goOn();
      else reader.push(chunk, sinceMs);
    } catch (error) {
      // A defect of ours or of a handler ends this connection and no other.
      this.fail('local', ErrorCode.INTERNAL_ERROR, 'an internal error; see the log', error);
    } finally {
      endBatch();
    }
    if (this.writer.blocked && !this.closed) boundUnreadOutput(this);
    if (reader.workDone && !this.closed) workTurns.add(this);
    else if (chunk === undefined) readAgain(this);
  }

  private onDrain(): void {
    this.writer.onDrain();
    if (this.closed) return;
    readAgain(this);
    beginBatch();
    this.waiting.pump(this);
    if (this.role === 'client') this.owner.onCapacity(this);
    endBatch();
  }

  /** Whether a client may open another stream now. It may not while the peer leaves much output unread. */
  get hasCapacity(): boolean {
    return this.isOpen && this.streams.size < this.peer.maxConcurrentStreams && !leavesMuchUnread(this);
  }

  /** Opens a stream (clients), for which the caller then sends HEADERS. Check `hasCapacity` first. */
  openStream(handler: StreamHandler): Stream {
    const id = this.nextStreamId;
    this.nextStreamId += 2;
    const stream = new Stream(this, id, handler, this.peer.initialWindowBytes, this.limits.streamWindowBytes);
    this.streams.add(stream);
    // This also pays for the answers that arrive after the stream was cancelled.
    this.flood.progress();
    // Ids run out after 2^30 calls: this connection finishes its calls, and the pool opens another.
    if (this.nextStreamId > 0x7fff_fff0) this.markLeaving();
    return stream;
  }

  /** Adds a stream that the peer has opened (servers). */
  acceptStream(id: number): Stream {
    const { peer, limits } = this;
    const stream = new Stream(this, id, UNHANDLED, peer.initialWindowBytes, limits.streamWindowBytes);
    stream.bornInRead = this.reads;
    this.streams.add(stream);
    return stream;
  }

  /**
   * Sends header fields: a request, a response head, or, with `endStream` after DATA, trailers, which wait behind queued
   * DATA. `literals` are further, encoded fields; only heads may have them, because they precede any DATA.
   */
  sendHeaders(
    stream: Stream,
    list: HeaderList,
    extra: readonly string[] | undefined,
    endStream: boolean,
    literals?: Buffer,
  ): void {
    if (!stream.canSend) return;
    const { queue } = stream;
    if (endStream) stream.tap?.onEnd(list, extra);
    if (queue !== undefined) {
      queue.trailers = list;
      queue.trailersExtra = extra;
      queue.endStream = endStream;
      return;
    }
    const maxFrameBytes = Math.min(this.peer.maxFrameBytes, DEFAULT_MAX_FRAME_BYTES);
    this.headers.send(stream.id, list, extra, endStream, maxFrameBytes, literals);
    this.writer.relieve();
    if (endStream) this.endLocal(stream);
  }

  /** @returns the number of bytes sent; the others wait, and `onDataSent` reports them when they are sent */
  sendData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (!stream.canSend) return end - start;
    const bytes = end - start;
    // An empty frame means nothing, and passing on a flood of them would harm a connection that other calls share.
    if (bytes === 0 && !endStream) return 0;
    if (
      stream.queue === undefined &&
      bytes <= stream.sendWindow &&
      bytes <= this.sendWindow &&
      bytes <= DEFAULT_MAX_FRAME_BYTES &&
      !this.writer.blocked
    ) {
      this.writer.frame(FrameType.DATA, endStream ? Flag.END_STREAM : 0, stream.id, buffer, start, end);
      stream.sendWindow -= bytes;
      this.sendWindow -= bytes;
      this.flood.progress();
      if (endStream) this.endLocal(stream);
      return bytes;
    }
    if (bytes === 0 && stream.queue === undefined) {
      // An empty DATA frame needs no window.
      this.writer.frame(FrameType.DATA, Flag.END_STREAM, stream.id, buffer, start, end);
      this.endLocal(stream);
      return 0;
    }
    this.waiting.push(stream, buffer, start, end, endStream);
    this.waiting.pumpOne(this, stream);
    queuedMemory.shedExcess();
    return 0;
  }

  /** Earns the peer control frames, but a window that opens by a few bytes at a time earns no more than those cost. */
  onTurn(bytes: number): void {
    this.flood.moved(bytes);
  }

  /** The queue of a stream is empty. */
  onQueueSent(stream: Stream, queue: SendQueue<Stream>): void {
    if (queue.trailers !== undefined)
      this.sendHeaders(stream, queue.trailers, queue.trailersExtra, queue.endStream);
    else if (queue.endStream) this.endLocal(stream);
  }

  private endLocal(stream: Stream): void {
    stream.markEndSent();
    if (stream.hasEnded) this.closeStream(stream, false);
    else if (stream.stopWhenEnded) this.reset(stream, ErrorCode.NO_ERROR);
  }

  /**
   * Makes the peer stop sending, because our answer is complete or queued. When the answer has been sent, RST_STREAM with
   * NO_ERROR follows it (RFC 9113 §8.1).
   */
  stopReceiving(stream: Stream): void {
    if (!stream.canReceive) return;
    stream.stopWhenEnded = true;
    if (!stream.canSend) this.reset(stream, ErrorCode.NO_ERROR);
  }

  /** The handler has finished with bytes that `onData` did not finish: the peer may send as many again. */
  consume(stream: Stream, bytes: number): void {
    if (stream.closed) return;
    stream.unconsumed -= bytes;
    this.receiver.window.release(bytes);
    this.receiver.acknowledge(stream, bytes);
  }

  /** Resets a stream, whose handler receives no further events. Does nothing if the connection has removed the stream. */
  reset(stream: Stream, code: number): void {
    if (stream.closed) return;
    this.writer.uint32Frame(FrameType.RST_STREAM, stream.id, code);
    this.resetsSent++;
    this.closeStream(stream, true);
  }

  /** Resets a stream on which the peer broke a rule (RFC 9113 §5.4.2), and notifies its handler. */
  streamError(stream: Stream, code: number, message: string): void {
    stream.wasted = true;
    this.reset(stream, code);
    countFault(this, stream.bornInRead === this.reads);
    stream.handler.onFailed(stream, failureFromProtocol(code, message));
  }

  /** Resets a stream whose reader does not read, because no memory is left for waiting bytes (`queued-memory.ts`). */
  giveUp(stream: Stream): void {
    this.reset(stream, this.role === 'server' ? ErrorCode.ENHANCE_YOUR_CALM : ErrorCode.CANCEL);
    stream.handler.onFailed(stream, FAILURE_FROM_STALL);
    this.waste(stream);
  }

  /** Counts a stream that its owner ends because of its content (`wasted-streams.ts`). */
  waste(stream: Stream, atOnce = false): void {
    waste(this, stream, atOnce);
  }

  /** Sends RST_STREAM for an id without a stream. */
  refuse(streamId: number, code: number): void {
    this.writer.uint32Frame(FrameType.RST_STREAM, streamId, code);
    this.closedStreams.add(streamId, true);
    countFault(this, true);
  }

  /** Removes a stream that has ended or was reset, and releases its memory and window. */
  closeStream(stream: Stream, resetByUs: boolean): void {
    if (stream.closed) return;
    stream.markClosed();
    this.streams.delete(stream);
    if (this.role === 'server') this.closedStreams.add(stream.id, resetByUs);
    if (stream.closedInOrder && !stream.wasted && !stream.unserved) this.flood.streamFinished();
    if (stream.held) heldRequests.pass(stream);
    const unsent = this.waiting.discard(stream);
    if (unsent !== undefined) stream.tap?.onUnsent(unsent);
    if (stream.unconsumed !== 0) {
      // Negative if the handler has already consumed, within `onData`, bytes that are not counted yet.
      this.receiver.window.release(stream.unconsumed);
      stream.unconsumed = 0;
    }
    if (this.closed) return;
    if (this.role === 'client') this.owner.onCapacity(this);
    closeWhenDone(this);
  }

  /**
   * Ends the connection without losing a call: GOAWAY in two steps (RFC 9113 §6.8), then close behind the last stream.
   * A client refuses no calls, so it only opens no more streams and closes. Does nothing unless the connection is open.
   */
  shutdown(): void {
    beginShutdown(this);
  }

  /** Takes the second step, at the answer to our PING; the owner calls it when that takes too long. */
  finishShutdown(): void {
    endShutdown(this);
  }

  /** Ends the connection for a connection error (RFC 9113 §5.4.1): sends GOAWAY with the code, and closes. */
  fail(source: 'peer' | 'local', code: number, message: string, cause?: unknown): void {
    if (this.closed) return;
    const error = new ConnectionError(source, code, `${message} (${errorName(code)})`, undefined, cause);
    this.closeWithGoaway(code, message, error);
  }

  /** Sends GOAWAY with the code and the debug data, and closes at once. */
  closeWithGoaway(code: number, debug: string, error: ConnectionError): void {
    if (this.closed) return;
    writeGoaway(this.writer, this.lastPeerStreamId, code, debug);
    this.close(error);
  }

  /** Closes at once; streams fail with the error. Write a necessary GOAWAY before ({@link closeWithGoaway}). */
  close(error: ConnectionError): void {
    if (this.closed) return;
    this.markClosed();
    this.reader.stopped = true;
    this.receiver.close();
    beginBatch();
    this.writer.flush();
    this.failStreams(failureFromConnection(error, false));
    endBatch();
    if (this.socket.destroyed || this.socket.connecting) {
      this.socket.destroy();
      this.owner.onClosed(this, error);
      return;
    }
    endBehindGoaway(this.socket);
    // We read and drop what still arrives, so that the peer reads our GOAWAY before a TCP reset.
    if (this.socket.isPaused()) this.socket.resume();
    this.owner.onClosed(this, error);
  }

  private lost(message: string, cause?: Error): void {
    if (this.closed) return;
    this.close(new ConnectionError('network', ErrorCode.NO_ERROR, message, 'connection_lost', cause));
    this.socket.destroy();
  }

  /** Fails all streams with a higher id. */
  failStreams(failure: StreamFailure, aboveId = 0): void {
    for (const stream of this.streams.all(aboveId)) {
      this.closeStream(stream, false);
      stream.handler.onFailed(stream, failure);
    }
  }
}
