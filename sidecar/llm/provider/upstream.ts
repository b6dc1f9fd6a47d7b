/** Keeps one provider: its address and keys, its breaker, its models, and the connections to it. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Asked } from '../kinds/asked.ts';
import { withoutVersion } from '../kinds/azure.ts';
import { lackedAt } from '../kinds/compatible.ts';
import { ownApis, providerKind } from '../kinds/kinds.ts';
import type { ProviderKind } from '../kinds/traits.ts';
import type { Lookup } from '../relay/address-watch.ts';
import { type ConnectionTimes, ProviderConnections } from '../relay/provider-connections.ts';
import { type AddedField, fieldsOfHost, RefusedFields } from '../shared/addable-fields.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { KeyFile } from '../shared/key-file.ts';
import type { LlmBreakerSettings, LlmUpstreamSettings } from '../shared/llm-settings.ts';
import type { ApiName } from '../shared/operation.ts';
import {
  decoded,
  isSecretHeader,
  type OwnCredentials,
  type Recipient,
  secretsInQuery,
} from '../shared/provider-credentials.ts';
import type { LlmEvents } from '../shared/request-observer.ts';
import { type ModelState, ModelStates } from './model-state.ts';
import { ProviderRecords } from './provider-record.ts';
import type { Candidate } from './provider-retry.ts';
import { UpstreamBreaker } from './upstream-breaker.ts';

export interface UpstreamEnvironment {
  readonly wheel: TimerWheel;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The environment variables, for keys; read for each request, so a changed key needs no restart. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly events: LlmEvents;
  /** Finds the addresses of a name; undefined is the system's way. */
  readonly lookup?: Lookup | undefined;
}

export class Upstream {
  settings: LlmUpstreamSettings;
  readonly kind: ProviderKind;
  /** The APIs for which it is in line. */
  readonly apis: ReadonlySet<ApiName>;
  /** By {@link homeName}, the clients that would call it without the egress. */
  firstFor: ReadonlySet<string> = new Set();
  readonly breaker: UpstreamBreaker;
  readonly models = new ModelStates();
  /** How its models work, for operators. */
  readonly records = new ProviderRecords();
  /** The fields that it has refused. */
  readonly refused = new RefusedFields();
  private readonly hostFields: readonly AddedField[];
  readonly connections: ProviderConnections;
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
  private readonly userCredentials: OwnCredentials | undefined;
  readonly keyFile: KeyFile | undefined;
  /** The URL's password and the secrets in its query, in the forms in which a provider may repeat them. */
  private readonly secretsOfUrl: readonly string[];
  activeRequests = 0;
  /** When any answer of the upstream last showed life. */
  aliveMs = Number.NEGATIVE_INFINITY;
  /** How the last request to it failed, for operators and without keys; '' when it succeeded. */
  lastError = '';
  private readonly environment: UpstreamEnvironment;

  constructor(
    settings: LlmUpstreamSettings,
    breaker: LlmBreakerSettings,
    times: ConnectionTimes,
    environment: UpstreamEnvironment,
  ) {
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
    this.kind = providerKind(settings.kind, url);
    this.apis = ownApis(this.kind, settings.kind !== undefined);
    this.keyFile = settings.apiKeyFile === undefined ? undefined : new KeyFile(settings.apiKeyFile);
    this.breaker = new UpstreamBreaker(breaker, clock, (from, to) =>
      events.onBreaker(settings.name, from, to),
    );
    const { protocol, hostname, port } = this;
    const { ca, http2 } = settings;
    this.connections = new ProviderConnections({ protocol, hostname, port, ca, http2 }, times, environment);
  }

  get name(): string {
    return this.settings.name;
  }

  /** Whether new settings leave the place where it connects to, and how it is asked there. */
  isAt({ url, kind, apiKeyFile, ca, http2 }: LlmUpstreamSettings): boolean {
    const own = this.settings;
    const isSame = own.url === url && own.kind === kind && own.apiKeyFile === apiKeyFile;
    return isSame && own.ca === ca && own.http2 === http2;
  }

  /** What it can't take: operations, and fields of requests. */
  get lacks(): readonly string[] {
    return this.settings.lacks ?? lackedAt(this.url.hostname);
  }

  /** The fields that may be added to its requests, the preferred ones first. */
  get addable(): readonly AddedField[] {
    return this.settings.adds ?? this.hostFields;
  }

  /** Whether the upstream accepts the field for this model, as far as known. */
  mayAdd(field: AddedField, model: string, nowMs: number): boolean {
    return this.addable.includes(field) && !this.refused.has(model, field, nowMs);
  }

  /**
   * Returns the upstream's own path of a request, with both queries.
   *
   * @param model the model for this upstream; '' leaves the one that the path names
   */
  pathOf({ api, base, path: callers }: Pick<Asked, 'api' | 'base' | 'path'>, model: string): string {
    const plain = this.kind.name === 'azure' ? callers : withoutVersion(callers);
    const version = this.settings.apiVersion ?? '';
    const [path, query] = splitQuery(
      this.kind.pathOf(this.basePath, { api, base, path: plain, model }, version),
    );
    const own = this.ownQuery;
    const both = query === '' || own === '' ? own + query : `${own}&${query}`;
    return path + (both === '' ? '' : `?${both}`);
  }

  /** Whether its path names the model, so that the body keeps its own. */
  isModelInPath(asked: Pick<Asked, 'api' | 'base'>): boolean {
    return this.kind.isModelInPath(this.basePath, asked, this.settings.apiVersion ?? '');
  }

  /**
   * Returns a redirect's `location` for the caller. A redirect within this upstream leads back through the egress, which
   * adds the key, and without the upstream's own query; the caller follows any other one itself, as without the egress.
   */
  callersLocation(location: string, asked: Pick<Asked, 'api' | 'base'>): string {
    // A relative path means the same to the caller and to the provider.
    if (!/^(?:https?:)?\//i.test(location) || !URL.canParse(location, this.url.href)) return location;
    const target = new URL(location, this.url);
    const base = splitQuery(this.pathOf({ ...asked, path: '' }, ''))[0];
    if (target.origin !== this.url.origin || !target.pathname.startsWith(`${base}/`)) return location;
    const own = this.ownQuery.split('&');
    const query = target.search
      .slice(1)
      .split('&')
      .filter((part) => part !== '' && !own.includes(part));
    const path = asked.base + target.pathname.slice(base.length);
    return path + (query.length > 0 ? `?${query.join('&')}` : '') + target.hash;
  }

  /** Which credentials it receives. */
  recipient(asked: Home & Pick<Asked, 'isOfService'>): Recipient {
    const { kind } = this;
    const { api } = asked;
    return {
      isFirst: asked.isOfService !== true && this.firstFor.has(homeName(asked)),
      own: this.credentials(),
      authorize: (sent, callers, key) => kind.authorize(sent, callers, key, api),
    };
  }

  /** Adds the configured headers to those of a request. */
  addHeaders(sent: HttpHeaders): void {
    const { headers } = this.settings;
    for (const name in headers) sent[name] = headers[name]!;
  }

  /** The upstream's own credentials, in every form in which they are sent. */
  get keys(): readonly string[] {
    const own = this.credentials();
    const secrets = [...this.secretsOfUrl];
    const { headers } = this.settings;
    for (const name in headers) if (isSecretHeader(name)) secrets.push(headers[name]!);
    if (own === undefined) return secrets;
    return ['key' in own ? own.key : own.authorization.replace(/^\S+ /, ''), ...secrets];
  }

  private credentials(): OwnCredentials | undefined {
    const { apiKeyEnv } = this.settings;
    // A key from a file or a Kubernetes Secret often ends with a line break, which no header can carry.
    const named = apiKeyEnv === undefined ? undefined : this.environment.variables[apiKeyEnv]?.trim();
    const key = this.keyFile?.key(this.environment.clock()) ?? named;
    return key !== undefined && key !== '' ? { key } : this.userCredentials;
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
    this.connections.dropIdle();
  }

  /** Ends the upstream for new requests; running ones keep their connections. */
  close(): void {
    this.breaker.close();
    this.connections.close();
  }
}

function secretsOfUrl({ password, search }: URL): string[] {
  const bytes = decoded(password);
  // A provider may repeat the bytes that it received, or their text.
  const secrets = [bytes, Buffer.from(bytes, 'latin1').toString(), ...secretsInQuery(search)];
  return [...new Set(secrets)].filter((secret) => secret !== '');
}

function userCredentials({ username, password }: URL): OwnCredentials | undefined {
  if (username === '' && password === '') return undefined;
  // Each byte is one character.
  const pair = `${decoded(username)}:${decoded(password)}`;
  return { authorization: `Basic ${Buffer.from(pair, 'latin1').toString('base64')}` };
}

/** Returns the path, and the query without its question mark; '' without one. */
function splitQuery(path: string): [string, string] {
  const at = path.indexOf('?');
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)];
}

/** Marks the upstreams that the callers' clients would call without the egress. */
export function inOrder(upstreams: readonly Upstream[]): readonly Upstream[] {
  const first = HOMES.map((home) => [home, speakersOf(home, upstreams)[0]] as const);
  for (const upstream of upstreams)
    upstream.firstFor = new Set(first.filter(([, one]) => one === upstream).map(([home]) => homeName(home)));
  return upstreams;
}

/** An API, and the kind of upstream that a client of it is made for. */
export type Home = Pick<Asked, 'api' | 'home'>;

export const HOMES: readonly Home[] = [
  { api: 'openai', home: 'openai' },
  { api: 'openai', home: 'azure' },
  { api: 'openai', home: 'gemini' },
  { api: 'anthropic', home: 'anthropic' },
  { api: 'gemini', home: 'gemini' },
];

export function homeName({ api, home }: Home): string {
  return api === home ? api : `${home}/${api}`;
}

/**
 * Returns the upstreams for a client, in order: those of the kind that it is made for, where that kind has paths of its own;
 * else those whose own API it speaks; else those that also speak it.
 */
export function speakersOf({ api, home }: Home, upstreams: readonly Upstream[]): readonly Upstream[] {
  if (home !== api) {
    const own = upstreams.filter(({ kind }) => kind.name === home);
    if (own.length > 0) return own;
  }
  const native = upstreams.filter(({ apis }) => apis.has(api));
  return native.length > 0 ? native : upstreams.filter(({ kind }) => kind.alsoSpeaks.has(api));
}

/** Returns the number of requests that wait for their turn at these upstreams. */
export function awaitingOf(upstreams: readonly Upstream[]): number {
  return upstreams.reduce((sum, { records }) => sum + records.awaiting, 0);
}
