/** Acts on received HEADERS, CONTINUATION and DATA. */
import { Expansion } from './expansion.ts';
import type { ForeignClient } from './foreign.ts';
import { DEFAULT_MAX_FRAME_BYTES, ErrorCode, Flag, FrameType, readUint32 } from './frame.ts';
import type { FrameSink } from './frame-reader.ts';
import { HeaderBlock } from './header-block.ts';
import { heldRequests } from './held-requests.ts';
import { HpackDecoder } from './hpack/decoder.ts';
import type { HeaderList } from './hpack/header-list.ts';
import { ListReceiver } from './list-receiver.ts';
import { ReceiveWindow } from './receive-window.ts';
import { countUseless, type ReceivingConnection } from './receiving-connection.ts';
import type { Stream } from './streams.ts';

const HPACK_TABLE_BYTES = 4096;
/** Lists and parts of blocks are work by their size. */
const LIST_WORK_SHIFT = 9;
const PART_WORK_SHIFT = 4;

/**
 * Checks received header blocks and DATA against RFC 9113. It passes DATA to the streams, and decoded lists to
 * {@link ListReceiver}.
 */
export class Receiver implements FrameSink {
  private readonly connection: ReceivingConnection;
  private readonly decoder: HpackDecoder;
  private readonly block: HeaderBlock;
  private readonly expansion: Expansion;
  private readonly lists: ListReceiver;
  readonly window: ReceiveWindow;
  /** The stream of a DATA frame that arrives in parts, unless it has closed. */
  private cutStream: Stream | undefined = undefined;
  private cutEndStream = false;
  /** The HEADERS and DATA frames so far; after one, a strict server allows PINGs again. */
  progress = 0;

  constructor(connection: ReceivingConnection) {
    this.connection = connection;
    const { limits } = connection;
    this.decoder = new HpackDecoder({
      maxTableBytes: HPACK_TABLE_BYTES,
      maxListBytes: limits.maxHeaderListBytes,
      kept: limits.keptFields,
    });
    this.expansion = new Expansion(connection.clock, limits.keptFields);
    const held = connection.role === 'server' ? connection.held : undefined;
    this.block = new HeaderBlock(limits, this.decoder, held);
    this.window = new ReceiveWindow(connection);
    this.lists = new ListReceiver(connection);
  }

  onFrame(type: number, flags: number, streamId: number, buffer: Buffer, start: number, end: number): void {
    const connection = this.connection;
    if (this.block.streamId !== 0) {
      if (type !== FrameType.CONTINUATION || streamId !== this.block.streamId) {
        connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'a header block was interrupted by another frame');
        return;
      }
      this.continueBlock(flags, buffer, start, end);
      return;
    }
    // A server that refuses our connection may send the reason before it closes.
    const refusal = type === FrameType.GOAWAY && connection.role === 'client';
    if (connection.isOpening && type !== FrameType.SETTINGS && !refusal) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'the first frame must be SETTINGS');
      return;
    }
    if (type === FrameType.HEADERS) this.onHeadersFrame(flags, streamId, buffer, start, end);
    else if (type === FrameType.CONTINUATION) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    } else connection.control.onFrame(type, flags, streamId, buffer, start, end);
  }

  private onHeadersFrame(flags: number, streamId: number, buffer: Buffer, from: number, to: number): void {
    const connection = this.connection;
    let start = from;
    let end = to;
    if (streamId === 0) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'HEADERS needs a stream');
      return;
    }
    if ((flags & Flag.PADDED) !== 0) {
      if (end > start) end -= buffer[start]!;
      start++;
    }
    let selfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      selfDependent = end - start >= 5 && (readUint32(buffer, start) & 0x7fffffff) === streamId;
      start += 5;
    }
    if (start > end) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'HEADERS is shorter than its padding and priority');
      return;
    }
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) === 0) {
      this.limitList(streamId);
      this.block.begin(streamId, endStream, selfDependent);
      this.continueBlock(0, buffer, start, end);
      return;
    }
    this.limitList(streamId);
    const list = this.decoder.decode(buffer, start, end);
    if (list !== undefined) this.onList(streamId, endStream, selfDependent, list, end - start);
    else connection.fail('peer', ErrorCode.COMPRESSION_ERROR, `HPACK: ${this.decoder.error}`);
  }

  /** Lowers the limit for a new request while its connection holds too much memory. */
  private limitList(streamId: number): void {
    const { held, limits, lastPeerStreamId } = this.connection;
    if (!held.overdrawn) return;
    const usual = limits.maxHeaderListBytes;
    const begins = streamId > lastPeerStreamId;
    this.decoder.maxListBytes = begins ? heldRequests.maxListBytes(held, usual) : usual;
  }

  private continueBlock(flags: number, buffer: Buffer, start: number, end: number): void {
    const { block } = this;
    const { streamId, endStream, selfDependent } = block;
    // We decode most of it at once, and it may consist of references alone.
    this.connection.reader.spend((end - start) >> PART_WORK_SHIFT);
    const list = block.add(buffer, start, end, (flags & Flag.END_HEADERS) !== 0);
    if (list !== undefined) this.onList(streamId, endStream, selfDependent, list, block.bytes);
    else if (block.errorCode !== 0) this.connection.fail('peer', block.errorCode, block.error);
    else if (heldRequests.crowded) heldRequests.makeRoom(undefined);
  }

  /** A block is decoded. We decode even unneeded lists, because the tables of both sides must agree (§4.3). */
  private onList(
    streamId: number,
    endStream: boolean,
    selfDependent: boolean,
    decoded: HeaderList,
    blockBytes: number,
  ): void {
    const connection = this.connection;
    const list = this.expansion.admit(decoded, blockBytes, connection.held);
    const work = list.listBytes >> LIST_WORK_SHIFT;
    if (work > 0) connection.reader.spend(work);
    this.progress++;
    this.lists.receive(streamId, endStream, selfDependent, list);
  }

  onData(
    streamId: number,
    flags: number,
    frameBytes: number,
    buffer: Buffer,
    from: number,
    to: number,
    complete: boolean,
  ): void {
    const connection = this.connection;
    this.cutStream = undefined;
    if (this.block.streamId !== 0 || connection.isOpening || streamId === 0) {
      connection.fail(
        'peer',
        ErrorCode.PROTOCOL_ERROR,
        'DATA without a stream, before SETTINGS or within a header block',
      );
      return;
    }
    if (!this.window.take(frameBytes)) {
      connection.fail('peer', ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
      return;
    }
    this.progress++;
    const stream = connection.streams.get(streamId);
    if (stream === undefined) {
      this.onLateData(streamId, frameBytes);
      return;
    }
    if (!stream.canReceive) {
      connection.streamError(stream, ErrorCode.STREAM_CLOSED, 'DATA behind END_STREAM');
      return;
    }
    if (!stream.headReceived) {
      connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'DATA before HEADERS');
      return;
    }
    if (frameBytes > stream.receiveWindow) {
      connection.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the stream's window");
      return;
    }
    stream.receiveWindow -= frameBytes;
    let start = from;
    let end = to;
    if ((flags & Flag.PADDED) !== 0) {
      const padding = frameBytes > 0 ? buffer[start]! + 1 : 1;
      if (padding > frameBytes) {
        connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'DATA is shorter than its padding');
        return;
      }
      start++;
      end -= padding - 1;
      this.acknowledge(stream, padding);
    }
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (end > start) connection.flood.moved(end - start);
    else if (!endStream && !countUseless(connection)) return;
    if (!complete) {
      this.cutStream = stream;
      this.cutEndStream = endStream;
    }
    this.deliverData(stream, buffer, start, end, endStream && complete);
  }

  onDataMore(buffer: Buffer, start: number, end: number, complete: boolean): void {
    const stream = this.cutStream;
    if (complete) this.cutStream = undefined;
    if (stream === undefined || stream.closed) return;
    this.deliverData(stream, buffer, start, end, complete && this.cutEndStream);
  }

  private deliverData(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    const connection = this.connection;
    const bytes = end - start;
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= bytes;
      if (stream.expectedBytes < 0 || (endStream && stream.expectedBytes > 0)) {
        connection.streamError(
          stream,
          ErrorCode.PROTOCOL_ERROR,
          'the length of DATA is not that of content-length',
        );
        return;
      }
    }
    if (endStream) stream.markEndReceived();
    const taken = stream.handler.onData(stream, buffer, start, end, endStream);
    if (stream.held && heldRequests.full) heldRequests.makeRoom(stream);
    if (stream.closed) return;
    if (taken < bytes) {
      stream.unconsumed += bytes - taken;
      this.window.hold(bytes - taken);
    }
    if (endStream) {
      if (stream.hasEnded) connection.closeStream(stream, false);
    } else if (taken > 0) this.acknowledge(stream, taken);
  }

  /** DATA for a closed stream. Frames with bytes use the connection's window, which bounds them; empty ones are counted. */
  private onLateData(streamId: number, frameBytes: number): void {
    const connection = this.connection;
    if (connection.control.isIdle(streamId)) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'DATA on an idle stream');
      return;
    }
    if (frameBytes === 0 && !countUseless(connection)) return;
    if (connection.role === 'server' && connection.closedStreams.find(streamId) === 'ended')
      connection.refuse(streamId, ErrorCode.STREAM_CLOSED);
  }

  /** Adds consumed bytes to the stream's window, half a window at a time. */
  acknowledge(stream: Stream, bytes: number): void {
    stream.unacknowledged += bytes;
    if (!stream.canReceive || stream.unacknowledged < this.connection.limits.streamWindowBytes >> 1) return;
    this.connection.writer.uint32Frame(FrameType.WINDOW_UPDATE, stream.id, stream.unacknowledged);
    stream.receiveWindow += stream.unacknowledged;
    stream.unacknowledged = 0;
  }

  /** Releases what is kept for the connection, which has ended. */
  close(): void {
    this.decoder.forget();
    this.block.drop();
  }

  onOversizeFrame(type: number, _streamId: number, length: number): void {
    const message = `a frame of type ${type} has ${length} bytes; at most ${DEFAULT_MAX_FRAME_BYTES} are allowed`;
    this.connection.fail('peer', ErrorCode.FRAME_SIZE_ERROR, message);
  }

  /** A server sends nothing before the preface, because an HTTP/1 client could not read our SETTINGS. */
  onPreface(): void {
    this.connection.control.sendPrefaceAndSettings();
  }

  onForeignClient(looksLike: ForeignClient): void {
    this.connection.owner.onForeignClient(this.connection, looksLike);
  }

  onForeignServer(begins: Buffer): void {
    this.connection.owner.onForeignServer(this.connection, begins);
  }
}
