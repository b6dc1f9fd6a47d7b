/** The connections to a provider: kept while they idle, but not until the provider closes them. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';

/** More idle connections than this are closed. */
const MAX_IDLE_CONNECTIONS = 256;
/** So much earlier than the provider announces: a request that is on its way when it closes is lost. */
const EARLIER_MS = 1_000;
/** Of a provider that announces nothing: what stands in front of it often closes, or forgets, after a minute. */
const UNANNOUNCED_MS = 55_000;
const MAX_IDLE_MS = 600_000;

/** How long each connection may idle by its provider's own words. */
const announced = new WeakMap<Socket, number>();

/** Reads the `keep-alive` of an answer: `timeout=N`, in seconds (draft-thomson-hybi-http-timeout, section 2.1). */
export function readKeepAlive(socket: Socket, keepAlive: string | undefined): void {
  const seconds = keepAlive === undefined ? undefined : /\btimeout\s*=\s*(\d{1,9})/i.exec(keepAlive)?.[1];
  if (seconds !== undefined) announced.set(socket, Number(seconds) * 1000);
}

/** How long a connection may idle here, in milliseconds; 0 when it can't be used again. */
export function idleTimeMs(socket: Socket): number {
  const saidMs = announced.get(socket);
  return saidMs === undefined ? UNANNOUNCED_MS : Math.min(MAX_IDLE_MS, Math.max(0, saidMs - EARLIER_MS));
}

export function keepingAgent(protocol: string): HttpAgent {
  const options = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, scheduling: 'lifo' as const };
  const agent = protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
  // Node's documentation has both as what a subclass may override; there are two classes here.
  const { keepSocketAlive, reuseSocket } = agent as unknown as AgentHooks;
  const destroy = function (this: Socket): void {
    this.destroy();
  };
  const hooks: AgentHooks = {
    keepSocketAlive(socket) {
      const idleMs = idleTimeMs(socket);
      if (idleMs === 0 || !keepSocketAlive.call(agent, socket)) return false;
      socket.setTimeout(idleMs);
      socket.on('timeout', destroy);
      return true;
    },
    reuseSocket(socket, request) {
      socket.off('timeout', destroy);
      socket.setTimeout(0);
      reuseSocket.call(agent, socket, request);
    },
  };
  return Object.assign(agent, hooks);
}

/** Idle connections are closed; those in use go on. */
export function closeIdle(agent: HttpAgent): void {
  for (const sockets of Object.values(agent.freeSockets))
    for (const socket of [...(sockets ?? [])]) socket.destroy();
}

interface AgentHooks {
  keepSocketAlive(socket: Socket): boolean;
  reuseSocket(socket: Socket, request: unknown): void;
}
