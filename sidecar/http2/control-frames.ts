/** Acts on SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM and PRIORITY. */
import type { ClosedStreams } from './closed-streams.ts';
import type { ConnectionOptions, ConnectionOwner, PingJudge } from './connection-owner.ts';
import { ConnectionError } from './errors.ts';
import type { SendSide, WaitingStreams } from './flow-control.ts';
import {
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  Flag,
  FrameType,
  PREFACE,
  readUint32,
  writeUint32,
} from './frame.ts';
import { obeyGoaway } from './goaway.ts';
import type { HeaderSender } from './header-sender.ts';
import type { ConnectionLimits } from './limits.ts';
import { type SendCredit, widen } from './send-credit.ts';
import { applySettings, type PeerSettings, SettingId } from './settings.ts';
import type { StreamTable } from './stream-table.ts';
import type { Stream } from './streams.ts';
import { resetByPeer, type SpendingConnection } from './wasted-streams.ts';
import type { FrameWriter } from './writer.ts';

/** Our PINGs carry this and a number, so that we recognize their answers. */
const PING_MARK = 0x6f75_7472;
const MAX_SETTINGS_WITHOUT_ACK = 16;
/** The work of SETTINGS beyond that of another frame: the pool may have to check the calls that wait for a stream. */
const SETTINGS_WORK = 16;

/** The frames that {@link ControlFrames.onFrame} receives; `receiver.ts` acts on the others. */
type ControlFrameType = Exclude<
  FrameType,
  typeof FrameType.DATA | typeof FrameType.HEADERS | typeof FrameType.CONTINUATION
>;

/** The parts of a connection on which control frames act. */
export interface ControlledConnection extends SpendingConnection, SendSide {
  readonly owner: ConnectionOwner<ControlledConnection>;
  readonly writer: FrameWriter;
  readonly limits: ConnectionLimits;
  readonly peer: PeerSettings;
  readonly headers: HeaderSender;
  readonly streams: StreamTable;
  readonly waiting: WaitingStreams;
  readonly credit: SendCredit;
  readonly closedStreams: ClosedStreams;
  readonly lastReadAtMs: number;
  readonly nextStreamId: number;
  readonly isOpening: boolean;
  markOpen(): void;
  streamError(stream: Stream, code: number, message: string): void;
  closeWithGoaway(code: number, debug: string, error: ConnectionError): void;
}

/**
 * Acts on SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM and PRIORITY (RFC 9113 §6). Each spends the peer's allowance
 * (`flood-guard.ts`), because none of them does a caller's work.
 */
export class ControlFrames {
  private readonly connection: ControlledConnection;
  private readonly pings: { readonly number: number; readonly onPong: () => void }[] = [];
  private pingNumber = 0;
  private readonly pingJudge: PingJudge | undefined;
  private readonly announced: readonly number[];
  /** The callbacks for the expected ACKs of our SETTINGS, in their order. */
  private readonly settingsAcks: ((() => void) | undefined)[] = [];

  constructor(connection: ControlledConnection, options: ConnectionOptions) {
    this.connection = connection;
    this.pingJudge = options.pings;
    this.announced = options.extension?.announced ?? [];
  }

  sendPrefaceAndSettings(): void {
    const { writer, limits, role } = this.connection;
    if (role === 'client') writer.raw(PREFACE);
    const entries: number[] = [SettingId.INITIAL_WINDOW_SIZE, limits.streamWindowBytes];
    if (role === 'client')
      entries.push(SettingId.MAX_HEADER_LIST_SIZE, limits.maxHeaderBlockBytes, SettingId.ENABLE_PUSH, 0);
    else
      entries.push(
        SettingId.MAX_HEADER_LIST_SIZE,
        limits.maxHeaderListBytes,
        SettingId.MAX_CONCURRENT_STREAMS,
        limits.maxConcurrentStreams,
      );
    entries.push(...this.announced);
    this.announce(entries);
    writer.uint32Frame(FrameType.WINDOW_UPDATE, 0, limits.connectionWindowBytes - DEFAULT_WINDOW_BYTES);
  }

  /** Sends SETTINGS: ids and values in turn. */
  announce(entries: readonly number[]): void {
    const { writer } = this.connection;
    this.settingsAcks.push(undefined);
    let at = writer.beginFrame(entries.length * 3, FrameType.SETTINGS, 0, 0);
    for (let i = 0; i < entries.length; i += 2) {
      writer.buffer[at] = entries[i]! >>> 8;
      writer.buffer[at + 1] = entries[i]!;
      at = writeUint32(writer.buffer, at + 2, entries[i + 1]!);
    }
  }

  /** Sends a PING, and calls `onPong` when the peer answers it. The owner limits the time. */
  ping(onPong: () => void): void {
    const number = ++this.pingNumber;
    this.pings.push({ number, onPong });
    const { writer } = this.connection;
    const at = writer.beginFrame(8, FrameType.PING, 0, 0);
    writeUint32(writer.buffer, writeUint32(writer.buffer, at, PING_MARK), number);
  }

  /**
   * Requests a sign of life from the peer by empty SETTINGS, and calls `onAnswer` at their ACK, which RFC 9113 §6.5.3
   * requires at once. No server counts them as a keepalive PING, so the owner may send them while a call waits for its answer.
   * The owner limits the time.
   */
  requestSign(onAnswer: () => void): void {
    // A peer that has left this many without an answer will not answer.
    if (this.settingsAcks.length >= MAX_SETTINGS_WITHOUT_ACK) return;
    this.settingsAcks.push(onAnswer);
    this.connection.writer.beginFrame(0, FrameType.SETTINGS, 0, 0);
  }

  onFrame(type: number, flags: number, streamId: number, buffer: Buffer, start: number, end: number): void {
    const connection = this.connection;
    if (!connection.flood.controlFrame()) {
      this.failForFlood();
      return;
    }
    const length = end - start;
    // A type that no RFC defines, which the peer may send, too, comes to the default.
    const known = type as ControlFrameType;
    switch (known) {
      case FrameType.SETTINGS:
        if (streamId !== 0) this.protocolError('SETTINGS on a stream');
        else if ((flags & Flag.ACK) !== 0 ? length !== 0 : length % 6 !== 0) this.sizeError('SETTINGS');
        else if ((flags & Flag.ACK) === 0) this.onSettings(buffer, start, end);
        else this.settingsAcks.shift()?.();
        return;
      case FrameType.PING:
        if (streamId !== 0) this.protocolError('PING on a stream');
        else if (length !== 8) this.sizeError('PING');
        else this.onPing(flags, buffer, start);
        return;
      case FrameType.GOAWAY:
        if (streamId !== 0) this.protocolError('GOAWAY on a stream');
        else if (length < 8) this.sizeError('GOAWAY');
        else {
          const debug = buffer.toString('latin1', start + 8, Math.min(end, start + 8 + 256));
          const lastStreamId = readUint32(buffer, start) & 0x7fffffff;
          obeyGoaway(connection, lastStreamId, readUint32(buffer, start + 4), debug);
        }
        return;
      case FrameType.WINDOW_UPDATE:
        if (length !== 4) this.sizeError('WINDOW_UPDATE');
        else this.onWindowUpdate(streamId, readUint32(buffer, start) & 0x7fffffff);
        return;
      case FrameType.RST_STREAM:
        if (length !== 4) this.sizeError('RST_STREAM');
        else this.onReset(streamId, readUint32(buffer, start));
        return;
      case FrameType.PRIORITY:
        this.onPriority(streamId, buffer, start, length);
        return;
      case FrameType.PUSH_PROMISE:
        this.protocolError('PUSH_PROMISE, although push is off');
        return;
      default:
        // RFC 9113 §4.1: we ignore frames of unknown types.
        known satisfies never;
        return;
    }
  }

  private onSettings(buffer: Buffer, start: number, end: number): void {
    const connection = this.connection;
    connection.reader.spend(SETTINGS_WORK);
    const before = connection.peer.initialWindowBytes;
    const maxStreamsBefore = connection.peer.maxConcurrentStreams;
    const fault = applySettings(connection.peer, buffer, start, end, connection.role === 'client');
    if (fault !== undefined) {
      connection.fail('peer', fault.code, fault.message);
      return;
    }
    const change = connection.peer.initialWindowBytes - before;
    if (change !== 0 && !this.moveWindows(change)) return;
    connection.headers.encoder.setPeerTableBytes(connection.peer.headerTableBytes);
    connection.writer.beginFrame(0, FrameType.SETTINGS, Flag.ACK, 0);
    if (connection.isOpening) {
      connection.markOpen();
      connection.owner.onReady(connection);
    } else if (connection.role === 'client') connection.owner.onPeerSettings?.(connection, maxStreamsBefore);
    if (change > 0) connection.waiting.pump(connection);
  }

  /** Changes all windows (RFC 9113 §6.9.2). It costs work for each stream, which the peer's allowance pays for. */
  private moveWindows(change: number): boolean {
    const connection = this.connection;
    const { flood, reader, streams, waiting } = connection;
    if (!flood.settingsMove(streams.size)) {
      this.failForFlood();
      return false;
    }
    reader.spend(streams.size);
    for (const stream of streams) {
      stream.moveWindow(change);
      if (Number.isNaN(stream.sendWindow)) {
        const message = 'SETTINGS_INITIAL_WINDOW_SIZE overflows a window';
        connection.fail('peer', ErrorCode.FLOW_CONTROL_ERROR, message);
        return false;
      }
      waiting.windowOpened(stream);
    }
    return true;
  }

  private onPing(flags: number, buffer: Buffer, start: number): void {
    const { writer, lastReadAtMs } = this.connection;
    if ((flags & Flag.ACK) === 0) {
      const { pingJudge } = this;
      if (pingJudge !== undefined && !pingJudge.accepts(lastReadAtMs, writer.callFrames)) {
        this.closeForPings(pingJudge);
        return;
      }
      writer.frame(FrameType.PING, Flag.ACK, 0, buffer, start, start + 8);
      return;
    }
    const number = readUint32(buffer, start) === PING_MARK ? readUint32(buffer, start + 4) : 0;
    while (this.pings.length > 0 && this.pings[0]!.number <= number) this.pings.shift()!.onPong();
  }

  /** Ends the connection with its calls, because a peer that sends PINGs so often would continue. */
  private closeForPings({ reason, message }: PingJudge): void {
    const code = ErrorCode.ENHANCE_YOUR_CALM;
    this.connection.closeWithGoaway(code, reason, new ConnectionError('peer', code, message, reason));
  }

  private onWindowUpdate(streamId: number, increment: number): void {
    const connection = this.connection;
    if (streamId === 0) {
      if (increment === 0) {
        this.protocolError('WINDOW_UPDATE by 0');
        return;
      }
      connection.credit.add(increment, connection.sendWindow);
      connection.sendWindow = widen(connection.sendWindow, increment);
      if (Number.isNaN(connection.sendWindow)) {
        connection.fail(
          'peer',
          ErrorCode.FLOW_CONTROL_ERROR,
          "WINDOW_UPDATE overflows the connection's window",
        );
        return;
      }
      connection.waiting.pump(connection);
      return;
    }
    const stream = connection.streams.get(streamId);
    if (stream === undefined) {
      // On a closed stream the frame is late and harmless (RFC 9113 §5.1).
      if (this.isIdle(streamId)) this.protocolError('WINDOW_UPDATE on an idle stream');
      return;
    }
    if (increment === 0) {
      connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE by 0');
      return;
    }
    stream.giveBack(increment);
    if (Number.isNaN(stream.sendWindow)) {
      stream.sendWindow = 0;
      connection.streamError(
        stream,
        ErrorCode.FLOW_CONTROL_ERROR,
        "WINDOW_UPDATE overflows the stream's window",
      );
      return;
    }
    if (stream.queue !== undefined) connection.waiting.pumpOne(connection, stream);
  }

  private onReset(streamId: number, code: number): void {
    const connection = this.connection;
    const stream = connection.streams.get(streamId);
    if (stream !== undefined) resetByPeer(connection, stream, code);
    else if (this.isIdle(streamId)) this.protocolError('RST_STREAM on an idle stream');
    // Even if we have reset it, too, the peer now knows that it has ended.
    else if (connection.role === 'server') connection.closedStreams.add(streamId, false);
  }

  private onPriority(streamId: number, buffer: Buffer, start: number, length: number): void {
    const connection = this.connection;
    if (streamId === 0) {
      this.protocolError('PRIORITY needs a stream');
      return;
    }
    const stream = connection.streams.get(streamId);
    // RFC 9113 §5.3.2 deprecates it, so we ignore it, but we check its form.
    if (length !== 5) {
      if (stream !== undefined)
        connection.streamError(stream, ErrorCode.FRAME_SIZE_ERROR, 'PRIORITY has 5 bytes');
      else this.sizeError('PRIORITY');
    } else if ((readUint32(buffer, start) & 0x7fffffff) === streamId) {
      if (stream !== undefined)
        connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a stream depends on itself');
      else this.protocolError('a stream depends on itself');
    }
  }

  /** Whether the id was never used. A client's streams have odd ids; a server opens none. */
  isIdle(streamId: number): boolean {
    const { role, nextStreamId, lastPeerStreamId } = this.connection;
    if (streamId === 0) return true;
    if (role === 'client') return (streamId & 1) === 0 || streamId >= nextStreamId;
    return (streamId & 1) === 0 || streamId > lastPeerStreamId;
  }

  private failForFlood(): void {
    const message = 'too many control frames for so few calls';
    this.connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
  }

  private protocolError(message: string): void {
    this.connection.fail('peer', ErrorCode.PROTOCOL_ERROR, message);
  }

  private sizeError(name: string): void {
    this.connection.fail('peer', ErrorCode.FRAME_SIZE_ERROR, `the length of ${name} is wrong`);
  }
}
