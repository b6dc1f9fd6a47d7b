// One connection of the bench's upstream: answers tasks as an agent would that has nothing to think about.
import type { Socket } from 'node:net';
import { Flag } from '../../sidecar/http2/frame.ts';
import { HpackDecoder } from '../../sidecar/http2/hpack/decoder.ts';
import { chunk, largeAnswer, lastChunk, paths, smallAnswer } from './answers.ts';
import { BodyQueue } from './body-queue.ts';
import { type FrameHandler, FrameSocket } from './frame-socket.ts';
import { maxTokensOf } from './task-message.ts';

const MAX_STREAMS = 1_000;
/** Chunks are written for so many bytes before others have their turn, and while the kernel has less than this waiting. */
const TURN_BYTES = 32 * 1024;
const MAX_WAITING_BYTES = 256 * 1024;

/** `grpc-status` as a literal with a name of its own; `pattern` says whether it goes into the table. */
function status(pattern: number, code: string): Buffer {
  return Buffer.concat([
    Buffer.from([pattern, 11]),
    Buffer.from('grpc-status'),
    Buffer.from([code.length]),
    Buffer.from(code),
  ]);
}

const INSERTED = 0x40;
const NOT_INSERTED = 0x00;
const GRPC = Buffer.concat([Buffer.from([16]), Buffer.from('application/grpc')]);
// Fields: `:status 200` (index 8), content-type (name 31), grpc-status.
const FIRST_HEADERS = Buffer.concat([Buffer.from([0x88, INSERTED | 31]), GRPC]);
const FIRST_TRAILERS = status(INSERTED, '0');
/** From the table: content-type was inserted first, so it is the older one of two. */
const HEADERS = Buffer.from([0x88, 0x80 | 63]);
const EARLY_HEADERS = Buffer.from([0x88, 0x80 | 62]);
const TRAILERS = Buffer.from([0x80 | 62]);
/** For peers without a table. */
const PLAIN_HEADERS = Buffer.concat([Buffer.from([0x88, NOT_INSERTED | 15, 31 - 15]), GRPC]);
const PLAIN_TRAILERS = status(NOT_INSERTED, '0');
/** Trailers-Only: a health check is told that there is no such method. */
const UNIMPLEMENTED = Buffer.concat([PLAIN_HEADERS, status(NOT_INSERTED, '12')]);

/** A request whose end has not come. */
interface Request {
  path: string;
  /** The last bytes of a request of several frames; a task's message is short where its content matters. */
  body: Buffer | undefined;
}

/** An answer in chunks. */
interface Stream {
  readonly id: number;
  left: number;
  window: number;
}

export class UpstreamConnection implements FrameHandler {
  private readonly frames: FrameSocket;
  private readonly bodies: BodyQueue;
  private readonly decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  private readonly requests = new Map<number, Request>();
  private streams: Stream[] = [];
  /** Which stream's turn it is. */
  private turn = 0;
  private scheduled = false;
  private sentHeaders = false;
  private sentTrailers = false;
  private readonly trailersAfter = (stream: number): void => this.trailers(stream);

  constructor(socket: Socket) {
    this.frames = new FrameSocket(socket, this, 'server', MAX_STREAMS);
    this.bodies = new BodyQueue(this.frames);
    socket.on('data', (bytes: Buffer) => {
      try {
        this.frames.read(bytes);
      } catch (error) {
        process.stderr.write(`${(error as Error).message}\n`);
        socket.destroy();
      }
    });
    socket.on('drain', () => {
      this.bodies.continue();
      this.chunks();
      this.frames.flush();
    });
  }

  onSettings(): void {}

  onHeaders(stream: number, flags: number, buffer: Buffer, start: number, end: number): void {
    const list = this.decoder.decode(buffer, start, end);
    if (list === undefined) throw new Error(`invalid header block: ${this.decoder.error}`);
    const path = list.get(':path') ?? '';
    if ((flags & Flag.END_STREAM) !== 0) this.answer(stream, path, undefined);
    else this.requests.set(stream, { path, body: undefined });
  }

  onData(stream: number, flags: number, buffer: Buffer, start: number, end: number): void {
    const request = this.requests.get(stream);
    if (request === undefined) return;
    // Only a request for a stream says how it wants to be answered.
    if (request.path === paths.stream || request.path === paths.tokens) {
      const part = buffer.subarray(start, end);
      request.body = request.body === undefined ? Buffer.from(part) : Buffer.concat([request.body, part]);
    }
    if ((flags & Flag.END_STREAM) === 0) return;
    this.requests.delete(stream);
    this.answer(stream, request.path, request.body);
  }

  onWindow(stream: number, bytes: number): void {
    this.bodies.onWindow(stream, bytes);
    if (stream !== 0) {
      const found = this.streams.find(({ id }) => id === stream);
      if (found !== undefined) found.window += bytes;
    }
    this.schedule();
  }

  onReset(stream: number): void {
    this.requests.delete(stream);
    this.bodies.onReset(stream);
    this.streams = this.streams.filter(({ id }) => id !== stream);
  }

  onGoAway(): void {}

  private answer(stream: number, path: string, body: Buffer | undefined): void {
    const streams = path === paths.stream || path === paths.tokens;
    if (path !== paths.small && path !== paths.large && !streams) {
      this.frames.headers(stream, Flag.END_STREAM, UNIMPLEMENTED, UNIMPLEMENTED.length);
      return;
    }
    const headers = this.headers();
    this.sentHeaders = true;
    this.frames.headers(stream, 0, headers, headers.length);
    if (!streams) {
      this.bodies.send(stream, path === paths.large ? largeAnswer : smallAnswer, 0, this.trailersAfter);
      return;
    }
    const chunks = body === undefined ? 0 : maxTokensOf(body);
    // One that asks for no chunks gets the first of an answer that never goes on.
    if (chunks === 0) this.bodies.send(stream, chunk, 0, () => {});
    else if (path === paths.tokens) this.token(stream, chunks);
    else {
      this.streams.push({ id: stream, left: chunks, window: this.frames.initialWindow });
      this.schedule();
    }
  }

  /** Sends a chunk in a write of its own, and the others later, as a model makes them. */
  private token(stream: number, left: number): void {
    const bytes = left > 0 ? chunk : lastChunk;
    this.frames.data(stream, 0, bytes, 0, bytes.length);
    if (left === 0) this.trailers(stream);
    this.frames.flush();
    if (left > 0) setTimeout(() => this.token(stream, left - 1), 1);
  }

  private headers(): Buffer {
    if (!this.frames.hasTable) return PLAIN_HEADERS;
    if (!this.sentHeaders) return FIRST_HEADERS;
    return this.sentTrailers ? HEADERS : EARLY_HEADERS;
  }

  private trailers(stream: number): void {
    const trailers = !this.frames.hasTable ? PLAIN_TRAILERS : this.sentTrailers ? TRAILERS : FIRST_TRAILERS;
    this.sentTrailers = true;
    this.frames.headers(stream, Flag.END_STREAM, trailers, trailers.length);
  }

  private schedule(): void {
    if (this.scheduled || this.streams.length === 0) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.chunks();
      this.frames.flush();
    });
  }

  /** A chunk of each stream in turn, as tokens of many answers come. */
  private chunks(): void {
    let written = 0;
    /** Streams in a row that had nothing to send. */
    let idle = 0;
    while (this.streams.length > 0 && idle < this.streams.length && this.frames.sendWindow >= chunk.length) {
      if (written >= TURN_BYTES) {
        if (this.frames.waitingBytes < MAX_WAITING_BYTES) this.schedule();
        return;
      }
      if (this.turn >= this.streams.length) this.turn = 0;
      const stream = this.streams[this.turn]!;
      const bytes = stream.left > 0 ? chunk : lastChunk;
      if (stream.window < bytes.length) {
        idle++;
        this.turn++;
        continue;
      }
      idle = 0;
      this.frames.data(stream.id, 0, bytes, 0, bytes.length);
      stream.window -= bytes.length;
      written += bytes.length;
      if (stream.left-- > 0) this.turn++;
      else {
        this.trailers(stream.id);
        this.streams.splice(this.turn, 1);
      }
    }
  }
}
