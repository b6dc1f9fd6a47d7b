/** Keeps idle connections to a provider, and closes them before the provider does. */
import { type AgentOptions, Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FreshMaterial } from '../../tls/fresh-material.ts';
import { joinRecords } from '../../tls/joined-records.ts';
import type { TlsFiles } from '../../tls/material.ts';

/** More idle connections than this are closed. */
const MAX_IDLE_CONNECTIONS = 256;
/** Connections close so much earlier than the provider announces: a request on its way at that time would be lost. */
const EARLIER_MS = 1_000;
/** How often idle connections are checked: twice in {@link EARLIER_MS}. */
const SWEEP_MS = 500;
/** For a provider that announces nothing: proxies before it often close or forget connections after a minute. */
const UNANNOUNCED_MS = 55_000;
const MAX_IDLE_MS = 600_000;

interface Idling {
  /** How long the connection may idle, by its provider's announcement or without one; 0 when it can't be used again. */
  idleMs: number;
  /** When it must close. */
  untilMs: number;
  readonly bornMs: number;
}

/** Decides which connections get old. */
export interface SocketLife {
  isOld(bornMs: number, address: string | undefined): boolean;
  /** A request has ended on a connection to the address. */
  onUse(address: string | undefined): void;
}

/** A map rather than properties of the sockets: two more properties would slow every access to a socket. */
const idling = new WeakMap<Duplex, Idling>();

function idlingOf(socket: Duplex): Idling {
  let one = idling.get(socket);
  if (one === undefined) {
    one = { idleMs: UNANNOUNCED_MS, untilMs: 0, bornMs: performance.now() };
    idling.set(socket, one);
  }
  return one;
}

/**
 * Reads the `keep-alive` of an answer: `timeout=N`, in seconds (draft-thomson-hybi-http-timeout, section 2.1).
 *
 * @param rawHeaders names and values as they came: http2-proxy removes this field from the others
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

const AGELESS: SocketLife = { isOld: () => false, onUse() {} };

/**
 * @param protocol `http:` or `https:`
 * @param files PEM: the authorities that the server's certificate may have (undefined is those of the system), and our
 *   certificate, for a server that asks for one
 */
export function keepingAgent(
  protocol: string,
  files: Partial<TlsFiles> = {},
  life: SocketLife = AGELESS,
): HttpAgent {
  if (protocol !== 'https:') return new KeepingHttpAgent(OPTIONS, life);
  return new KeepingHttpsAgent(new FreshMaterial(files), life);
}

/** Gives the agent a connection for the request that begins next. */
export function stock(agent: HttpAgent, socket: Socket): void {
  if (agent instanceof KeepingHttpsAgent) agent.ready.push(socket);
}

// Node documents that a subclass may override this method; its types lack that it returns a boolean.
class KeepingHttpAgent extends HttpAgent {
  private readonly sweeper: Sweeper;

  constructor(options: AgentOptions, life: SocketLife) {
    super(options);
    this.sweeper = new Sweeper(this, life);
  }

  override createConnection(...given: Parameters<HttpAgent['createConnection']>) {
    return noted(super.createConnection(...given));
  }

  override keepSocketAlive(socket: Duplex): boolean {
    return this.sweeper.keeps(socket) && (super.keepSocketAlive(socket) as unknown) === true;
  }
}

class KeepingHttpsAgent extends HttpsAgent {
  private readonly sweeper: Sweeper;
  /** Connections that others have opened for it. */
  readonly ready: Socket[] = [];

  private readonly material: FreshMaterial;

  constructor(material: FreshMaterial, life: SocketLife) {
    // A resumed session would show the server the certificate of the first one.
    super(material.current.cert === undefined ? OPTIONS : { ...OPTIONS, maxCachedSessions: 0 });
    this.material = material;
    this.sweeper = new Sweeper(this, life);
  }

  override createConnection(...[options, onReady]: Parameters<HttpsAgent['createConnection']>) {
    const ready = this.ready.pop();
    if (ready !== undefined) return noted(ready);
    const { ca, cert, key } = this.material.current;
    const own = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
    const socket = super.createConnection({ ...options, ...own }, onReady);
    if (socket instanceof Socket) joinRecords(socket);
    return noted(socket);
  }

  override keepSocketAlive(socket: Duplex): boolean {
    return this.sweeper.keeps(socket) && (super.keepSocketAlive(socket) as unknown) === true;
  }
}

/** Its life begins now. */
function noted<S extends Duplex | null | undefined>(socket: S): S {
  if (socket !== null && socket !== undefined) idlingOf(socket);
  return socket;
}

/** Checks an agent's idle connections while it has any. */
class Sweeper {
  private readonly agent: HttpAgent;
  private readonly life: SocketLife;
  private sweeps = false;

  constructor(agent: HttpAgent, life: SocketLife) {
    this.agent = agent;
    this.life = life;
  }

  /** Whether the connection may idle at all. */
  keeps(socket: Duplex): boolean {
    const one = idlingOf(socket);
    const address = socket instanceof Socket ? socket.remoteAddress : undefined;
    this.life.onUse(address);
    if (one.idleMs === 0 || this.life.isOld(one.bornMs, address)) return false;
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

/** Closes the connections that have idled for too long; returns whether others still idle. */
function closeOverdue(agent: HttpAgent, nowMs: number): boolean {
  let idle = false;
  for (const socket of idleSockets(agent)) {
    if (nowMs >= idlingOf(socket).untilMs) socket.destroy();
    else idle = true;
  }
  return idle;
}

/** Closes idle connections; those in use go on. */
export function closeIdle(agent: HttpAgent): void {
  for (const socket of idleSockets(agent)) socket.destroy();
}

/** Returns a copy, because the agent removes a connection that is destroyed. */
function idleSockets(agent: HttpAgent): Socket[] {
  return Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? []);
}
