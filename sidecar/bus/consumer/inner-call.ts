/** One call of the process to its own inbound listener. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { isOfARequestsHop } from '../../grpc/hop-fields.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { decodeStatusMessage } from '../../grpc/status-message.ts';
import { formatTimeout } from '../../grpc/timeout.ts';
import { answeredFields } from '../message/carried-fields.ts';
import type { Fields } from '../message/payload.ts';

export interface InnerRequest {
  readonly path: string;
  readonly authority: string;
  readonly fields: Fields;
  /** Without prefix. */
  readonly message: Buffer;
  /** Infinity without a limit. */
  readonly timeoutMs: number;
}

/** The inbound listener has answered. */
interface InnerAnswer {
  readonly kind: 'answered';
  readonly status: number;
  /** Decoded. */
  readonly statusMessage: string;
  /** `outrigger-reason`: why the sidecar itself gave the answer; '' when the agent did. */
  readonly reason: string;
  /** Both without the fields that belong to one hop, and without status and message. */
  readonly head: Fields;
  readonly trailers: Fields;
}

/** `not_sent`: the listener has seen nothing of the call. `broken`: the call has no end. */
export type InnerEnd =
  | InnerAnswer
  | { readonly kind: 'not_sent'; readonly because: string }
  | { readonly kind: 'broken'; readonly because: string };

const UNKNOWN_STATUS = 2;

export class InnerCall {
  /** Receives the bytes of the answer's messages. */
  onData: (chunk: Buffer) => void = () => {};
  /** Receives the head of the answer, without the fields of this hop. */
  onHead: (fields: Fields) => void = () => {};
  /** Receives `grpc-encoding` of the answer. */
  onEncoding: (encoding: string) => void = () => {};
  readonly ended: Promise<InnerEnd>;
  /** Resolves when the request is on its way, or nobody wants it any more. */
  readonly sent: Promise<void>;
  private readonly stream: ClientHttp2Stream | undefined;
  private head: readonly string[] = [];
  private trailers: readonly string[] | undefined = undefined;
  private failure = '';

  constructor(session: ClientHttp2Session, request: InnerRequest) {
    let stream: ClientHttp2Stream;
    try {
      stream = session.request(headersOf(request));
    } catch (error) {
      this.stream = undefined;
      this.ended = Promise.resolve({ kind: 'not_sent', because: String(error) });
      this.sent = Promise.resolve();
      return;
    }
    this.stream = stream;
    stream.on('response', (_headers, _flags, raw: readonly string[]) => {
      this.head = raw;
      this.onHead(answeredFields(raw));
      this.onEncoding(fieldOf(raw, 'grpc-encoding') ?? 'identity');
      // Node emits data before the head when both arrive in one read.
      stream.on('data', (chunk: Buffer) => this.onData(chunk));
    });
    stream.on('trailers', (_headers, _flags, raw: readonly string[]) => {
      this.trailers = raw;
    });
    // An agent that has answered reads no more of the request: a refusal need not wait for the rest of a large one.
    stream.once('end', () => {
      // Node would wait until all of it is sent, which the listener has ended.
      if (!stream.writableFinished) stream.destroy();
    });
    stream.on('error', (error: Error) => {
      this.failure = error.message;
    });
    this.ended = new Promise((resolve) => stream.once('close', () => resolve(this.end(stream.rstCode))));
    this.sent = new Promise((resolve) => stream.once('finish', resolve).once('close', resolve));
    sendMessage(stream, request.message);
  }

  pause(): void {
    this.stream?.pause();
  }

  resume(): void {
    this.stream?.resume();
  }

  /** The listener cancels the agent's call at once. */
  cancel(): void {
    this.stream?.close(constants.NGHTTP2_CANCEL);
  }

  private end(code: number | undefined): InnerEnd {
    const isTrailersOnly = fieldOf(this.head, 'grpc-status') !== undefined;
    const last = isTrailersOnly ? this.head : this.trailers;
    if (last === undefined) {
      const refused = code === constants.NGHTTP2_REFUSED_STREAM;
      const because = this.failure === '' ? `it was reset with code ${code}` : this.failure;
      return refused ? { kind: 'not_sent', because } : { kind: 'broken', because };
    }
    const status = Number(fieldOf(last, 'grpc-status') ?? UNKNOWN_STATUS);
    return {
      kind: 'answered',
      status: Number.isInteger(status) ? status : UNKNOWN_STATUS,
      statusMessage: decodeStatusMessage(fieldOf(last, 'grpc-message') ?? ''),
      reason: fieldOf(last, 'outrigger-reason') ?? '',
      head: isTrailersOnly ? [] : answeredFields(this.head),
      trailers: answeredFields(last),
    };
  }
}

/** A large message is not copied behind its prefix. */
function sendMessage(stream: ClientHttp2Stream, message: Buffer): void {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  if (message.length > COPIED_BYTES) {
    stream.write(prefix);
    stream.end(message);
  } else stream.end(Buffer.concat([prefix, message]));
}

const COPIED_BYTES = 16_384;

/** Throws nothing that the fields of a task can cause: those that can't be sent are left out. */
function headersOf({ path, authority, fields, timeoutMs }: InnerRequest): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    if (isOfARequestsHop(name)) continue;
    const before = headers[name];
    const value = fields[i + 1]!;
    if (before === undefined) headers[name] = value;
    else headers[name] = Array.isArray(before) ? [...before, value] : [before, value];
  }
  headers[':method'] = 'POST';
  headers[':path'] = path;
  headers[':authority'] = authority;
  headers['content-type'] = 'application/grpc+proto';
  headers['te'] = 'trailers';
  // The log keeps messages uncompressed, so that every caller can read them.
  headers['grpc-accept-encoding'] = 'identity';
  if (timeoutMs < Number.POSITIVE_INFINITY) headers['grpc-timeout'] = formatTimeout(timeoutMs);
  return headers;
}

function fieldOf(raw: readonly string[], name: string): string | undefined {
  for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) return raw[i + 1];
  return undefined;
}
