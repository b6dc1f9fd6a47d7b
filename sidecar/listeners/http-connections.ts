/**
 * Bounds the connections of a small HTTP server. It rejects none: when all places are taken, it closes another connection
 * for the new one, so that idle or slow connections can't block a probe, whatever their number.
 *
 *     all taken ──▶ the address with most connections ──▶ its oldest idle one; else its oldest
 *
 * A single address may use all places, and loses them one by one as other addresses connect.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';

/** The part of a connection that {@link HttpPlaces} reads. */
export interface Occupant {
  /** The client's address; '' when it has none, as on a unix socket. */
  readonly address: string;
  /** Requests in progress. */
  active: number;
  /** When it was accepted, in milliseconds. */
  readonly sinceMs: number;
}

/** A younger connection may be about to send a request: it stays open unless there are far too many (`MAX_EXCESS`). */
export const GRACE_MS = 1_000;
/** The factor of the bound up to which a flood of young connections may grow. */
const MAX_EXCESS = 4;

/** Chooses the connection to close. Pure. */
export class HttpPlaces<T extends Occupant> {
  private readonly max: number;
  /** By address, the oldest first. */
  private readonly byAddress = new Map<string, Set<T>>();
  private taken = 0;

  constructor(max: number) {
    this.max = max;
  }

  get size(): number {
    return this.taken;
  }

  enter(newcomer: T): void {
    let own = this.byAddress.get(newcomer.address);
    if (own === undefined) {
      own = new Set();
      this.byAddress.set(newcomer.address, own);
    }
    own.add(newcomer);
    this.taken++;
  }

  leave(occupant: T): void {
    const own = this.byAddress.get(occupant.address);
    if (own === undefined || !own.delete(occupant)) return;
    this.taken--;
    if (own.size === 0) this.byAddress.delete(occupant.address);
  }

  /** Removes and returns the connection to close when there are too many; otherwise undefined. */
  takeOne(nowMs: number): T | undefined {
    if (this.taken <= this.max) return undefined;
    const leaving = this.nextToGo();
    const isYoung = leaving !== undefined && nowMs - leaving.sinceMs < GRACE_MS;
    if (leaving === undefined || (isYoung && this.taken <= MAX_EXCESS * this.max)) return undefined;
    this.leave(leaving);
    return leaving;
  }

  private nextToGo(): T | undefined {
    let most: Set<T> | undefined;
    // Of two addresses with as many connections, the map has the earlier one first.
    for (const own of this.byAddress.values()) if (own.size > (most?.size ?? 0)) most = own;
    // When each address has one connection, choose among all of them, idle ones first.
    const candidates = most?.size === 1 ? this.everybody() : (most ?? []);
    let oldest: T | undefined;
    for (const one of candidates) {
      if (one.active === 0) return one;
      oldest ??= one;
    }
    return oldest;
  }

  private *everybody(): Generator<T> {
    for (const own of this.byAddress.values()) yield* own;
  }
}

class Connection implements Occupant {
  readonly socket: Socket;
  readonly address: string;
  active = 0;
  readonly sinceMs = performance.now();

  constructor(socket: Socket) {
    this.socket = socket;
    this.address = socket.remoteAddress ?? '';
  }
}

/** How often connections are closed while there are too many. */
const CHECK_EVERY_MS = 250;

/** Bounds the connections of an HTTP or HTTPS server. */
export function boundConnections(server: Server, max: number): void {
  const places = new HttpPlaces<Connection>(max);
  let timer: NodeJS.Timeout | undefined;
  const takeSome = (): void => {
    const nowMs = performance.now();
    for (let one = places.takeOne(nowMs); one !== undefined; one = places.takeOne(nowMs))
      one.socket.destroy();
    clearTimeout(timer);
    timer = places.size > max ? setTimeout(takeSome, CHECK_EVERY_MS).unref() : undefined;
  };
  const connections = new Map<string | Socket, Connection>();
  server.on('connection', (socket: Socket) => {
    const connection = new Connection(socket);
    const key = keyOf(socket);
    connections.set(key, connection);
    socket.once('close', () => {
      places.leave(connection);
      if (connections.get(key) === connection) connections.delete(key);
    });
    places.enter(connection);
    if (places.size > max) takeSome();
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const connection = connections.get(keyOf(socket));
    if (connection === undefined) return;
    connection.active++;
    response.once('close', () => connection.active--);
  });
}

/** The two sockets of one TLS connection have the same key; the socket of a unix connection is its own key. */
function keyOf(socket: Socket): string | Socket {
  const { remoteAddress, remotePort } = socket;
  return remotePort === undefined ? socket : `${remoteAddress} ${remotePort}`;
}
