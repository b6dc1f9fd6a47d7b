/** Stands in for a server's request and response, because http2-proxy knows only these (`relay.ts`). */
import { EventEmitter } from 'node:events';
import type { ClientRequest } from 'node:http';
import type { HttpHeaders } from '../shared/headers.ts';
import { forgetSentHead } from '../shared/sent-head.ts';
import type { RelayRequest } from './relay-request.ts';

/**
 * The request as http2-proxy reads it: like a stream that flows once it has a listener for its data, and no faster than the
 * connection takes them. The whole request is here already, so it needs no buffers and states of a stream.
 */
export class BufferedRequest extends EventEmitter {
  readonly method: string;
  readonly url: string;
  readonly headers: HttpHeaders;
  readonly httpVersion = '1.1';
  /** http2-proxy reads it for the Forwarded header; the relay does not send that, to hide the pod's network. */
  readonly socket = {};
  aborted = false;
  /** The client request that sends this one. */
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
    // The caller of `on` may add more listeners first.
    process.nextTick(flow, this);
  }

  flow(): void {
    while (this.flows && this.next < this.parts.length) this.emit('data', this.parts[this.next++]);
    if (!this.flows || this.isWhole) return;
    this.isWhole = true;
    // Free the bytes: another attempt has its own view of the body.
    this.parts = [];
    this.emit('end');
    if (this.sentBy !== undefined) forgetSentHead(this.sentBy);
  }
}

function flow(request: BufferedRequest): void {
  request.flow();
}

/**
 * The response as http2-proxy sees it. http2-proxy listens for its end. When the provider upgrades without a request,
 * http2-proxy writes to the response and joins it with the provider's socket: so the stand-in has the methods for that,
 * drops the bytes, and reports the upgrade.
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
