/**
 * Relays one request to a provider as a stream of an HTTP/2 connection.
 *
 * The body goes out in slices, the next one when the last has left, so that a window that the provider keeps shut costs no
 * memory. What has come of an answer whose caller does not read waits here, at most a stream's window: the other streams of
 * the connection go on.
 */
import type { Connection } from '../../http2/connection.ts';
import { ConnectionError, type StreamFailure } from '../../http2/errors.ts';
import { beginBatch, endBatch } from '../../http2/flush-queue.ts';
import { ErrorCode, errorName } from '../../http2/frame.ts';
import type { MessageHead } from '../../http2/head.ts';
import type { HeaderList } from '../../http2/hpack/header-list.ts';
import { isSharedRead } from '../../http2/shared-read.ts';
import type { Stream, StreamHandler } from '../../http2/streams.ts';
import { rawHeadCost } from '../shared/head-cost.ts';
import { answerHeaders, hasForbiddenValue, isBodiless, requestFields } from './header-fields.ts';
import { JoinedPieces, type PiecesTaker } from './joined-pieces.ts';
import {
  MAX_HEADER_BYTES,
  MAX_INTERIM_ANSWERS,
  type ProviderRelay,
  type RelayError,
  type RelayHandlers,
} from './provider-relay.ts';
import type { RelayRequest } from './relay-request.ts';
import { UnreadAnswer } from './unread-answer.ts';

/** One DATA frame that every peer takes. */
const SLICE_BYTES = 16_384;
const NOTHING: readonly Buffer[] = [];

/** Is told that the provider wants HTTP/1.1 for such a request. */
export interface VersionChoice {
  useHttp1(): void;
}

export class Http2Relay implements ProviderRelay, StreamHandler, PiecesTaker {
  private readonly connection: Connection;
  private readonly handlers: RelayHandlers;
  private readonly versions: VersionChoice;
  private readonly isHead: boolean;
  private readonly stream: Stream;
  private readonly pieces = new JoinedPieces(this);
  private readonly unread: UnreadAnswer;
  private parts: readonly Buffer[];
  /** Where the next slice begins: the part, and the byte in it. */
  private part = 0;
  private at = 0;
  /** Bytes of the last slice that wait for a window. */
  private waiting = 0;
  private feeds = false;
  private interimAnswers = 0;
  private flushes = false;
  private paused = false;
  /** The whole answer has come, though the caller has not read it. */
  private isWhole = false;
  private ended = false;
  sent = false;

  /** @returns undefined when a field of the request has characters that HTTP forbids */
  static begin(
    connection: Connection,
    request: RelayRequest,
    handlers: RelayHandlers,
    versions: VersionChoice,
  ): Http2Relay | undefined {
    const fields = requestFields(request);
    return fields === undefined ? undefined : new Http2Relay(connection, request, fields, handlers, versions);
  }

  private constructor(
    connection: Connection,
    request: RelayRequest,
    fields: HeaderList,
    handlers: RelayHandlers,
    versions: VersionChoice,
  ) {
    this.connection = connection;
    this.versions = versions;
    this.handlers = handlers;
    this.isHead = request.method === 'HEAD';
    this.parts = isBodiless(request.method) ? NOTHING : request.body.parts;
    beginBatch();
    this.stream = connection.openStream(this);
    this.unread = new UnreadAnswer((bytes) => connection.consume(this.stream, bytes));
    this.sent = this.parts.length === 0;
    connection.sendHeaders(this.stream, fields, undefined, this.sent);
    this.feed();
    endBatch();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    while (!this.paused && !this.ended) {
      const piece = this.unread.take();
      if (piece === undefined) break;
      this.takePieces(piece);
    }
    if (!this.paused && this.isWhole) this.end();
  }

  abort(): void {
    if (this.ended) return;
    this.ended = true;
    this.drop();
    beginBatch();
    this.connection.reset(this.stream, ErrorCode.CANCEL);
    endBatch();
  }

  // --- The request -----------------------------------------------------------------------------------------

  private feed(): void {
    if (this.feeds) return;
    this.feeds = true;
    const { connection, stream } = this;
    while (this.waiting <= 0 && !this.sent && !this.ended && stream.canSend) {
      const part = this.parts[this.part]!;
      const start = this.at;
      const end = Math.min(part.length, start + SLICE_BYTES);
      this.at = end;
      if (end === part.length) {
        this.part++;
        this.at = 0;
      }
      const isLast = this.part === this.parts.length;
      this.waiting += end - start;
      // `onDataSent` may report bytes within the call, and changes the sum.
      const sent = connection.sendData(stream, part, start, end, isLast);
      this.waiting -= sent;
      if (isLast && this.waiting <= 0) this.markSent();
    }
    this.feeds = false;
  }

  onDataSent(_stream: Stream, bytes: number): void {
    this.waiting -= bytes;
    if (this.waiting > 0) return;
    if (this.part === this.parts.length) this.markSent();
    else this.feed();
  }

  private markSent(): void {
    this.sent = true;
    // Another attempt has its own view of the body.
    this.parts = NOTHING;
    this.part = 0;
  }

  // --- The answer ------------------------------------------------------------------------------------------

  onHeaders(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (this.ended) return;
    if (head.kind === 'trailers') {
      this.finish();
      return;
    }
    const { status } = head;
    if (status < 200) {
      if (++this.interimAnswers > MAX_INTERIM_ANSWERS)
        this.unusable(`more than ${MAX_INTERIM_ANSWERS} interim answers`);
      return;
    }
    if (list.oversize) {
      this.unusable(`a head of status ${status} with more than ${MAX_HEADER_BYTES} bytes`);
      return;
    }
    // Check the head now: when it is written to the caller, no other answer is possible any more.
    if (hasForbiddenValue(list.fields)) {
      this.unusable(`a head of status ${status} with characters that HTTP forbids`);
      return;
    }
    if (this.isHead) stream.expectedBytes = -1;
    try {
      this.handlers.onHead(status, answerHeaders(list.fields), rawHeadCost(list.fields));
    } catch (error) {
      this.unusable(`a head that can't be handled (${nameOf(error)})`);
    }
    if (endStream) this.finish();
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.ended) return end - start;
    let held = 0;
    if (end > start) {
      const view = buffer.subarray(start, end);
      const piece = isSharedRead(buffer) ? Buffer.from(view) : view;
      if (this.paused) {
        held = piece.length;
        if (!this.unread.push(piece)) {
          this.stall();
          return end - start;
        }
      } else {
        this.pieces.push(piece);
        this.flushSoon();
      }
    }
    if (endStream) this.finish();
    return end - start - held;
  }

  /** The frames of one read go on together. */
  private flushSoon(): void {
    if (this.flushes || this.pieces.isEmpty) return;
    this.flushes = true;
    process.nextTick(flushPieces, this);
  }

  flushNow(): void {
    this.flushes = false;
    this.pieces.flush();
  }

  takePieces(bytes: Buffer): void {
    if (this.ended) return;
    try {
      this.handlers.onData(bytes);
    } catch (error) {
      this.unusable(`what can't be handled (${nameOf(error)})`);
    }
  }

  // --- Its end ---------------------------------------------------------------------------------------------

  /** The provider has ended the answer. */
  private finish(): void {
    this.pieces.flush();
    this.isWhole = true;
    if (!this.paused && !this.ended) this.end();
  }

  private end(): void {
    this.ended = true;
    this.drop();
    // It has answered before it had the whole request (RFC 9113, section 8.1).
    if (this.stream.canSend) this.connection.reset(this.stream, ErrorCode.NO_ERROR);
    try {
      this.handlers.onEnd();
    } catch (error) {
      this.handlers.onUnusable(`what can't be handled (${nameOf(error)})`);
    }
  }

  private unusable(what: string): void {
    if (this.ended) return;
    this.abort();
    this.handlers.onUnusable(what);
  }

  /** The caller does not read, and no memory is left for what waits for such callers. */
  private stall(): void {
    this.abort();
    this.handlers.onError({ code: 'ENOBUFS', connected: true, reused: false });
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (this.ended) return;
    this.pieces.flush();
    // The caller gets what has come before the loss, as over HTTP/1.1.
    for (let piece = this.unread.take(); piece !== undefined && !this.ended; piece = this.unread.take())
      this.takePieces(piece);
    if (this.ended) return;
    if (this.isWhole) {
      this.end();
      return;
    }
    this.ended = true;
    this.drop();
    if (failure.kind === 'protocol') this.handlers.onUnusable(`what is no HTTP/2 (${failure.message})`);
    else {
      if (failure.code === ErrorCode.HTTP_1_1_REQUIRED) this.versions.useHttp1();
      this.handlers.onError(lossOf(failure));
    }
  }

  private drop(): void {
    this.parts = NOTHING;
    this.unread.drop();
  }
}

function flushPieces(relay: Http2Relay): void {
  relay.flushNow();
}

function lossOf({ code, unprocessed: isRefused, cause }: StreamFailure): RelayError {
  const unprocessed = isRefused || code === ErrorCode.HTTP_1_1_REQUIRED;
  return { code: codeOf(code, cause), connected: true, reused: false, unprocessed };
}

/** Returns the code of a lost connection as Node has it, or the one that the provider gave. */
export function codeOf(code: number, cause: Error | undefined): string {
  const ofNode = (cause instanceof ConnectionError ? cause.cause : cause) as
    | NodeJS.ErrnoException
    | undefined;
  if (ofNode?.code !== undefined) return ofNode.code;
  return code === ErrorCode.NO_ERROR && cause !== undefined ? 'ECONNRESET' : `HTTP/2 ${errorName(code)}`;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}
