/** A request over HTTP/2, as the egress reads it: its body comes no faster than it is taken. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { MessageHead } from '../http2/head.ts';
import { type HeaderList, trimmed } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';

/** Kept beside what the stream's window lets through, while nobody reads. */
const KEPT_BYTES = 16_384;
/** The first one counts, as Node has it for HTTP/1.1; others are joined. */
const SINGLE: ReadonlySet<string> = new Set([
  ':authority',
  ':method',
  ':path',
  ':scheme',
  'age',
  'authorization',
  'content-encoding',
  'content-length',
  'content-type',
  'date',
  'etag',
  'expires',
  'from',
  'host',
  'if-modified-since',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'range',
  'referer',
  'retry-after',
  'user-agent',
]);

export class Http2Request extends Readable {
  readonly httpVersionMajor = 2;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: string[];
  readonly socket: Socket;
  /** Its body has come to its end. */
  complete = false;
  private readonly stream: Stream;
  /** For which the client gets no window before somebody reads on. */
  private unreadBytes = 0;

  constructor(stream: Stream, socket: Socket, list: HeaderList, head: MessageHead) {
    super({ highWaterMark: KEPT_BYTES });
    this.stream = stream;
    this.socket = socket;
    this.method = head.method;
    this.url = head.path;
    this.rawHeaders = list.fields as string[];
    this.headers = headersOf(list.fields);
  }

  /** Takes a part of its body. @returns how many of these bytes are done with */
  receive(buffer: Buffer, start: number, end: number): number {
    const bytes = end - start;
    if (bytes === 0 || this.destroyed || this.push(buffer.subarray(start, end))) return bytes;
    this.unreadBytes += bytes;
    return 0;
  }

  /** Its body has ended. */
  endBody(): void {
    if (this.complete) return;
    this.complete = true;
    this.push(null);
  }

  override _read(): void {
    const { stream, unreadBytes } = this;
    if (unreadBytes === 0) return;
    this.unreadBytes = 0;
    stream.connection.consume(stream, unreadBytes);
  }
}

/** In the form that Node gives the fields of HTTP/1.1; pseudo-header fields stay among them. */
function headersOf(fields: readonly string[]): IncomingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null);
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index]!;
    const value = trimmed(fields[index + 1]!);
    const before = headers[name];
    if (name === 'set-cookie') headers[name] = [...(before ?? []), value];
    else if (before === undefined) headers[name] = value;
    else if (!SINGLE.has(name)) headers[name] = `${before}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return headers;
}
