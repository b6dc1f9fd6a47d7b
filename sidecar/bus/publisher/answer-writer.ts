/** Writes the answer of one call to its HTTP/2 stream, as fast as it is read. */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { encodeStatusMessage } from '../../grpc/status-message.ts';
import { answeredFields } from '../message/carried-fields.ts';
import type { Fields } from '../message/payload.ts';
import type { Refusal } from './refusals.ts';

const HEAD = { ':status': 200, 'content-type': 'application/grpc' };
const NOTHING: Fields = [];

export class AnswerWriter {
  private readonly stream: ServerHttp2Stream;
  private trailers: OutgoingHttpHeaders = {};
  /** Messages have gone out. */
  hasBegun = false;

  constructor(stream: ServerHttp2Stream) {
    this.stream = stream;
  }

  private get isOver(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  /** Sends the head, unless it has been sent. */
  begin(head: Fields): void {
    if (this.isOver || this.stream.headersSent) return;
    this.stream.respond({ ...HEAD, ...headersOf(head) }, { waitForTrailers: true });
    this.stream.once('wantTrailers', () => this.stream.sendTrailers(this.trailers));
  }

  /** Sends messages with their prefixes. Resolves when the caller has room for more. */
  async send(framed: Buffer): Promise<void> {
    this.begin(NOTHING);
    if (this.isOver) return;
    this.hasBegun = true;
    if (this.stream.write(framed)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.stream.off('drain', done).off('close', done);
        resolve();
      };
      this.stream.on('drain', done).on('close', done);
    });
  }

  /** Sends one message of so many bytes, which come in pieces. */
  async sendMessage(bytes: number, pieces: AsyncIterable<Buffer>): Promise<void> {
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(bytes, 1);
    await this.send(prefix);
    for await (const piece of pieces) {
      if (this.isOver) return;
      await this.send(piece);
    }
  }

  /** Ends the answer with the agent's status. */
  end(status: number, message: string, trailers: Fields): void {
    this.finish({
      ...headersOf(trailers),
      'grpc-status': String(status),
      ...(message === '' ? {} : { 'grpc-message': encodeStatusMessage(message) }),
    });
  }

  refuse({ status, reason, message, pushbackMs }: Refusal): void {
    this.finish({
      'grpc-status': String(status),
      'grpc-message': encodeStatusMessage(message),
      'outrigger-reason': reason,
      ...(pushbackMs === undefined ? {} : { 'grpc-retry-pushback-ms': String(pushbackMs) }),
    });
  }

  private finish(trailers: OutgoingHttpHeaders): void {
    if (this.isOver) return;
    if (this.stream.headersSent) {
      this.trailers = trailers;
      this.stream.end();
    } else this.stream.respond({ ...HEAD, ...trailers }, { endStream: true });
  }
}

/** Node takes the values of a repeated field as a list. */
function headersOf(fields: Fields): OutgoingHttpHeaders {
  const headers: Record<string, string[]> = {};
  const answered = answeredFields(fields);
  for (let i = 0; i < answered.length; i += 2) {
    const name = answered[i]!;
    const values = Object.hasOwn(headers, name) ? headers[name]! : [];
    values.push(answered[i + 1]!);
    headers[name] = values;
  }
  return headers;
}
