/**
 * The listener of one target (`outbound.targets`). Injection can't know what an app speaks at an address; so a connection
 * that does not begin as HTTP/2 passes to the target unread, as without a sidecar, and without its policies.
 */
import { connect, type Server, type Socket } from 'node:net';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import { parseAddress } from '../net/address.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import { GrpcListener } from './grpc-listener.ts';
import type { GrpcListenerEnvironment, GrpcListenerOptions } from './grpc-listener-options.ts';
import type { TargetCalls } from './target-calls.ts';

/** The start of the HTTP/2 preface (RFC 9113, section 3.4); no method of HTTP/1 and no TLS record begins like it. */
const HTTP2_PREFACE = 'PRI ';
/** How long a client may take to send its first bytes. */
const FIRST_BYTES_TIMEOUT_MS = 10_000;
/** After this silence TCP keepalive checks whether the peer still exists. */
const PEER_CHECK_MS = 60_000;
const NAME = 'outbound.targets';

export class TargetListener extends GrpcListener {
  /** Gives the calls their authority. */
  readonly direction: TargetCalls;
  private readonly events: GrpcListenerEnvironment;
  /** The app's side of each connection that passes. */
  private readonly passing = new Set<Socket>();
  private told = false;

  constructor(
    calls: TargetCalls,
    stats: ListenerStats,
    environment: GrpcListenerEnvironment,
    options: GrpcListenerOptions,
  ) {
    super(NAME, calls, stats, environment, options);
    this.direction = calls;
    this.events = environment;
  }

  protected override acceptSocket(socket: Socket, server: Server): void {
    const end = (): void => void socket.destroy();
    // An error before the connection has an owner would end the process.
    socket.on('error', end);
    socket.setTimeout(FIRST_BYTES_TIMEOUT_MS, end);
    socket.once('readable', () => {
      const first: Buffer | null = socket.read();
      if (first === null) {
        end();
        return;
      }
      socket.unshift(first);
      socket.setTimeout(0, end);
      socket.removeListener('timeout', end);
      const begins = first.toString('latin1', 0, Math.min(first.length, HTTP2_PREFACE.length));
      if (HTTP2_PREFACE.startsWith(begins)) super.acceptSocket(socket, server);
      else this.pass(socket);
    });
  }

  /** Copies bytes both ways; each side may end its direction on its own. */
  private pass(socket: Socket): void {
    const where = parseAddress(this.direction.target);
    const upstream = connect({
      ...(where.kind === 'unix' ? { path: where.path } : { host: where.host, port: where.port }),
      allowHalfOpen: true,
      keepAlive: true,
      keepAliveInitialDelay: PEER_CHECK_MS,
      noDelay: true,
    });
    socket.allowHalfOpen = true;
    this.passing.add(socket);
    const end = (): void => {
      this.passing.delete(socket);
      socket.destroy();
      upstream.destroy();
    };
    for (const side of [socket, upstream]) side.on('error', end).on('close', end);
    socket.pipe(upstream);
    upstream.pipe(socket);
    if (this.told) return;
    this.told = true;
    const message = `a connection for ${this.direction.target} is no HTTP/2 in plain text; such connections pass without policies. If the app uses TLS there, leave its address alone: outrigger.dev/outbound-env`;
    const notice = new ConnectionError('peer', ErrorCode.NO_ERROR, message, 'passed_on');
    this.events.onConnectionError(NAME, notice);
  }

  override get connectionCount(): number {
    return super.connectionCount + this.passing.size;
  }

  override endCalls(): void {
    super.endCalls();
    for (const socket of this.passing) socket.destroy();
  }
}
