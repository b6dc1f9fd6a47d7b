/** Keeps connections to a provider while they idle, but not until the provider closes them. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { joinRecords } from '../../tls/joined-records.ts';

/** More idle connections than this are closed. */
const MAX_IDLE_CONNECTIONS = 256;
/** So much earlier than the provider announces: a request that is on its way when it closes is lost. */
const EARLIER_MS = 1_000;
/** How often idle connections are looked through: half of the time by which they are to be closed earlier. */
const SWEEP_MS = 500;
/** Of a provider that announces nothing: what stands in front of it often closes, or forgets, after a minute. */
const UNANNOUNCED_MS = 55_000;
const MAX_IDLE_MS = 600_000;

interface Idling {
  /** How long it may, by its provider's own words or without them; 0 when it can't be used again. */
  idleMs: number;
  /** When it is to be closed. */
  untilMs: number;
}

/** Not on the connections themselves: with two properties more every access to one takes longer. */
const idling = new WeakMap<Duplex, Idling>();

function idlingOf(socket: Duplex): Idling {
  let one = idling.get(socket);
  if (one === undefined) {
    one = { idleMs: UNANNOUNCED_MS, untilMs: 0 };
    idling.set(socket, one);
  }
  return one;
}

/**
 * Reads the `keep-alive` of an answer: `timeout=N`, in seconds (draft-thomson-hybi-http-timeout, section 2.1).
 *
 * @param rawHeaders names and values as they came: http2-proxy takes this one out of the others
 */
export function readKeepAlive(socket: Duplex, rawHeaders: readonly string[]): void {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length !== 'keep-alive'.length || name.toLowerCase() !== 'keep-alive') continue;
    const seconds = /\btimeout\s*=\s*(\d{1,9})/i.exec(rawHeaders[at + 1]!)?.[1];
    if (seconds !== undefined)
      idlingOf(socket).idleMs = Math.min(MAX_IDLE_MS, Math.max(0, Number(seconds) * 1000 - EARLIER_MS));
  }
}

const OPTIONS = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, scheduling: 'lifo' } as const;

/** @param protocol `http:` or `https:` */
export function keepingAgent(protocol: string): HttpAgent {
  return protocol === 'https:' ? new KeepingHttpsAgent(OPTIONS) : new KeepingHttpAgent(OPTIONS);
}

// Node's documentation has this method as one that a subclass may override; its types don't know that it says yes or no.
class KeepingHttpAgent extends HttpAgent {
  private readonly sweeper = new Sweeper(this);

  override keepSocketAlive(socket: Duplex): boolean {
    return this.sweeper.keeps(socket) && (super.keepSocketAlive(socket) as unknown) === true;
  }
}

class KeepingHttpsAgent extends HttpsAgent {
  private readonly sweeper = new Sweeper(this);

  override createConnection(...given: Parameters<HttpsAgent['createConnection']>) {
    const socket = super.createConnection(...given);
    if (socket instanceof Socket) joinRecords(socket);
    return socket;
  }

  override keepSocketAlive(socket: Duplex): boolean {
    return this.sweeper.keeps(socket) && (super.keepSocketAlive(socket) as unknown) === true;
  }
}

/** Looks through an agent's idle connections while it has any. */
class Sweeper {
  private readonly agent: HttpAgent;
  private sweeps = false;

  constructor(agent: HttpAgent) {
    this.agent = agent;
  }

  /** May the connection idle at all? */
  keeps(socket: Duplex): boolean {
    const one = idlingOf(socket);
    if (one.idleMs === 0) return false;
    one.untilMs = performance.now() + one.idleMs;
    if (!this.sweeps) this.sweepSoon();
    return true;
  }

  private sweepSoon(): void {
    this.sweeps = true;
    setTimeout(() => {
      this.sweeps = closeOverdue(this.agent, performance.now());
      if (this.sweeps) this.sweepSoon();
    }, SWEEP_MS).unref();
  }
}

/** Closes the connections that have idled for too long; true when others still idle. */
function closeOverdue(agent: HttpAgent, nowMs: number): boolean {
  let idle = false;
  for (const socket of idleSockets(agent)) {
    if (nowMs >= idlingOf(socket).untilMs) socket.destroy();
    else idle = true;
  }
  return idle;
}

/** Idle connections are closed; those in use go on. */
export function closeIdle(agent: HttpAgent): void {
  for (const socket of idleSockets(agent)) socket.destroy();
}

/** A copy: a connection that is destroyed is taken out. */
function idleSockets(agent: HttpAgent): Socket[] {
  return Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []);
}
