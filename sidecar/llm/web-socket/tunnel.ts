/**
 * Tunnels one WebSocket between the agent and a provider (RFC 6455): its handshake with one upstream after the other, and then its
 * bytes, both ways and unread.
 *
 *     connecting ──▶ waiting for 101 ──▶ open ──▶ over
 *       refused: next   other answer: to the caller   either side ends, idle, drain
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { Timer } from '../../clock/timer-wheel.ts';
import { joinRecords } from '../../tls/joined-records.ts';
import { type RefusalReason, refuse, statusOfRefusal } from '../caller/refusals.ts';
import { endSoon, headText, LAST_BYTES_MS, SocketSink } from '../caller/socket-sink.ts';
import type { EgressContext } from '../provider/egress-context.ts';
import type { Upstream } from '../provider/upstream.ts';
import type { UpstreamAdmission } from '../provider/upstream-breaker.ts';
import { MAX_HEADER_BYTES } from '../relay/relay.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { LlmRequestInfo, LlmRequestObserver } from '../shared/request-observer.ts';
import { FrameBoundary, GOING_AWAY } from './frame-boundary.ts';
import { boundInterimAnswers } from './handshake-feed.ts';
import { handshakeHeaders, handshakePath, withoutHops } from './tunnel-headers.ts';

/** A peer that vanished without a word is looked for (by TCP) after so much silence. */
const PEER_CHECK_MS = 60_000;
const SWITCHING = 101;

export interface TunnelRequest {
  /** After the base URL, with its query. */
  readonly path: string;
  readonly headers: HttpHeaders;
  readonly caller: string;
  readonly info: LlmRequestInfo;
  readonly socket: Socket;
  /** Bytes that came behind the request's head. */
  readonly head: Buffer;
}

export class Tunnel extends Timer {
  readonly caller: string;
  private readonly context: EgressContext;
  private readonly request: TunnelRequest;
  private readonly onOver: (tunnel: Tunnel) => void;
  private readonly upstreams: readonly Upstream[];
  private readonly observer: LlmRequestObserver | undefined;
  private readonly startedMs: number;
  private readonly boundary = new FrameBoundary();
  private attempts = 0;
  private upstream: Upstream | undefined = undefined;
  private admission: UpstreamAdmission | undefined = undefined;
  private client: ClientRequest | undefined = undefined;
  private provider: Socket | undefined = undefined;
  private status = 0;
  private connected = false;
  private aliveMs: number;
  /** It ends at the end of the frame that is on its way to the caller. */
  private closing = false;
  private over = false;

  constructor(context: EgressContext, request: TunnelRequest, onOver: (tunnel: Tunnel) => void) {
    super();
    this.caller = request.caller;
    this.context = context;
    this.request = request;
    this.onOver = onOver;
    this.upstreams = [...context.upstreams];
    this.startedMs = context.clock();
    this.aliveMs = this.startedMs;
    this.observer = context.observer?.begin(request.info);
  }

  start(): void {
    const { socket } = this.request;
    socket.once('close', () => this.end('cancelled'));
    // Who has ended its side before anything has begun does not wait for it.
    socket.once('end', () => {
      if (this.status === 0) socket.destroy();
    });
    if (socket.destroyed || socket.readableEnded) this.close();
    else this.tryNext('');
  }

  /** The sidecar ends: a close goes to the caller as soon as no frame is on its way. */
  endForDrain(): void {
    if (this.over || this.closing) return;
    if (this.provider === undefined) {
      this.refuse('draining', 'the sidecar is shutting down');
      return;
    }
    this.closing = true;
    if (this.boundary.isAtEnd) this.sayGoodbye();
    else this.context.wheel.arm(this, this.context.clock() + LAST_BYTES_MS);
  }

  close(): void {
    this.request.socket.destroy();
    this.end('cancelled');
  }

  /** @param because the last one failed; '' for the first */
  private tryNext(because: string): void {
    const { clock, settings, stats, wheel } = this.context;
    const upstream =
      this.attempts < settings.retry.maxAttempts
        ? this.upstreams.find(({ breaker }) => breaker.admits)
        : undefined;
    const admission = upstream?.breaker.admit();
    if (upstream === undefined || admission === undefined) {
      if (this.attempts === 0) this.refuse('circuit_open', 'every upstream has failed too often; see /stats');
      else this.refuse('connect_failed', because);
      return;
    }
    (this.upstreams as Upstream[]).splice(this.upstreams.indexOf(upstream), 1);
    this.attempts++;
    this.upstream = upstream;
    this.admission = admission;
    this.connected = false;
    this.aliveMs = clock();
    upstream.activeRequests++;
    if (this.attempts > 1) stats.of(upstream.name, this.request.info.model).retries++;
    this.ask(upstream);
    const { connectTimeoutMs } = settings;
    if (connectTimeoutMs > 0) wheel.arm(this, clock() + connectTimeoutMs);
    else wheel.cancel(this);
  }

  private ask(upstream: Upstream): void {
    const { headers, path } = this.request;
    const sent = handshakeHeaders(headers, upstream.recipient);
    this.observer?.onAttempt({
      upstream: upstream.name,
      serverAddress: upstream.hostname,
      serverPort: upstream.port,
      attempt: this.attempts,
      model: this.request.info.model,
      headers: sent,
    });
    const isSecure = upstream.protocol === 'https:';
    const client = (isSecure ? httpsRequest : httpRequest)({
      hostname: upstream.hostname,
      port: upstream.port,
      path: upstream.pathOf(handshakePath(path, upstream.recipient)),
      headers: sent,
      // A connection of its own: it is not one for requests any more.
      agent: false,
      setHost: true,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    this.client = client;
    boundInterimAnswers(client, (what) => {
      if (client === this.client && !this.over) this.onUnusable(`answered ${what}`);
    });
    client.once('socket', (socket) => {
      if (isSecure) joinRecords(socket);
      socket.once(isSecure ? 'secureConnect' : 'connect', () => this.onConnected(client));
    });
    client.once('upgrade', (answer: IncomingMessage, socket: Socket, head: Buffer) => {
      socket.on('error', () => {});
      if (client === this.client && !this.over) this.onUpgrade(answer, socket, head);
      else socket.destroy();
    });
    client.once('response', (answer) => {
      if (client === this.client && !this.over) this.onRefusal(answer);
    });
    client.on('error', (error: Error & { code?: string }) => {
      if (client === this.client) this.onFailure(error.code ?? 'EUNKNOWN');
    });
    client.end();
  }

  private onConnected(client: ClientRequest): void {
    if (client !== this.client || this.over) return;
    const { clock, settings, wheel } = this.context;
    this.connected = true;
    this.aliveMs = clock();
    if (settings.firstByteTimeoutMs > 0) wheel.arm(this, this.aliveMs + settings.firstByteTimeoutMs);
    else wheel.cancel(this);
  }

  private onFailure(code: string): void {
    // Behind its head the answer ends by itself.
    if (this.over || this.status > 0) return;
    const upstream = this.upstream!;
    const wasConnected = this.connected;
    this.settle('failure', wasConnected ? 'connection_lost' : 'connect_failed');
    // No handshake costs anything: the next one can be asked whatever has come of this one.
    const what = wasConnected ? 'the connection was lost before an answer' : 'can not be connected to';
    this.tryNext(`${upstream.name}: ${what} (${code})`);
  }

  private onUnusable(what: string): void {
    this.settle('failure', 'upstream_protocol');
    this.refuse('upstream_protocol', `${this.upstream!.name}: ${what}`);
  }

  /** Any other answer than 101 is the caller's, as it is. */
  private onRefusal(answer: IncomingMessage): void {
    const status = answer.statusCode ?? 502;
    this.status = status;
    this.settle(status >= 500 ? 'failure' : status === 429 ? 'neutral' : 'success', String(status));
    const { socket } = this.request;
    socket.write(
      headText(status, answer.statusMessage ?? '', {
        ...withoutHops(answer.headers as HttpHeaders, this.upstream!.recipient),
        'outrigger-upstream': this.upstream!.name,
        connection: 'close',
      }),
      'latin1',
    );
    this.arm();
    answer.on('error', () => socket.destroy());
    answer.on('data', () => {
      this.aliveMs = this.context.clock();
    });
    answer.once('end', () => endSoon(socket));
    answer.pipe(socket, { end: false });
  }

  private onUpgrade(answer: IncomingMessage, provider: Socket, head: Buffer): void {
    const upstream = this.upstream!;
    if (answer.statusCode !== SWITCHING || answer.headers.upgrade?.toLowerCase() !== 'websocket') {
      provider.destroy();
      this.onUnusable(`answered ${answer.statusCode} and another protocol`);
      return;
    }
    this.status = SWITCHING;
    this.provider = provider;
    upstream.breaker.settle(this.admission!, 'success');
    this.context.stats.webSockets++;
    const { socket, head: early } = this.request;
    for (const side of [socket, provider]) {
      side.setNoDelay(true);
      side.setKeepAlive(true, PEER_CHECK_MS);
      side.setTimeout(0);
    }
    socket.write(
      headText(SWITCHING, 'Switching Protocols', {
        ...withoutHops(answer.headers as HttpHeaders, upstream.recipient),
        'outrigger-upstream': upstream.name,
        connection: 'Upgrade',
        upgrade: 'websocket',
      }),
      'latin1',
    );
    this.carry(provider, socket, head, (bytes) => this.forward(bytes));
    this.carry(socket, provider, early, (bytes) => provider.write(bytes));
    provider.once('close', () => this.end(provider.errored === null ? 'success' : 'cut'));
    this.arm();
  }

  /** Reads no faster than the other side takes; an end is passed on, and both are closed soon after it. */
  private carry(from: Socket, to: Socket, first: Buffer, take: (bytes: Buffer) => boolean): void {
    const onData = (bytes: Buffer): void => {
      this.aliveMs = this.context.clock();
      if (!take(bytes)) from.pause();
    };
    if (first.length > 0) onData(first);
    from.on('data', onData);
    to.on('drain', () => from.resume());
    const onEnd = (): void => {
      to.end();
      this.context.wheel.arm(this, this.context.clock() + LAST_BYTES_MS);
      this.closing = true;
    };
    if (from.readableEnded) onEnd();
    else from.on('end', onEnd);
    from.resume();
  }

  /** To the caller: whole frames only, once it is to be closed. */
  private forward(bytes: Buffer): boolean {
    const { socket } = this.request;
    const end = this.boundary.push(bytes);
    if (!this.closing) return socket.write(bytes);
    if (socket.writableEnded) return true;
    if (end === 0) return socket.write(bytes);
    socket.write(bytes.subarray(0, end));
    this.sayGoodbye();
    return true;
  }

  private sayGoodbye(): void {
    this.request.socket.end(GOING_AWAY);
    this.provider?.end();
    this.context.wheel.arm(this, this.context.clock() + LAST_BYTES_MS);
  }

  override onTimeout(nowMs: number): void {
    const { settings } = this.context;
    if (this.status === 0) {
      this.client?.destroy();
      if (!this.connected) {
        this.onFailure('ETIMEDOUT');
        return;
      }
      this.settle('neutral', 'first_byte');
      const ms = settings.firstByteTimeoutMs;
      this.refuse('first_byte', `${this.upstream!.name}: no answer within ${ms} ms (first_byte_timeout)`);
    } else if (this.closing || nowMs >= this.aliveMs + settings.webSocketIdleTimeoutMs) {
      this.request.socket.destroy();
      this.end(this.closing ? 'success' : 'timeout');
    } else {
      this.arm();
    }
  }

  private arm(): void {
    const { settings, wheel } = this.context;
    const { webSocketIdleTimeoutMs } = settings;
    if (webSocketIdleTimeoutMs > 0) wheel.arm(this, this.aliveMs + webSocketIdleTimeoutMs);
    else wheel.cancel(this);
  }

  /** The handshake with the present upstream is over. */
  private settle(verdict: 'success' | 'failure' | 'neutral', outcome: string): void {
    const upstream = this.upstream!;
    upstream.breaker.settle(this.admission!, verdict);
    upstream.activeRequests--;
    this.admission = undefined;
    this.context.stats.of(upstream.name, this.request.info.model).countAttempt(outcome);
    this.observer?.onAttemptEnd(undefined, this.status);
  }

  private refuse(reason: RefusalReason, message: string): void {
    if (this.over) return;
    this.status = statusOfRefusal(reason);
    refuse(new SocketSink(this.request.socket), reason, message, { clientDecides: true });
    this.end(reason === 'first_byte' ? 'timeout' : 'failed', reason);
  }

  private end(outcome: 'success' | 'cancelled' | 'cut' | 'timeout' | 'failed', reason = ''): void {
    if (this.over) return;
    this.over = true;
    const { clock, stats, wheel } = this.context;
    wheel.cancel(this);
    this.client?.destroy();
    this.provider?.destroy();
    const upstream = this.upstream;
    if (this.provider !== undefined) {
      stats.webSockets--;
      upstream!.activeRequests--;
      stats.of(upstream!.name, this.request.info.model).countAttempt('success');
      this.observer?.onAttemptEnd(undefined, SWITCHING);
      endSoon(this.request.socket);
    } else if (this.admission !== undefined) {
      this.settle('neutral', 'cancelled');
    }
    const refused = this.status >= 400 && reason === '';
    // Who has its 101 and leaves has had all of it.
    const became = refused
      ? this.status >= 500
        ? 'failed'
        : 'refused'
      : this.provider !== undefined && outcome === 'cancelled'
        ? 'success'
        : outcome;
    const durationMs = clock() - this.startedMs;
    const pair = stats.of(upstream?.name ?? '', this.request.info.model);
    stats.ended(pair, this.request.info.model, became, durationMs / 1000);
    this.observer?.onEnd({
      info: this.request.info,
      outcome: became,
      reason: reason === '' && refused ? String(this.status) : reason,
      status: this.status,
      upstream: upstream?.name ?? '',
      attempts: this.attempts,
      responseModel: undefined,
      responseId: undefined,
      finishReason: undefined,
      inputTokens: 0,
      outputTokens: 0,
      wastedTokens: 0,
      tokensAreExact: false,
      firstByteMs: 0,
      durationMs,
    });
    this.onOver(this);
  }
}
