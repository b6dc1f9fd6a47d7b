/** The response to a request over HTTP/2, as the egress writes it: bytes leave as the stream's windows and the socket allow. */
import { Writable } from 'node:stream';
import { ErrorCode } from '../http2/frame.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { HttpHeaders } from '../llm/shared/headers.ts';

/** The most bytes that wait in the stream's queue. The rest waits here, so that the writer notices. */
const PIECE_BYTES = 16_384;
const NOTHING = Buffer.alloc(0);
const CONTINUE = new HeaderList([':status', '100']);
/** Fields of one connection of HTTP/1.1, which HTTP/2 must not have (RFC 9113 §8.2.2). */
const OF_HTTP1: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 205, 304]);

type Done = (error?: Error | null) => void;

export class Http2Response extends Writable {
  /** HTTP/2 has no higher ones. */
  readonly maxStatus = 599;
  statusCode = 200;
  headersSent = false;
  private readonly stream: Stream;
  private readonly isHead: boolean;
  private given: HttpHeaders | undefined = undefined;
  private headLeft = false;
  private chunk: Buffer = NOTHING;
  private chunkAt = 0;
  /** Of the piece that was written last. */
  private waitingBytes = 0;
  private pumping = false;
  private done: Done | undefined = undefined;

  /** @param isHead the request's method is HEAD: its answer has no body, whatever is written */
  constructor(stream: Stream, isHead: boolean) {
    super();
    this.stream = stream;
    this.isHead = isHead;
  }

  writeContinue(): void {
    const { stream } = this;
    if (!this.headLeft) stream.connection.sendHeaders(stream, CONTINUE, undefined, false);
  }

  writeHead(status: number, headers: HttpHeaders): this {
    this.statusCode = status;
    this.given = headers;
    this.headersSent = true;
    return this;
  }

  flushHeaders(): void {
    if (!this.destroyed) this.sendHead(false);
  }

  private get hasNoBody(): boolean {
    return this.isHead || WITHOUT_BODY.has(this.statusCode);
  }

  private sendHead(isAll: boolean): void {
    if (this.headLeft) return;
    this.headLeft = true;
    this.headersSent = true;
    const fields = [':status', String(this.statusCode)];
    let hasDate = false;
    for (const [name, value] of Object.entries(this.given ?? {})) {
      const lower = name.toLowerCase();
      if (OF_HTTP1.has(lower)) continue;
      if (lower === 'date') hasDate = true;
      if (typeof value === 'string') fields.push(lower, value);
      else for (const one of value) fields.push(lower, one);
    }
    if (!hasDate) fields.push('date', new Date().toUTCString());
    this.given = undefined;
    const { stream } = this;
    stream.connection.sendHeaders(stream, new HeaderList(fields), undefined, isAll || this.hasNoBody);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.sendHead(false);
    if (this.hasNoBody) {
      done();
      return;
    }
    this.chunk = chunk;
    this.chunkAt = 0;
    this.done = done;
    this.pump();
  }

  private pump(): void {
    const { stream, chunk } = this;
    this.pumping = true;
    while (this.waitingBytes === 0 && this.chunkAt < chunk.length && !this.destroyed) {
      const start = this.chunkAt;
      const end = Math.min(start + PIECE_BYTES, chunk.length);
      this.chunkAt = end;
      this.waitingBytes = end - start;
      // `onSent` may be called before this returns, and changes `waitingBytes`.
      const left = stream.connection.sendData(stream, chunk, start, end, false);
      this.waitingBytes -= left;
    }
    this.pumping = false;
    if (this.waitingBytes > 0 || this.chunkAt < chunk.length || this.destroyed) return;
    this.chunk = NOTHING;
    this.chunkAt = 0;
    const { done } = this;
    this.done = undefined;
    done?.();
  }

  /** So many bytes that had to wait are on their way. */
  onSent(bytes: number): void {
    this.waitingBytes -= bytes;
    if (this.waitingBytes === 0 && !this.pumping) this.pump();
  }

  override _final(done: Done): void {
    const { stream } = this;
    this.sendHead(true);
    stream.connection.sendData(stream, NOTHING, 0, 0, true);
    done();
  }

  override _destroy(_error: Error | null, done: Done): void {
    const { stream } = this;
    this.chunk = NOTHING;
    this.done = undefined;
    // RFC 9113 §7: the stream can't be completed.
    if (stream.canSend) stream.connection.reset(stream, ErrorCode.INTERNAL_ERROR);
    done();
  }
}
