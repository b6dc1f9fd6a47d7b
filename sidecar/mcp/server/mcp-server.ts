/** Keeps one tool server: its address and keys, its breaker, what it says of its tools, and the connections to it. */
import type { Agent, IncomingHttpHeaders } from 'node:http';
import { HOP_BY_HOP, withoutNamed } from '../../llm/provider/hop-by-hop.ts';
import { UpstreamBreaker } from '../../llm/provider/upstream-breaker.ts';
import { closeIdle, keepingAgent } from '../../llm/relay/kept-sockets.ts';
import type { HttpHeaders } from '../../llm/shared/headers.ts';
import { KeyFile } from '../../llm/shared/key-file.ts';
import { matcherOf } from '../../llm/shared/model-pattern.ts';
import { decoded, headersFor, type OwnCredentials } from '../../llm/shared/provider-credentials.ts';
import { RetryBudget } from '../../policy/retry-budget.ts';
import type { McpEvents } from '../shared/mcp-observer.ts';
import type { McpServerSettings, McpSettings } from '../shared/mcp-settings.ts';
import type { AttemptTarget } from './attempt.ts';
import { ListCache } from './list-cache.ts';
import { ToolHints } from './tool-hints.ts';

/** Retries on top of requests, as a cluster has them by default. */
const RETRY_BUDGET = { percent: 20, minConcurrent: 3 };

export interface ServerEnvironment {
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  /** The environment variables, for keys. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly events: McpEvents;
}

export class McpServer implements AttemptTarget {
  readonly name: string;
  readonly settings: McpServerSettings;
  readonly breaker: UpstreamBreaker;
  readonly hints = new ToolHints();
  readonly lists = new ListCache();
  readonly retryBudget = new RetryBudget(RETRY_BUDGET);
  readonly agent: Agent;
  readonly protocol: 'http:' | 'https:';
  readonly hostname: string;
  readonly port: number;
  /** With its query. A redirect within the server changes it. */
  path: string;
  activeRequests = 0;
  /** Why the last request to it failed, for operators; '' when it succeeded. */
  lastError = '';
  /** The latest attempts that failed, without a success among them. */
  failedInARow = 0;
  failedAtMs = Number.NEGATIVE_INFINITY;
  private readonly environment: ServerEnvironment;
  private readonly matchers: readonly ((tool: string) => boolean)[];
  readonly keyFile: KeyFile | undefined;
  private readonly origin: string;
  /** The user and password of the configured URL; undefined without them. */
  private readonly userCredentials: OwnCredentials | undefined;

  constructor(
    name: string,
    settings: McpServerSettings,
    breaker: McpSettings['circuitBreaker'],
    environment: ServerEnvironment,
  ) {
    this.name = name;
    this.settings = settings;
    this.environment = environment;
    const url = new URL(settings.url);
    this.origin = url.origin;
    this.userCredentials = userCredentials(url);
    this.protocol = url.protocol === 'https:' ? 'https:' : 'http:';
    this.hostname = url.hostname.replace(/^\[(.*)\]$/, '$1');
    this.port = Number(url.port || (this.protocol === 'https:' ? 443 : 80));
    this.path = url.pathname + url.search;
    this.matchers = settings.tools.map(matcherOf);
    this.keyFile = settings.apiKeyFile === undefined ? undefined : new KeyFile(settings.apiKeyFile);
    this.breaker = new UpstreamBreaker(breaker, environment.clock, (from, to) =>
      environment.events.onMcpBreaker(name, from, to),
    );
    const { ca, cert, key } = settings;
    this.agent = keepingAgent(this.protocol, { ca, cert, key });
  }

  /** `host:port`. */
  get address(): string {
    return `${this.hostname.includes(':') ? `[${this.hostname}]` : this.hostname}:${this.port}`;
  }

  failed(why: string): void {
    this.lastError = why;
    this.failedInARow++;
    this.failedAtMs = this.environment.clock();
  }

  succeeded(): void {
    this.lastError = '';
    this.failedInARow = 0;
  }

  allows(tool: string): boolean {
    return this.matchers.some((matches) => matches(tool));
  }

  get allowsAll(): boolean {
    return this.settings.tools.includes('*');
  }

  /** Whether a call of the tool may be made twice: the server says so, and the operator believes it. */
  mayRepeat(tool: string): boolean {
    return this.settings.trustHints && this.hints.isRepeatable(tool);
  }

  /** A notification of the server has passed. */
  notified(method: string): void {
    if (this.lists.changed(method) && method === 'notifications/tools/list_changed') this.hints.forget();
  }

  /** Returns the headers of a request to the server. */
  headersOf(callers: HttpHeaders): HttpHeaders {
    const sent = headersFor(endToEnd(withoutNamed(callers)), {
      isFirst: true,
      own: this.credentials(),
      authorize: (headers, _, key) => {
        headers['authorization'] = `Bearer ${key}`;
      },
    });
    // The egress reads answers.
    sent['accept-encoding'] = 'identity';
    const { headers } = this.settings;
    for (const name in headers) sent[name] = headers[name]!;
    return sent;
  }

  private credentials(): OwnCredentials | undefined {
    const { apiKeyEnv } = this.settings;
    const { variables, clock } = this.environment;
    // A key from a Kubernetes Secret often ends with a line break, which no header can carry.
    const named = apiKeyEnv === undefined ? undefined : variables[apiKeyEnv]?.trim();
    const key = (this.keyFile?.key(clock()) ?? named) || undefined;
    return key === undefined ? this.userCredentials : { key };
  }

  /** Takes a redirect within the server (many redirect `/mcp` to `/mcp/`). Returns whether to send the request there. */
  follows(location: string | undefined): boolean {
    if (location === undefined || !URL.canParse(location, this.origin + this.path)) return false;
    const to = new URL(location, this.origin + this.path);
    const path = to.pathname + to.search;
    if (to.origin !== this.origin || path === this.path) return false;
    this.path = path;
    return true;
  }

  /** Ends the server for new requests; running ones keep their connections. */
  close(): void {
    this.breaker.close();
    this.agent.maxFreeSockets = 0;
    closeIdle(this.agent);
  }
}

/** Returns the fields that do not belong to one connection. */
function endToEnd(headers: HttpHeaders): HttpHeaders {
  const kept: HttpHeaders = {};
  for (const name in headers) if (!HOP_BY_HOP.has(name)) kept[name] = headers[name]!;
  return kept;
}

/** Returns the fields of an answer that go to the agent; those with our prefix are ours alone. */
export function answerHeaders(headers: IncomingHttpHeaders): HttpHeaders {
  const kept: HttpHeaders = {};
  for (const name in headers) {
    const value = headers[name];
    const isOurs = name.startsWith('outrigger-') || name === 'content-length';
    if (value !== undefined && !HOP_BY_HOP.has(name) && !isOurs) kept[name] = value;
  }
  return kept;
}

function userCredentials({ username, password }: URL): OwnCredentials | undefined {
  if (username === '' && password === '') return undefined;
  const pair = Buffer.from(`${decoded(username)}:${decoded(password)}`, 'latin1');
  return { authorization: `Basic ${pair.toString('base64')}` };
}
