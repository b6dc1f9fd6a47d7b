/**
 * Opens connections to one provider, and starts requests on them. Over TLS each new connection offers HTTP/2 and HTTP/1.1
 * (ALPN, RFC 7301), and the provider chooses:
 *
 *     take ──▶ a kept connection with room ──▶ begin
 *        └──▶ connecting ──h2──▶ the requests that wait, as far as the provider takes streams ──▶ begin
 *                  ├──http/1.1──▶ one request begins on it, and each of the others opens its own
 *                  └──failed────▶ the requests that wait fail
 */
import { type LookupAddress, lookup as systemLookup } from 'node:dns';
import { readFileSync } from 'node:fs';
import type { Agent } from 'node:http';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import { Connection } from '../../http2/connection.ts';
import type { ConnectionOwner } from '../../http2/connection-owner.ts';
import { ConnectionError } from '../../http2/errors.ts';
import { ErrorCode } from '../../http2/frame.ts';
import { joinRecords } from '../../tls/joined-records.ts';
import { AddressWatch, type Lookup } from './address-watch.ts';
import { HTTP2_LIMITS, Http2Connections, type Http2Times } from './http2-connections.ts';
import { codeOf } from './http2-relay.ts';
import { closeIdle, keepingAgent, stock } from './kept-sockets.ts';

/** A request that needs a connection. */
export interface ConnectionWaiter {
  onHttp2(connection: Connection): void;
  onHttp1(): void;
  onNoConnection(code: string): void;
}

export interface ConnectionTimes extends Http2Times {
  /** How often the provider's name is looked up again; 0 is never. */
  dnsRefreshMs: number;
}

export interface ConnectionTarget {
  readonly protocol: 'http:' | 'https:';
  readonly hostname: string;
  readonly port: number;
  /** A file with the authorities; undefined is those of the system. */
  readonly ca: string | undefined;
  /** Whether HTTP/2 is offered. */
  readonly http2: boolean;
}

export interface ConnectionEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly lookup?: Lookup | undefined;
}

/** A connection that is being opened, and the requests that wait for it. */
interface Opening {
  readonly socket: TLSSocket;
  readonly sinceMs: number;
  readonly waiters: Set<ConnectionWaiter>;
  connection: Connection | undefined;
}

/** Requests join a connection that is being opened for less than this; it may hang. */
const JOIN_MS = 1_000;
/** What most servers take, until the provider has told its own number. */
const ASSUMED_STREAMS = 100;

export class ProviderConnections implements ConnectionOwner<Connection> {
  /** The connections of HTTP/1.1. */
  readonly agent: Agent;
  readonly http2: Http2Connections;
  private readonly target: ConnectionTarget;
  private readonly environment: ConnectionEnvironment;
  private readonly times: ConnectionTimes;
  private readonly ca: Buffer | undefined;
  private readonly addresses: AddressWatch;
  private readonly opening = new Set<Opening>();
  /** What the provider chose last; undefined before its first connection. */
  private chosen: 'h2' | 'http/1.1' | undefined = undefined;
  /** A new connection offers HTTP/2. */
  offersHttp2: boolean;
  private streamsEach = ASSUMED_STREAMS;
  private session: Buffer | undefined = undefined;
  private closed = false;

  constructor(target: ConnectionTarget, times: ConnectionTimes, environment: ConnectionEnvironment) {
    this.target = target;
    this.times = times;
    this.environment = environment;
    this.offersHttp2 = target.http2 && target.protocol === 'https:';
    this.ca = target.ca === undefined ? undefined : readFileSync(target.ca);
    this.http2 = new Http2Connections(environment.wheel, environment.clock, times);
    this.addresses = new AddressWatch(
      target.hostname,
      times.dnsRefreshMs,
      environment.lookup ?? lookupAll,
      () => this.http2.retireIf((address) => this.addresses.isGone(address)),
    );
    this.agent = keepingAgent(
      target.protocol,
      { ca: target.ca },
      {
        isOld: (bornMs, address) =>
          (times.maxAgeMs > 0 && performance.now() - bornMs >= times.maxAgeMs) ||
          this.addresses.isGone(address),
        onUse: (address) => {
          this.addresses.note(address);
          this.addresses.touch(environment.clock());
        },
      },
    );
  }

  /** Applies new times to what is opened and kept from now on. */
  update(times: ConnectionTimes): void {
    Object.assign(this.times, times);
    this.addresses.everyMs = times.dnsRefreshMs;
  }

  /** Calls the waiter once, perhaps at once, unless it leaves before. */
  take(waiter: ConnectionWaiter): void {
    if (!this.offersHttp2) {
      waiter.onHttp1();
      return;
    }
    this.addresses.touch(this.environment.clock());
    const connection = this.http2.size > 0 ? this.http2.withRoom() : undefined;
    if (connection !== undefined) waiter.onHttp2(connection);
    else if (this.chosen === 'http/1.1' && hasIdle(this.agent)) waiter.onHttp1();
    else this.wait(waiter);
  }

  leave(waiter: ConnectionWaiter): void {
    for (const one of this.opening) if (one.waiters.delete(waiter)) this.dropUnwanted(one);
  }

  /** Closes what idles, because the provider has closed one that did. */
  dropIdle(): void {
    closeIdle(this.agent);
  }

  /** Takes no new requests; running ones keep their connections. */
  close(): void {
    this.closed = true;
    this.agent.maxFreeSockets = 0;
    closeIdle(this.agent);
    this.http2.retireIf(() => true);
  }

  /** The provider wants HTTP/1.1 for what it was asked (HTTP_1_1_REQUIRED). */
  useHttp1(): void {
    this.offersHttp2 = false;
    this.chosen = 'http/1.1';
    this.http2.retireIf(() => true);
  }

  private wait(waiter: ConnectionWaiter): void {
    const nowMs = this.environment.clock();
    if (this.chosen !== 'http/1.1')
      for (const one of this.opening) {
        if (nowMs - one.sinceMs > JOIN_MS || one.waiters.size >= this.streamsEach) continue;
        one.waiters.add(waiter);
        return;
      }
    this.open().waiters.add(waiter);
  }

  private open(): Opening {
    const { hostname, port } = this.target;
    const socket = connect({
      host: hostname,
      port,
      ...(isIP(hostname) === 0 ? { servername: hostname } : {}),
      ...(this.ca === undefined ? {} : { ca: this.ca }),
      ...(this.session === undefined ? {} : { session: this.session }),
      ALPNProtocols: ['h2', 'http/1.1'],
    });
    joinRecords(socket);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 1_000);
    const one: Opening = {
      socket,
      sinceMs: this.environment.clock(),
      waiters: new Set(),
      connection: undefined,
    };
    this.opening.add(one);
    socket.on('session', (session) => {
      this.session = session;
    });
    const fail = (error?: NodeJS.ErrnoException): void => this.fail(one, error?.code ?? 'ECONNRESET');
    socket.on('error', fail);
    socket.on('close', fail);
    socket.once('secureConnect', () => {
      this.addresses.note(socket.remoteAddress);
      socket.off('error', fail).off('close', fail);
      if (socket.alpnProtocol === 'h2') this.beginHttp2(one);
      else this.beginHttp1(one);
    });
    return one;
  }

  private fail(one: Opening, code: string): void {
    this.session = undefined;
    if (!this.opening.delete(one)) return;
    for (const waiter of one.waiters) waiter.onNoConnection(code);
  }

  /** Closes a connection for which no request waits any more. */
  private dropUnwanted(one: Opening): void {
    if (one.waiters.size > 0 || one.connection !== undefined) return;
    this.opening.delete(one);
    one.socket.on('error', () => {});
    one.socket.destroy();
  }

  private beginHttp1(one: Opening): void {
    this.chosen = 'http/1.1';
    this.opening.delete(one);
    const [first, ...others] = one.waiters;
    if (first === undefined) {
      one.socket.on('error', () => {});
      one.socket.destroy();
      return;
    }
    stock(this.agent, one.socket);
    first.onHttp1();
    for (const waiter of others) this.take(waiter);
  }

  private beginHttp2(one: Opening): void {
    this.chosen = 'h2';
    one.connection = new Connection(one.socket, this, {
      role: 'client',
      limits: HTTP2_LIMITS,
      clock: this.environment.clock,
    });
  }

  // --- HTTP/2 ----------------------------------------------------------------------------------------------

  onStream(): void {}

  onReady(connection: Connection): void {
    const streams = connection.peer.maxConcurrentStreams;
    // It may allow some later; the requests wait for as long as they wait for a connection.
    if (streams === 0) return;
    this.streamsEach = Math.min(streams, 1_000);
    const one = this.openingOf(connection);
    if (one === undefined) return;
    this.opening.delete(one);
    if (this.closed) {
      this.http2.add(connection);
      this.close();
    } else this.http2.add(connection);
    for (const waiter of one.waiters) {
      if (connection.hasCapacity) waiter.onHttp2(connection);
      else this.take(waiter);
    }
  }

  onPeerSettings(connection: Connection): void {
    if (this.openingOf(connection) !== undefined) this.onReady(connection);
    else this.onCapacity(connection);
  }

  /** Requests that wait for another connection take the room of this one. */
  onCapacity(connection: Connection): void {
    if (this.opening.size === 0) return;
    for (const one of this.opening) {
      for (const waiter of one.waiters) {
        if (!connection.hasCapacity) return;
        one.waiters.delete(waiter);
        waiter.onHttp2(connection);
      }
      this.dropUnwanted(one);
    }
  }

  onGoaway(connection: Connection, code: number): void {
    this.http2.forget(connection);
    if (code === ErrorCode.HTTP_1_1_REQUIRED) this.useHttp1();
    const one = this.openingOf(connection);
    if (one !== undefined)
      connection.close(new ConnectionError('peer', code, 'GOAWAY before the first request'));
  }

  onFaulty(connection: Connection): void {
    this.http2.forget(connection);
    connection.shutdown();
  }

  onForeignServer(connection: Connection): void {
    connection.close(
      new ConnectionError(
        'peer',
        ErrorCode.PROTOCOL_ERROR,
        'the provider chose h2 and speaks something else',
      ),
    );
  }

  onForeignClient(): void {}

  onClosed(connection: Connection, error: ConnectionError): void {
    this.http2.forget(connection);
    const one = this.openingOf(connection);
    if (one !== undefined) this.fail(one, codeOf(error.code, error));
  }

  private openingOf(connection: Connection): Opening | undefined {
    for (const one of this.opening) if (one.connection === connection) return one;
    return undefined;
  }
}

function hasIdle({ freeSockets }: Agent): boolean {
  for (const name in freeSockets) if ((freeSockets[name]?.length ?? 0) > 0) return true;
  return false;
}

function lookupAll(
  hostname: string,
  options: { all: true },
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
): void {
  systemLookup(hostname, options, callback);
}
