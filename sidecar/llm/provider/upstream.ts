/** Keeps one provider: its address and keys, its breaker, its models, and the connections to it. */
import type { Agent } from 'node:http';
import { closeIdle, keepingAgent } from '../relay/kept-sockets.ts';
import { BASE_PATH } from '../request/incoming-head.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import { type AddedField, fieldsOfHost, RefusedFields } from '../shared/addable-fields.ts';
import type { LlmBreakerSettings, LlmUpstreamSettings } from '../shared/llm-settings.ts';
import { traitsOf } from '../shared/operations.ts';
import { decoded, type Recipient, secretsInQuery } from '../shared/provider-credentials.ts';
import type { LlmEvents } from '../shared/request-observer.ts';
import { type ModelState, ModelStates } from './model-state.ts';
import { ProviderRecords } from './provider-record.ts';
import type { Candidate } from './provider-retry.ts';
import { UpstreamBreaker } from './upstream-breaker.ts';

export interface UpstreamEnvironment {
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The environment variables, for keys; read for each request, so a changed key needs no restart. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly events: LlmEvents;
}

export class Upstream {
  settings: LlmUpstreamSettings;
  /** The first of the list: whom the caller's client would ask by itself. */
  isFirst = false;
  readonly breaker: UpstreamBreaker;
  readonly models = new ModelStates();
  /** How its models do, for people. */
  readonly records = new ProviderRecords();
  /** Fields that it has refused. */
  readonly refused = new RefusedFields();
  private readonly hostFields: readonly AddedField[];
  readonly agent: Agent;
  readonly url: URL;
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  readonly protocol: 'http:' | 'https:';
  /** Stands before the operation's path; without a slash at its end. */
  private readonly basePath: string;
  /** Of the configured URL, without its question mark. */
  private readonly ownQuery: string;
  /** From the user and password of the configured URL; undefined without them. */
  private readonly userCredentials: Recipient['own'];
  /** Its password, and what is secret in its query, in the forms in which a provider may repeat them. */
  private readonly secretsOfUrl: readonly string[];
  activeRequests = 0;
  /** When an answer of any of its requests last showed life. */
  aliveMs = Number.NEGATIVE_INFINITY;
  /** How the last request to it failed, for people and without keys; '' when it succeeded. */
  lastError = '';
  private readonly environment: UpstreamEnvironment;

  constructor(settings: LlmUpstreamSettings, breaker: LlmBreakerSettings, environment: UpstreamEnvironment) {
    const { events, clock } = environment;
    this.settings = settings;
    this.environment = environment;
    // A URL is taken apart anew each time that a part of it is asked for.
    const url = new URL(settings.url);
    this.url = url;
    this.hostname = url.hostname.replace(/^\[(.*)\]$/, '$1');
    this.protocol = url.protocol === 'https:' ? 'https:' : 'http:';
    this.port = Number(url.port || (this.protocol === 'https:' ? 443 : 80));
    this.basePath = url.pathname.replace(/\/$/, '');
    this.ownQuery = url.search.slice(1);
    this.userCredentials = userCredentials(url);
    this.secretsOfUrl = secretsOfUrl(url);
    this.hostFields = fieldsOfHost(this.url.hostname);
    this.breaker = new UpstreamBreaker(breaker, clock, (from, to) =>
      events.onBreaker(settings.name, from, to),
    );
    this.agent = keepingAgent(this.protocol);
  }

  get name(): string {
    return this.settings.name;
  }

  /** The model that this upstream is asked for; its own is one that writes text. */
  modelFor({ operation, model, understood }: RequestFacts): string {
    return understood && traitsOf(operation).generatesText ? (this.settings.model ?? model) : model;
  }

  /** Fields that may be added to its requests, the preferred ones first. */
  get addable(): readonly AddedField[] {
    return this.settings.adds ?? this.hostFields;
  }

  /** It takes the field, as far as is known, with this model. */
  mayAdd(field: AddedField, model: string, nowMs: number): boolean {
    return this.addable.includes(field) && !this.refused.has(model, field, nowMs);
  }

  /** Its own path before the operation's; both queries. */
  pathOf(operationPath: string): string {
    const [path, query] = splitQuery(operationPath);
    const own = this.ownQuery;
    const both = query === '' || own === '' ? own + query : `${own}&${query}`;
    return this.basePath + path + (both === '' ? '' : `?${both}`);
  }

  /**
   * A redirect's `location` for the caller. One that stays with this upstream leads back through the egress, where it has its
   * key, and without the upstream's own query; any other is the caller's to follow, as without us.
   */
  callersLocation(location: string): string {
    // A path relative to the caller's own is the same here and there.
    if (!/^(?:https?:)?\//i.test(location) || !URL.canParse(location, this.url.href)) return location;
    const target = new URL(location, this.url);
    const base = this.basePath;
    if (target.origin !== this.url.origin || !target.pathname.startsWith(`${base}/`)) return location;
    const own = this.ownQuery.split('&');
    const query = target.search
      .slice(1)
      .split('&')
      .filter((part) => part !== '' && !own.includes(part));
    const path = BASE_PATH + target.pathname.slice(base.length);
    return path + (query.length > 0 ? `?${query.join('&')}` : '') + target.hash;
  }

  /** Whose credentials it gets. */
  get recipient(): Recipient {
    return { isFirst: this.isFirst, own: this.credentials() };
  }

  /** Its own credentials, in every form in which they are sent. */
  get keys(): readonly string[] {
    const own = this.credentials();
    return own === undefined
      ? this.secretsOfUrl
      : [own.authorization.replace(/^\S+ /, ''), ...this.secretsOfUrl];
  }

  private credentials(): Recipient['own'] {
    const { apiKeyEnv } = this.settings;
    const key = apiKeyEnv === undefined ? undefined : this.environment.variables[apiKeyEnv];
    if (key !== undefined && key !== '') return { authorization: `Bearer ${key}`, key };
    return this.userCredentials;
  }

  /**
   * @param state of the request's model here; undefined while nothing is known of it
   * @param tokens what the request may use
   * @param tried this request was sent here before
   */
  candidate(state: ModelState | undefined, tokens: number, tried: boolean, nowMs: number): Candidate {
    return {
      closed: this.breaker.admits,
      freeAtMs: state?.freeAtMs(tokens, nowMs) ?? Number.NEGATIVE_INFINITY,
      probeAtMs: this.breaker.probeAtMs,
      tried,
      lastResort: state?.isLastResort(nowMs) ?? false,
    };
  }

  /** Leaves one of its models alone. */
  rest(state: ModelState, forMs: number, because: string, nowMs: number): void {
    if (state.rest(forMs, because, nowMs))
      this.environment.events.onCooldown(this.name, state.model, forMs, because);
  }

  /** One of its models is served again only when it is paid for. */
  refuseForMoney(state: ModelState, code: string, nowMs: number): void {
    if (state.refuseForMoney(code, nowMs))
      this.environment.events.onOutOfCredit(this.name, state.model, code);
  }

  /** The provider has closed connections that idle: none of them is used again. */
  dropIdleConnections(): void {
    closeIdle(this.agent);
  }

  /** No new request will come; those in flight keep their connections. */
  close(): void {
    this.breaker.close();
    this.agent.maxFreeSockets = 0;
    closeIdle(this.agent);
  }
}

function secretsOfUrl({ password, search }: URL): string[] {
  const bytes = decoded(password);
  // A provider repeats the bytes that it got, or the text that they are.
  const secrets = [bytes, Buffer.from(bytes, 'latin1').toString(), ...secretsInQuery(search)];
  return [...new Set(secrets)].filter((secret) => secret !== '');
}

function userCredentials({ username, password }: URL): Recipient['own'] {
  if (username === '' && password === '') return undefined;
  // A byte a character.
  const pair = `${decoded(username)}:${decoded(password)}`;
  return { authorization: `Basic ${Buffer.from(pair, 'latin1').toString('base64')}`, key: undefined };
}

/** The path, and the query without its question mark; '' without one. */
function splitQuery(path: string): [string, string] {
  const at = path.indexOf('?');
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)];
}

/** The first of them is the one that the caller's client would ask by itself. */
export function inOrder(upstreams: readonly Upstream[]): readonly Upstream[] {
  upstreams.forEach((upstream, index) => {
    upstream.isFirst = index === 0;
  });
  return upstreams;
}

/** Requests that wait until one of these may be asked. */
export function awaitingOf(upstreams: readonly Upstream[]): number {
  return upstreams.reduce((sum, { records }) => sum + records.awaiting, 0);
}
