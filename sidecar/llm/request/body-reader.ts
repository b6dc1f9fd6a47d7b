/**
 * Reads the body of one request, when there is room for it:
 *
 *     in line ──room──▶ reading ──its end──▶ held ──release──▶ over
 *        └── too long      └── too large, too slow, no room for more: refused
 *
 * While the body is in line the reader reads nothing: the client's socket fills, and the client waits. Of a body without a
 * length it reads only the beginning until there is room for the largest body.
 */

import type { Hash } from 'node:crypto';
import type { Transform } from 'node:stream';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import type { BodyPrint } from '../../journal/record/body-print.ts';
import { type Claim, type SharedMemory, SMALL_CLAIM_BYTES } from '../../policy/shared-memory.ts';
import type { DownstreamRequest } from '../caller/downstream.ts';
import { type RefusalExtras, type RefusalReason, refuse } from '../caller/refusals.ts';
import type { Reply } from '../caller/reply.ts';
import type { TurnShare } from '../limits/turn-share.ts';
import { BodyParts } from '../shared/body.ts';
import { textOf } from '../shared/headers.ts';
import type { JsonScan } from './json-scan.ts';

export interface BodyReading {
  readonly request: DownstreamRequest;
  readonly reply: Reply;
  readonly memory: SharedMemory;
  readonly turn: TurnShare;
  readonly wheel: TimerWheel;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The caller by which the memory is shared. */
  readonly caller: string;
  readonly maxBytes: number;
  /** Until when the body may wait for room, by the clock. */
  readonly waitUntilMs: number;
  /** Receives the bytes as they come. */
  readonly scan: JsonScan | undefined;
  readonly digest: Hash | undefined;
  /** Takes the print of the body for the journal. */
  readonly print: BodyPrint | undefined;
  /** Undoes the encoding of the body. */
  readonly decoder: Transform | undefined;
}

/** An agent writes its request at once; one that stops in the middle has failed. */
const BODY_TIMEOUT_MS = 60_000;

export class BodyReader extends Timer implements Claim {
  readonly caller: string;
  bytes = 0;
  granted = false;
  sinceMs = 0;
  readonly body = new BodyParts();
  /** The digest of the whole body, where the request has one. */
  digest: string | undefined = undefined;
  private readonly reading: BodyReading;
  private readonly onBody: (body: BodyParts) => void;
  /** The room for what follows the beginning of a body without a length. */
  private rest: Claim | undefined = undefined;
  private hasLength = false;
  private over = false;
  private whole = false;

  /** @param onBody receives the whole body, unless the reader refuses the request or its caller leaves */
  constructor(reading: BodyReading, onBody: (body: BodyParts) => void) {
    super();
    this.reading = reading;
    this.onBody = onBody;
    this.caller = reading.caller;
  }

  start(): void {
    const { request, maxBytes, memory, wheel, waitUntilMs, decoder } = this.reading;
    request.on('error', () => {});
    request.on('close', () => {
      if (!this.whole && !request.complete) this.release();
    });
    const length = declaredLength(request);
    if (length !== undefined && length > maxBytes) {
      this.refuseSize();
      return;
    }
    this.hasLength = length !== undefined && decoder === undefined;
    this.bytes = this.hasLength ? length! : Math.min(maxBytes, SMALL_CLAIM_BYTES);
    memory.enter(this);
    if (!this.granted && !this.over) wheel.arm(this, waitUntilMs);
  }

  /** Whether the body waits for room, or for more of it. */
  get waits(): boolean {
    return !this.over && (!this.granted || this.rest?.granted === false);
  }

  onGranted(): void {
    const { request, reply, wheel, clock, decoder } = this.reading;
    wheel.arm(this, clock() + BODY_TIMEOUT_MS);
    if (textOf(request.headers['expect'])?.toLowerCase() === '100-continue') reply.continue();
    if (decoder === undefined) {
      request.on('data', (part: Buffer) => this.take(part));
      request.on('end', () => this.end());
      return;
    }
    let isEmpty = true;
    request.on('data', () => {
      isEmpty = false;
    });
    decoder.on('data', (part: Buffer) => this.take(part));
    decoder.on('end', () => this.end());
    decoder.on('error', () => {
      // The sender meant no body at all, whatever its headers say of an encoding.
      if (isEmpty) this.end();
      else
        this.refuse(
          'bad_request',
          'the body of the request is not encoded as its content-encoding says; send the encoding that it has',
        );
    });
    request.pipe(decoder);
  }

  /** Frees the body, because no attempt needs it any more or the caller has left. */
  release(): void {
    if (!this.whole) this.stop();
    this.body.drop();
    const { memory } = this.reading;
    if (this.rest !== undefined) memory.release(this.rest);
    this.rest = undefined;
    memory.release(this);
  }

  /** The time to drain is over. */
  endForDrain(): void {
    if (!this.over) this.refuse('draining', 'the sidecar is shutting down; retry', { clientDecides: true });
  }

  override onTimeout(): void {
    if (!this.waits) {
      const message = `the body of the request did not come within ${BODY_TIMEOUT_MS} ms; send it without pauses`;
      this.refuse('bad_request', message);
      return;
    }
    const retryAfterMs = this.reading.memory.againMs();
    const message =
      'the bodies of the running requests take all their memory (llm.limits.max_body_memory_bytes); try again later';
    this.refuse('overloaded', message, { retryAfterMs, clientDecides: true });
  }

  private take(part: Buffer): void {
    if (this.over) return;
    const { maxBytes, scan, digest, print, turn } = this.reading;
    const { body } = this;
    if (body.bytes + part.length > maxBytes) {
      this.refuseSize();
      return;
    }
    body.push(part);
    scan?.push(part);
    digest?.update(part);
    print?.push(part);
    if (body.bytes <= SMALL_CLAIM_BYTES) return;
    if (!this.hasLength && this.rest === undefined) this.claimRest();
    if (!turn.spend(part.length, this.goOn)) this.pause();
  }

  /** Claims room for the largest body: this may be one. */
  private claimRest(): void {
    const { memory, maxBytes, wheel, clock } = this.reading;
    const rest: Claim = {
      caller: this.caller,
      bytes: Math.max(1, maxBytes - this.bytes),
      granted: false,
      sinceMs: 0,
      onGranted: () => {
        wheel.arm(this, clock() + BODY_TIMEOUT_MS);
        this.goOn();
      },
    };
    this.rest = rest;
    memory.enter(rest);
    if (rest.granted || this.over) return;
    this.pause();
    wheel.arm(this, Math.max(clock(), this.reading.waitUntilMs));
  }

  private readonly goOn = (): void => {
    if (this.over || this.waits) return;
    const { decoder, request } = this.reading;
    (decoder ?? request).resume();
  };

  private pause(): void {
    const { decoder, request } = this.reading;
    (decoder ?? request).pause();
  }

  private end(): void {
    if (this.over) return;
    this.over = true;
    this.whole = true;
    const { digest, memory, wheel } = this.reading;
    wheel.cancel(this);
    const { bytes } = this.body;
    this.digest = digest?.digest('base64');
    if (this.rest !== undefined) memory.shrink(this.rest, Math.max(0, bytes - this.bytes));
    else memory.shrink(this, bytes);
    this.onBody(this.body);
  }

  private refuseSize(): void {
    const { maxBytes } = this.reading;
    const message = `the request has more than ${maxBytes} bytes (llm.limits.max_request_bytes); send a smaller one`;
    this.refuse('request_too_large', message);
  }

  private refuse(reason: RefusalReason, message: string, more: RefusalExtras = {}): void {
    if (this.over) return;
    this.stop();
    refuse(this.reading.reply, reason, message, more);
    this.release();
  }

  /** Takes nothing more. It reads and drops what still comes, so that the client sees its answer. */
  private stop(): void {
    if (this.over) return;
    this.over = true;
    const { wheel, request, decoder } = this.reading;
    wheel.cancel(this);
    if (decoder !== undefined) {
      request.unpipe(decoder);
      decoder.destroy();
    }
    request.resume();
  }
}

/** Returns the length of the body in bytes; 0 without a body, undefined for a body without a length. */
function declaredLength(request: DownstreamRequest): number | undefined {
  const text = textOf(request.headers['content-length']);
  if (text !== undefined) return Number(text);
  if (request.httpVersionMajor === 1)
    return request.headers['transfer-encoding'] === undefined ? 0 : undefined;
  return request.method === 'GET' || request.method === 'HEAD' ? 0 : undefined;
}
