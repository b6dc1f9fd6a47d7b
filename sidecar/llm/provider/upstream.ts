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
  /** The first of the list: the caller's client would call it without the egress. */
  isFirst = false;
  readonly breaker: UpstreamBreaker;
  readonly models = new ModelStates();
  /** How its models work, for operators. */
  readonly records = new ProviderRecords();
  /** The fields that it has refused. */
  readonly refused = new RefusedFields();
  private readonly hostFields: readonly AddedField[];
  readonly agent: Agent;
  readonly url: URL;
  /** The host without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  readonly protocol: 'http:' | 'https:';
  /** The path before the operation's; without a slash at its end. */
  private readonly basePath: string;
  /** The query of the configured URL, without its question mark. */
  private readonly ownQuery: string;
  /** The user and password of the configured URL; undefined without them. */
  private readonly userCredentials: Recipient['own'];
  /** The URL's password and the secrets in its query, in the forms in which a provider may repeat them. */
  private readonly secretsOfUrl: readonly string[];
  activeRequests = 0;
  /** When any answer of the upstream last showed life. */
  aliveMs = Number.NEGATIVE_INFINITY;
  /** How the last request to it failed, for operators and without keys; '' when it succeeded. */
  lastError = '';
  private readonly environment: UpstreamEnvironment;

  constructor(settings: LlmUpstreamSettings, breaker: LlmBreakerSettings, environment: UpstreamEnvironment) {
    const { events, clock } = environment;
    this.settings = settings;
    this.environment = environment;
    // A URL object parses itself anew for each access to a part.
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

  /** Returns the model for this upstream; a configured one replaces only models that generate text. */
  modelFor({ operation, model, understood }: RequestFacts): string {
    return understood && traitsOf(operation).generatesText ? (this.settings.model ?? model) : model;
  }

  /** The fields that may be added to its requests, the preferred ones first. */
  get addable(): readonly AddedField[] {
    return this.settings.adds ?? this.hostFields;
  }

  /** Whether the upstream accepts the field for this model, as far as known. */
  mayAdd(field: AddedField, model: string, nowMs: number): boolean {
    return this.addable.includes(field) && !this.refused.has(model, field, nowMs);
  }

  /** Returns the upstream's own path before the operation's, with both queries. */
  pathOf(operationPath: string): string {
    const [path, query] = splitQuery(operationPath);
    const own = this.ownQuery;
    const both = query === '' || own === '' ? own + query : `${own}&${query}`;
    return this.basePath + path + (both === '' ? '' : `?${both}`);
  }

  /**
   * Returns a redirect's `location` for the caller. A redirect within this upstream leads back through the egress, which
   * adds the key, and without the upstream's own query; the caller follows any other one itself, as without the egress.
   */
  callersLocation(location: string): string {
    // A relative path means the same to the caller and to the provider.
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

  /** Which credentials it receives. */
  get recipient(): Recipient {
    return { isFirst: this.isFirst, own: this.credentials() };
  }

  /** The upstream's own credentials, in every form in which they are sent. */
  get keys(): readonly string[] {
    const own = this.credentials();
    return own === undefined
      ? this.secretsOfUrl
      : [own.authorization.replace(/^\S+ /, ''), ...this.secretsOfUrl];
  }

  private credentials(): Recipient['own'] {
    const { apiKeyEnv } = this.settings;
    // A key from a file or a Kubernetes Secret often ends with a line break, which no header can carry.
    const key = apiKeyEnv === undefined ? undefined : this.environment.variables[apiKeyEnv]?.trim();
    if (key !== undefined && key !== '') return { authorization: `Bearer ${key}`, key };
    return this.userCredentials;
  }

  /**
   * @param state the state of the request's model here; undefined for a model that no request has used
   * @param tokens the most that the request may use
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

  /** Lets one of its models rest. */
  rest(state: ModelState, forMs: number, because: string, nowMs: number): void {
    if (state.rest(forMs, because, nowMs))
      this.environment.events.onCooldown(this.name, state.model, forMs, because);
  }

  /** The provider refuses one of its models until it is paid. */
  refuseForMoney(state: ModelState, code: string, nowMs: number): void {
    if (state.refuseForMoney(code, nowMs))
      this.environment.events.onOutOfCredit(this.name, state.model, code);
  }

  /** Closes idle connections, because the provider has closed one of them. */
  dropIdleConnections(): void {
    closeIdle(this.agent);
  }

  /** Ends the upstream for new requests; running ones keep their connections. */
  close(): void {
    this.breaker.close();
    this.agent.maxFreeSockets = 0;
    closeIdle(this.agent);
  }
}

function secretsOfUrl({ password, search }: URL): string[] {
  const bytes = decoded(password);
  // A provider may repeat the bytes that it received, or their text.
  const secrets = [bytes, Buffer.from(bytes, 'latin1').toString(), ...secretsInQuery(search)];
  return [...new Set(secrets)].filter((secret) => secret !== '');
}

function userCredentials({ username, password }: URL): Recipient['own'] {
  if (username === '' && password === '') return undefined;
  // Each byte is one character.
  const pair = `${decoded(username)}:${decoded(password)}`;
  return { authorization: `Basic ${Buffer.from(pair, 'latin1').toString('base64')}`, key: undefined };
}

/** Returns the path, and the query without its question mark; '' without one. */
function splitQuery(path: string): [string, string] {
  const at = path.indexOf('?');
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)];
}

/** Marks the first upstream, which the caller's client would call without the egress. */
export function inOrder(upstreams: readonly Upstream[]): readonly Upstream[] {
  upstreams.forEach((upstream, index) => {
    upstream.isFirst = index === 0;
  });
  return upstreams;
}

/** Returns the number of requests that wait for their turn at these upstreams. */
export function awaitingOf(upstreams: readonly Upstream[]): number {
  return upstreams.reduce((sum, { records }) => sum + records.awaiting, 0);
}
