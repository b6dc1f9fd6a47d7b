/** One request over HTTP/2 and its response, on the stream that they share. */
import type { Socket } from 'node:net';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { Http2Request } from './http2-request.ts';
import { Http2Response } from './http2-response.ts';

/**
 * Its response may have left before its request has come to its end: then the rest is read and thrown away, so that the client
 * sees the response.
 *
 *     open ──the response has left──▶ answered ──the request has ended──▶ over
 *       └──reset by either side, or the connection has ended──▶ over
 */
export class Http2Exchange implements StreamHandler {
  readonly request: Http2Request;
  readonly response: Http2Response;
  isOver = false;
  private readonly stream: Stream;
  private readonly onAnswered: () => void;
  private readonly onOver: () => void;

  /**
   * @param onAnswered the response has left, or can't leave any more
   * @param onOver nothing more comes of the stream; called once, behind the other
   */
  constructor(
    stream: Stream,
    socket: Socket,
    list: HeaderList,
    head: MessageHead,
    onAnswered: () => void,
    onOver: () => void,
  ) {
    this.stream = stream;
    this.onAnswered = onAnswered;
    this.onOver = onOver;
    this.request = new Http2Request(stream, socket, list, head);
    this.response = new Http2Response(stream, head.method === 'HEAD');
    this.response.once('close', () => this.answered());
    if (!stream.canReceive) this.request.endBody();
  }

  onHeaders(_stream: Stream, _trailers: HeaderList, _head: MessageHead, endStream: boolean): void {
    if (endStream) this.endRequest();
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const taken = this.request.receive(buffer, start, end);
    if (endStream) this.endRequest();
    return taken;
  }

  onDataSent(_stream: Stream, bytes: number): void {
    this.response.onSent(bytes);
  }

  onFailed(): void {
    this.request.destroy();
    this.response.destroy();
    if (this.response.closed) this.end();
  }

  private endRequest(): void {
    this.request.endBody();
    if (this.response.closed) this.end();
  }

  private answered(): void {
    this.onAnswered();
    const { stream, request } = this;
    if (!stream.closed && !request.complete) {
      request.resume();
      return;
    }
    // A reader that still waits for the body learns that none comes.
    request.destroy();
    this.end();
  }

  private end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.onOver();
  }
}
