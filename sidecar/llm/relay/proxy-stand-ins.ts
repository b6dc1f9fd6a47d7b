/** Stands in for a server's request and response, the only ones that http2-proxy knows (`relay.ts`). */
import { EventEmitter } from 'node:events';
import type { ClientRequest } from 'node:http';
import type { HttpHeaders } from '../shared/headers.ts';
import { forgetSentHead } from '../shared/sent-head.ts';
import type { RelayRequest } from './relay-request.ts';

/**
 * The request as http2-proxy reads it: like a stream that flows once somebody listens for its data, and no faster than the
 * connection takes them. All of it is here already, so nothing of a stream's own buffers and states is needed.
 */
export class BufferedRequest extends EventEmitter {
  readonly method: string;
  readonly url: string;
  readonly headers: HttpHeaders;
  readonly httpVersion = '1.1';
  /** For the Forwarded header, which is not sent: the provider needs to know nothing of the pod's network. */
  readonly socket = {};
  aborted = false;
  /** What http2-proxy sends it by. */
  sentBy: ClientRequest | undefined = undefined;
  private parts: readonly Buffer[];
  private next = 0;
  private flows = false;
  private isWhole = false;

  constructor({ method, path, headers, body }: RelayRequest) {
    super();
    this.method = method;
    this.url = path;
    this.headers = headers;
    this.parts = body.parts;
  }

  override on(name: string, listener: (...values: unknown[]) => void): this {
    super.on(name, listener);
    if (name === 'data') this.resume();
    return this;
  }

  pause(): void {
    this.flows = false;
  }

  resume(): void {
    if (this.flows || this.isWhole) return;
    this.flows = true;
    // Whoever asks for it may not have finished listening.
    process.nextTick(flow, this);
  }

  flow(): void {
    while (this.flows && this.next < this.parts.length) this.emit('data', this.parts[this.next++]);
    if (!this.flows || this.isWhole) return;
    this.isWhole = true;
    // What was sent is not kept for its own sake: another attempt has its own view of it.
    this.parts = [];
    this.emit('end');
    if (this.sentBy !== undefined) forgetSentHead(this.sentBy);
  }
}

function flow(request: BufferedRequest): void {
  request.flow();
}

/**
 * The response as http2-proxy sees it. It listens for its end. To an upgrade that nobody asked for it writes, and joins it with
 * the provider's socket: so it has all that this takes, swallows it, and tells.
 */
export class ResponseStandIn extends EventEmitter {
  private readonly onUpgrade: () => void;

  constructor(onUpgrade: () => void) {
    super();
    this.onUpgrade = onUpgrade;
  }

  write(): boolean {
    this.onUpgrade();
    return true;
  }

  end(): void {}

  destroy(): void {}

  pipe<T>(destination: T): T {
    return destination;
  }
}
