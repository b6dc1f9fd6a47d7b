/** Writes an answer to the caller's connection, over HTTP/1.1 or HTTP/2. */
import type { HttpHeaders } from '../shared/headers.ts';
import type { ApiName } from '../shared/operation.ts';
import { forgetSentHead } from '../shared/sent-head.ts';
import { ignore } from '../shared/short-lived.ts';
import type { DownstreamResponse } from './downstream.ts';
import type { Sink } from './sink.ts';

const BAD_GATEWAY = 502;
/** How long the last bytes of a broken answer may take to the caller. */
const MAX_LAST_BYTES_MS = 5_000;

export class Reply implements Sink {
  readonly api: ApiName;
  private readonly response: DownstreamResponse;
  onDrain: () => void = ignore;
  /** The caller has left before it had the whole answer. */
  onGone: () => void = ignore;
  /** The answer has left, or can't leave any more. */
  onOver: () => void = ignore;
  /** 0 before the head. */
  status = 0;
  private over = false;
  private breaking = false;
  private keepsHead = false;

  /** @param api the API that the caller's client is written for */
  constructor(response: DownstreamResponse, api: ApiName = 'openai') {
    this.api = api;
    this.response = response;
    response.on('drain', () => this.onDrain());
    response.on('error', () => {});
    response.on('close', () => {
      if (!this.over && !this.breaking) this.onGone();
      this.onOver();
    });
  }

  get gone(): boolean {
    return this.response.destroyed || (!this.over && this.response.writableEnded);
  }

  /** The bytes that were written and that the caller has not read. */
  get unreadBytes(): number {
    return this.response.writableLength;
  }

  /** Sends 100 Continue to a caller that waits for it before its body (RFC 9110, section 10.1.1). */
  continue(): void {
    if (!this.gone) this.response.writeContinue();
  }

  head(status: number, headers: HttpHeaders): void {
    if (this.gone) return;
    // RFC 9110, section 15, takes higher ones for 5xx.
    this.status = status > (this.response.maxStatus ?? Number.POSITIVE_INFINITY) ? BAD_GATEWAY : status;
    this.response.writeHead(this.status, headers);
    this.keepsHead = true;
  }

  flushHead(): void {
    if (this.gone || this.over) return;
    this.response.flushHeaders();
    if (this.keepsHead) this.forgetHead();
  }

  write(bytes: Buffer): boolean {
    if (this.gone || this.over) return true;
    const takesMore = this.response.write(bytes);
    if (this.keepsHead) this.forgetHead();
    return takesMore;
  }

  private forgetHead(): void {
    this.keepsHead = false;
    forgetSentHead(this.response);
  }

  end(): void {
    if (this.over) return;
    this.over = true;
    if (!this.response.destroyed) this.response.end();
  }

  breakOff(last: Buffer | undefined): void {
    if (this.over || this.breaking) return;
    this.breaking = true;
    if (this.gone) return;
    if (last === undefined) {
      setImmediate(() => this.break());
      return;
    }
    // Break the connection after the last bytes have left, so that the caller sees them; but don't wait for a caller that
    // does not read.
    const timer = setTimeout(() => this.break(), MAX_LAST_BYTES_MS).unref();
    this.response.write(last, () => {
      clearTimeout(timer);
      this.break();
    });
  }

  private break(): void {
    this.response.destroy();
  }
}
