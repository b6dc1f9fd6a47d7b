/** Sends what waits for a caller over the stream on which it has come back. */
import type { StreamFailure } from '../http2/errors.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';

/** The handler of a stream while bytes move to it: a call that heard of them could send others in between. */
export class StreamMove implements StreamHandler {
  sentBytes = 0;
  /** Why the stream has failed meanwhile. */
  failure: StreamFailure | undefined = undefined;
  private readonly stream: Stream;

  constructor(stream: Stream) {
    this.stream = stream;
    stream.handler = this;
  }

  send(buffer: Buffer, start: number, end: number): void {
    const { stream } = this;
    // Don't add in the same statement: bytes that leave the queue are reported within the call.
    const sent = stream.connection.sendData(stream, buffer, start, end, false);
    this.sentBytes += sent;
  }

  onHeaders(): void {}

  onData(_stream: Stream, _buffer: Buffer, start: number, end: number): number {
    return end - start;
  }

  onDataSent(_stream: Stream, bytes: number): void {
    this.sentBytes += bytes;
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    this.failure = failure;
  }
}
