/**
 * The places of a small HTTP server's connections. Nobody is turned away: when all are taken a newcomer gets the place of
 * another one, so that no number of idle or trickling connections keeps a probe from its answer.
 *
 *     all taken ──▶ who holds most? ──▶ its oldest that is idle; else its oldest
 *
 * An address alone has all places, and loses them one by one to others as they come.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';

/** A connection as its place sees it. */
export interface Occupant {
  /** Whose it is; '' where nobody can be told from others. */
  readonly address: string;
  /** Requests that are being answered. */
  active: number;
  /** When it came, in milliseconds. */
  readonly sinceMs: number;
}

/** A connection that is younger may be about to ask: it keeps its place, while there are not far too many. */
export const GRACE_MS = 1_000;
/** So many times the bound are open within that time, under a flood of connections. */
const MAX_EXCESS = 4;

/** Pure. */
export class HttpPlaces<T extends Occupant> {
  readonly #max: number;
  /** By address, the oldest first. */
  readonly #byAddress = new Map<string, Set<T>>();
  #size = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  enter(newcomer: T): void {
    let own = this.#byAddress.get(newcomer.address);
    if (own === undefined) {
      own = new Set();
      this.#byAddress.set(newcomer.address, own);
    }
    own.add(newcomer);
    this.#size++;
  }

  leave(occupant: T): void {
    const own = this.#byAddress.get(occupant.address);
    if (own === undefined || !own.delete(occupant)) return;
    this.#size--;
    if (own.size === 0) this.#byAddress.delete(occupant.address);
  }

  /** Takes a place away where there are too few, and says whose; undefined while there are enough. */
  takeOne(nowMs: number): T | undefined {
    if (this.#size <= this.#max) return undefined;
    const leaving = this.#nextToGo();
    const isYoung = leaving !== undefined && nowMs - leaving.sinceMs < GRACE_MS;
    if (leaving === undefined || (isYoung && this.#size <= MAX_EXCESS * this.#max)) return undefined;
    this.leave(leaving);
    return leaving;
  }

  #nextToGo(): T | undefined {
    let most: Set<T> | undefined;
    // Of two addresses that hold the same the one that came first is first in the map.
    for (const own of this.#byAddress.values()) if (own.size > (most?.size ?? 0)) most = own;
    // Where each has one place, whoever uses none of it goes first.
    const candidates = most?.size === 1 ? this.#everybody() : (most ?? []);
    let oldest: T | undefined;
    for (const one of candidates) {
      if (one.active === 0) return one;
      oldest ??= one;
    }
    return oldest;
  }

  *#everybody(): Generator<T> {
    for (const own of this.#byAddress.values()) yield* own;
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

/** How often places are taken away while there are too few. */
const LOOK_EVERY_MS = 250;

/** Bounds the connections of an HTTP or HTTPS server. */
export function boundConnections(server: Server, max: number): void {
  const places = new HttpPlaces<Connection>(max);
  let timer: NodeJS.Timeout | undefined;
  const takeSome = (): void => {
    const nowMs = performance.now();
    for (let one = places.takeOne(nowMs); one !== undefined; one = places.takeOne(nowMs))
      one.socket.destroy();
    clearTimeout(timer);
    timer = places.size > max ? setTimeout(takeSome, LOOK_EVERY_MS).unref() : undefined;
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

/** The same for the two sockets of one TLS connection; one of a unix socket is its own. */
function keyOf(socket: Socket): string | Socket {
  const { remoteAddress, remotePort } = socket;
  return remotePort === undefined ? socket : `${remoteAddress} ${remotePort}`;
}
