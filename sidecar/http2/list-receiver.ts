/** Acts on received header lists: new requests, responses and trailers. */
import { ErrorCode } from './frame.ts';
import { headOf, type MessageHead } from './head.ts';
import { headBytes, heldRequests } from './held-requests.ts';
import type { HeaderList } from './hpack/header-list.ts';
import { countUseless, failForFlood, type ReceivingConnection } from './receiving-connection.ts';
import type { Stream } from './streams.ts';

/** The work of a request beyond that of a frame. */
const REQUEST_WORK = 8;

/** Acts on received header lists: begins requests, and passes responses and trailers to their streams. */
export class ListReceiver {
  private readonly connection: ReceivingConnection;

  constructor(connection: ReceivingConnection) {
    this.connection = connection;
  }

  /** @param selfDependent whether the frame makes the stream depend on itself */
  receive(streamId: number, endStream: boolean, selfDependent: boolean, list: HeaderList): void {
    const connection = this.connection;
    const stream = connection.streams.get(streamId);
    if (stream === undefined) {
      if (connection.role === 'server') this.onRequest(streamId, list, endStream, selfDependent);
      else if (connection.control.isIdle(streamId)) {
        connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'HEADERS on a stream that was not opened');
      } else countUseless(connection);
      return;
    }
    if (!stream.canReceive)
      connection.streamError(stream, ErrorCode.STREAM_CLOSED, 'HEADERS behind END_STREAM');
    else if (stream.headReceived) this.onTrailers(stream, list, endStream);
    else this.onResponse(stream, list, endStream);
  }

  private onRequest(streamId: number, list: HeaderList, endStream: boolean, selfDependent: boolean): void {
    const connection = this.connection;
    if ((streamId & 1) === 0) {
      connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'a client begins odd streams only');
      return;
    }
    if (streamId <= connection.lastPeerStreamId) {
      const ignored = streamId > connection.lastServedStreamId;
      const how = ignored ? 'ignored' : connection.closedStreams.find(streamId);
      if (how === 'ended') connection.fail('peer', ErrorCode.STREAM_CLOSED, 'HEADERS on a closed stream');
      else if (how === 'forgotten') connection.fail('peer', ErrorCode.PROTOCOL_ERROR, 'stream ids must rise');
      else countUseless(connection);
      return;
    }
    connection.lastPeerStreamId = streamId;
    if (streamId > connection.lastServedStreamId) {
      if (!connection.flood.lateCall()) failForFlood(connection);
      return;
    }
    if (connection.streams.size >= connection.limits.maxConcurrentStreams) {
      connection.refuse(streamId, ErrorCode.REFUSED_STREAM);
      connection.owner.onStreamRefused?.(connection);
      return;
    }
    const head = headOf(list, 'request');
    if (head.malformed !== undefined || selfDependent || (endStream && head.contentLength > 0)) {
      connection.refuse(streamId, ErrorCode.PROTOCOL_ERROR);
      connection.owner.onMalformedRequest?.(connection, head.malformed ?? 'its head contradicts itself');
      return;
    }
    connection.flood.progress();
    connection.reader.spend(REQUEST_WORK);
    const stream = connection.acceptStream(streamId);
    stream.headReceived = true;
    stream.expectedBytes = head.contentLength;
    if (endStream) stream.markEndReceived();
    heldRequests.begin(stream, list);
    connection.owner.onStream(stream, list, head, endStream);
    if (stream.held && heldRequests.full) heldRequests.makeRoom(stream);
  }

  private onTrailers(stream: Stream, list: HeaderList, endStream: boolean): void {
    const server = this.connection.role === 'server';
    const head = headOf(list, server ? 'requestTrailers' : 'trailers');
    if (server) heldRequests.add(stream, headBytes(list));
    if (!endStream)
      this.connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'trailers must end the stream');
    else if (head.malformed !== undefined)
      this.connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, head.malformed);
    else this.deliverHeaders(stream, list, head, true);
  }

  private onResponse(stream: Stream, list: HeaderList, endStream: boolean): void {
    const head = headOf(list, 'response');
    const interim = head.status >= 100 && head.status < 200;
    if (head.malformed !== undefined || (interim && endStream)) {
      const message = head.malformed ?? 'an interim response must not end the stream';
      this.connection.streamError(stream, ErrorCode.PROTOCOL_ERROR, message);
      return;
    }
    if (interim) {
      if (!countUseless(this.connection) || !this.countInterim(stream, list)) return;
    } else {
      stream.headReceived = true;
      this.connection.flood.progress();
    }
    // Without DATA it is the length that another request would have received (RFC 9110 §8.6).
    const empty = endStream || interim || head.status === 204 || head.status === 304;
    if (!empty) stream.expectedBytes = head.contentLength;
    this.deliverHeaders(stream, list, head, endStream);
  }

  /** A call's interim responses may together be as large as one header list. @returns false if they are larger */
  private countInterim(stream: Stream, list: HeaderList): boolean {
    stream.interimBytes += list.listBytes;
    if (stream.interimBytes <= this.connection.limits.maxHeaderListBytes) return true;
    this.connection.streamError(
      stream,
      ErrorCode.ENHANCE_YOUR_CALM,
      'too many or too large interim responses',
    );
    return false;
  }

  private deliverHeaders(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (endStream) {
      if (stream.expectedBytes > 0) {
        this.connection.streamError(
          stream,
          ErrorCode.PROTOCOL_ERROR,
          'less DATA than content-length promises',
        );
        return;
      }
      stream.markEndReceived();
    }
    stream.handler.onHeaders(stream, head.passable ?? list, head, endStream);
    if (stream.hasEnded) this.connection.closeStream(stream, false);
  }
}
