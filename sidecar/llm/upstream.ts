/** One provider: where it is, whether it may be asked, and the connections to it. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { UpstreamBreaker } from './breaker.ts';
import { LearnedLimit } from './learned-limit.ts';
import type { LlmEvents } from './observer.ts';
import type { RequestHeaders } from './relay.ts';
import type { Candidate } from './retry.ts';
import type { LlmBreakerSettings, LlmUpstreamSettings } from './settings.ts';

/** More idle connections than this are closed. */
const MAX_IDLE_CONNECTIONS = 256;

export interface UpstreamEnvironment {
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The environment variables, for keys; read for each request, so a changed key needs no restart. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly events: LlmEvents;
}

export class Upstream {
  settings: LlmUpstreamSettings;
  readonly breaker: UpstreamBreaker;
  readonly learned = new LearnedLimit();
  readonly agent: HttpAgent;
  readonly url: URL;
  activeRequests = 0;
  /** Answers of 429 without another in between. */
  throttledInARow = 0;
  cooldownUntilMs = Number.NEGATIVE_INFINITY;
  readonly #environment: UpstreamEnvironment;

  constructor(settings: LlmUpstreamSettings, breaker: LlmBreakerSettings, environment: UpstreamEnvironment) {
    const { events, clock } = environment;
    this.settings = settings;
    this.#environment = environment;
    this.url = new URL(settings.url);
    this.breaker = new UpstreamBreaker(breaker, clock, (from, to) =>
      events.onBreaker(settings.name, from, to),
    );
    const options = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, scheduling: 'lifo' as const };
    this.agent = this.url.protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
  }

  get name(): string {
    return this.settings.name;
  }

  get port(): number {
    return Number(this.url.port || (this.url.protocol === 'https:' ? 443 : 80));
  }

  /** Without the brackets of an IPv6 address. */
  get hostname(): string {
    return this.url.hostname.replace(/^\[(.*)\]$/, '$1');
  }

  /** Its own path before the operation's; both queries. */
  pathOf(operationPath: string): string {
    const [path = '', query] = splitQuery(operationPath);
    const queries = [this.url.search.slice(1), query ?? ''].filter((part) => part !== '');
    return this.url.pathname.replace(/\/$/, '') + path + (queries.length > 0 ? `?${queries.join('&')}` : '');
  }

  /** Puts the credentials of this upstream into the headers, in the place of the caller's. */
  authorize(headers: RequestHeaders): void {
    const { apiKeyEnv } = this.settings;
    const key = apiKeyEnv === undefined ? undefined : this.#environment.variables[apiKeyEnv];
    if (key !== undefined && key !== '') {
      headers['authorization'] = `Bearer ${key}`;
      if (headers['api-key'] !== undefined) headers['api-key'] = key;
    } else if (this.url.username !== '' || this.url.password !== '') {
      const pair = `${decodeURIComponent(this.url.username)}:${decodeURIComponent(this.url.password)}`;
      headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
  }

  /** @param tokens what the request may use */
  candidate(tokens: number, tried: boolean, nowMs: number): Candidate {
    return {
      closed: this.breaker.admits,
      freeAtMs: Math.max(this.cooldownUntilMs, this.learned.freeAtMs(tokens, nowMs)),
      probeAtMs: this.breaker.probeAtMs,
      tried,
    };
  }

  coolDown(forMs: number, nowMs: number): void {
    const untilMs = nowMs + forMs;
    if (untilMs <= this.cooldownUntilMs) return;
    // Told when it begins, not each time it is made longer.
    const begins = this.cooldownUntilMs <= nowMs;
    this.cooldownUntilMs = untilMs;
    if (begins) this.#environment.events.onCooldown(this.name, forMs, 'it answered 429');
  }

  /** No new request will come; those in flight keep their connections. */
  close(): void {
    this.breaker.close();
    this.agent.maxFreeSockets = 0;
    for (const sockets of Object.values(this.agent.freeSockets))
      for (const socket of [...(sockets ?? [])]) socket.destroy();
  }
}

function splitQuery(path: string): [string, string | undefined] {
  const at = path.indexOf('?');
  return at < 0 ? [path, undefined] : [path.slice(0, at), path.slice(at + 1)];
}
