/**
 * Tunnels one WebSocket between the agent and a provider (RFC 6455): its handshake with one upstream after the other, and
 * then its bytes, both ways and unread.
 * `tunnel-state.ts` draws its states.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { Timer } from '../../clock/timer-wheel.ts';
import { step } from '../../errors/illegal-step.ts';
import { type RefusalReason, refuse, statusOfRefusal } from '../caller/refusals.ts';
import { endSoon, headText, LAST_BYTES_MS, SocketSink } from '../caller/socket-sink.ts';
import type { Asked } from '../kinds/asked.ts';
import type { EgressContext } from '../provider/egress-context.ts';
import { speakersOf, type Upstream } from '../provider/upstream.ts';
import type { UpstreamAdmission } from '../provider/upstream-breaker.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { LlmRequestInfo, LlmRequestObserver } from '../shared/request-observer.ts';
import { FrameBoundary, GOING_AWAY } from './frame-boundary.ts';
import { sendHandshake } from './handshake-request.ts';
import { recordTunnel } from './tunnel-end.ts';
import { handshakeHeaders, withoutHops } from './tunnel-headers.ts';
import { TUNNEL_ARROWS, type TunnelState } from './tunnel-state.ts';

/** TCP checks a silent peer after this time: it may have vanished without closing its connection. */
const PEER_CHECK_MS = 60_000;
const SWITCHING = 101;

export interface TunnelRequest {
  readonly asked: Asked;
  readonly headers: HttpHeaders;
  readonly caller: string;
  readonly info: LlmRequestInfo;
  readonly socket: Socket;
  /** The bytes that followed the request's head. */
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
  private state: TunnelState = 'connecting';
  private aliveMs: number;

  constructor(context: EgressContext, request: TunnelRequest, onOver: (tunnel: Tunnel) => void) {
    super();
    this.caller = request.caller;
    this.context = context;
    this.request = request;
    this.onOver = onOver;
    this.upstreams = [...speakersOf(request.asked, context.upstreams)];
    this.startedMs = context.clock();
    this.aliveMs = this.startedMs;
    this.observer = context.observer?.begin(request.info);
  }

  private become(state: TunnelState): void {
    this.state = step(TUNNEL_ARROWS, this.state, state);
  }

  start(): void {
    const { socket } = this.request;
    socket.once('close', () => this.end('cancelled'));
    // A caller that ends its side before the handshake does not wait for it.
    socket.once('end', () => {
      if (this.inHandshake) socket.destroy();
    });
    if (socket.destroyed || socket.readableEnded) this.close();
    else this.tryNext('');
  }

  /** The time to drain is over: sends the caller a close as soon as no frame is on its way. */
  endForDrain(): void {
    if (this.state === 'over' || this.state === 'closing') return;
    if (this.state === 'refused') {
      // The caller has a head already: a second one would be read as a part of the body.
      this.request.socket.destroy();
      this.end('cut');
      return;
    }
    if (this.state !== 'open') {
      this.refuse('draining', 'the sidecar is shutting down; connect again');
      return;
    }
    this.become('closing');
    if (this.boundary.isAtEnd) this.sayGoodbye();
    else this.context.wheel.arm(this, this.context.clock() + LAST_BYTES_MS);
  }

  close(): void {
    this.request.socket.destroy();
    this.end('cancelled');
  }

  /** @param because why the last upstream failed; '' for the first */
  private tryNext(because: string): void {
    const { clock, settings, stats, wheel } = this.context;
    const upstream =
      this.attempts < settings.retry.maxAttempts
        ? this.upstreams.find(({ breaker }) => breaker.admits)
        : undefined;
    const admission = upstream?.breaker.admit();
    if (upstream === undefined || admission === undefined) {
      if (this.attempts === 0)
        this.refuse(
          'circuit_open',
          'the circuit of every upstream is open after too many failures; try again later, and see /stats',
        );
      else this.refuse('connect_failed', because);
      return;
    }
    (this.upstreams as Upstream[]).splice(this.upstreams.indexOf(upstream), 1);
    this.attempts++;
    this.upstream = upstream;
    this.admission = admission;
    this.become('connecting');
    this.aliveMs = clock();
    upstream.activeRequests++;
    if (this.attempts > 1) stats.of(upstream.name, this.request.info.model).retries++;
    this.ask(upstream);
    const { connectTimeoutMs } = settings;
    if (connectTimeoutMs > 0) wheel.arm(this, clock() + connectTimeoutMs);
    else wheel.cancel(this);
  }

  private ask(upstream: Upstream): void {
    const { headers, asked } = this.request;
    const sent = handshakeHeaders(headers, upstream.recipient(asked));
    upstream.addHeaders(sent);
    this.observer?.onAttempt({
      upstream: upstream.name,
      serverAddress: upstream.hostname,
      serverPort: upstream.port,
      attempt: this.attempts,
      model: this.request.info.model,
      headers: sent,
    });
    const isCurrent = (): boolean => client === this.client && this.state !== 'over';
    const client: ClientRequest = sendHandshake(upstream, asked, sent, {
      onConnected: () => {
        if (isCurrent()) this.onConnected();
      },
      onEndless: (what) => {
        if (isCurrent()) this.onUnusable(`answered ${what}`);
      },
    });
    this.client = client;
    client.once('upgrade', (answer: IncomingMessage, socket: Socket, head: Buffer) => {
      socket.on('error', () => {});
      if (isCurrent()) this.onUpgrade(answer, socket, head);
      else socket.destroy();
    });
    client.once('response', (answer) => {
      if (isCurrent()) this.onRefusal(answer);
    });
    client.on('error', (error: Error & { code?: string }) => {
      if (client === this.client) this.onFailure(error.code ?? 'EUNKNOWN');
    });
    client.end();
  }

  /** The handshake has no answer yet. */
  private get inHandshake(): boolean {
    return this.state === 'connecting' || this.state === 'waiting';
  }

  private onConnected(): void {
    const { clock, settings, wheel } = this.context;
    this.become('waiting');
    this.aliveMs = clock();
    if (settings.firstByteTimeoutMs > 0) wheel.arm(this, this.aliveMs + settings.firstByteTimeoutMs);
    else wheel.cancel(this);
  }

  private onFailure(code: string): void {
    // After its head the answer ends by itself.
    if (!this.inHandshake) return;
    const upstream = this.upstream!;
    const wasConnected = this.state === 'waiting';
    this.settle('failure', wasConnected ? 'connection_lost' : 'connect_failed');
    // A handshake costs nothing: the next upstream can be tried, whatever became of this one.
    const what = wasConnected ? 'the connection was lost before an answer' : 'can not be connected to';
    this.tryNext(`${upstream.name}: ${what} (${code})`);
  }

  private onUnusable(what: string): void {
    this.settle('failure', 'upstream_protocol');
    this.refuse('upstream_protocol', `${this.upstream!.name}: ${what}`);
  }

  /** Passes any other answer than 101 to the caller as it is. */
  private onRefusal(answer: IncomingMessage): void {
    const status = answer.statusCode ?? 502;
    this.become('refused');
    this.status = status;
    this.settle(status >= 500 ? 'failure' : status === 429 ? 'neutral' : 'success', String(status));
    const { socket } = this.request;
    socket.write(
      headText(status, answer.statusMessage ?? '', {
        ...withoutHops(answer.headers as HttpHeaders, this.upstream!.recipient(this.request.asked)),
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
    this.become('open');
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
        ...withoutHops(answer.headers as HttpHeaders, upstream.recipient(this.request.asked)),
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

  /** Reads no faster than the other side takes; passes on an end, and closes both sides soon after it. */
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
      if (this.state === 'open') this.become('closing');
    };
    if (from.readableEnded) onEnd();
    else from.on('end', onEnd);
    from.resume();
  }

  /** Writes to the caller; only whole frames, once the tunnel closes. */
  private forward(bytes: Buffer): boolean {
    const { socket } = this.request;
    const end = this.boundary.push(bytes);
    if (this.state !== 'closing') return socket.write(bytes);
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
    if (this.inHandshake) {
      this.client?.destroy();
      if (this.state === 'connecting') {
        this.onFailure('ETIMEDOUT');
        return;
      }
      this.settle('neutral', 'first_byte');
      const ms = settings.firstByteTimeoutMs;
      this.refuse('first_byte', `${this.upstream!.name}: no answer within ${ms} ms (first_byte_timeout)`);
    } else if (this.state === 'closing' || nowMs >= this.aliveMs + settings.webSocketIdleTimeoutMs) {
      this.request.socket.destroy();
      this.end(this.state === 'closing' ? 'success' : 'timeout');
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

  /** Ends the handshake with the present upstream. */
  private settle(verdict: 'success' | 'failure' | 'neutral', outcome: string): void {
    const upstream = this.upstream!;
    upstream.breaker.settle(this.admission!, verdict);
    upstream.activeRequests--;
    this.admission = undefined;
    this.context.stats.of(upstream.name, this.request.info.model).countAttempt(outcome);
    this.observer?.onAttemptEnd(undefined, this.status);
  }

  private refuse(reason: RefusalReason, message: string): void {
    if (this.state === 'over') return;
    this.status = statusOfRefusal(reason);
    refuse(new SocketSink(this.request.socket), reason, message, { clientDecides: true });
    this.end(reason === 'first_byte' ? 'timeout' : 'failed', reason);
  }

  private end(outcome: 'success' | 'cancelled' | 'cut' | 'timeout' | 'failed', reason = ''): void {
    if (this.state === 'over') return;
    this.become('over');
    const { stats, wheel } = this.context;
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
    // A caller that leaves after its 101 has had a success.
    const became = refused
      ? this.status >= 500
        ? 'failed'
        : 'refused'
      : this.provider !== undefined && outcome === 'cancelled'
        ? 'success'
        : outcome;
    recordTunnel(this.context, {
      info: this.request.info,
      observer: this.observer,
      outcome: became,
      reason: reason === '' && refused ? String(this.status) : reason,
      status: this.status,
      upstream: upstream?.name ?? '',
      attempts: this.attempts,
      startedMs: this.startedMs,
    });
    this.onOver(this);
  }
}
