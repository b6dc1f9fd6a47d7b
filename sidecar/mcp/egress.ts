/** Receives what agents send to tool servers, finds the server by the path, and holds what requests share. The first connection loads it. */
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/downstream.ts';
import { Reply } from '../llm/caller/reply.ts';
import { complaintAbout, plainHeaders } from '../llm/request/incoming-head.ts';
import { type HttpHeaders, textOf } from '../llm/shared/headers.ts';
import { type KeyFileState, KeyFileWatch } from '../llm/shared/key-file-watch.ts';
import { secretsOf } from '../llm/shared/provider-credentials.ts';
import { ignore, shortLived } from '../llm/shared/short-lived.ts';
import { type McpReason, refuse, refuseFault, requestFailure, sendJson } from './answers.ts';
import { CallBudgets } from './call-budgets.ts';
import { Exchange } from './exchange.ts';
import { idKey, type JsonObject } from './message/json-rpc.ts';
import { type McpRequest, readBody, withMeta } from './message/mcp-request.ts';
import { revisionOf } from './message/revision.ts';
import { Passing } from './passing.ts';
import { Repeats } from './repeats.ts';
import { cacheKey } from './server/list-cache.ts';
import type { McpContext, McpEnvironment } from './server/mcp-context.ts';
import { McpServer } from './server/mcp-server.ts';
import type { McpObserver } from './shared/mcp-observer.ts';
import type { McpSettings } from './shared/mcp-settings.ts';

const METHODS: ReadonlySet<string> = new Set(['POST', 'GET', 'DELETE']);
const PATH = /^(?:https?:\/\/[^/?#]*)?\/mcp\/([^/?#]+)\/?(?:\?.*)?$/is;
const MAX_ID_LENGTH = 256;
/** What the bodies of all requests may take; one that is small passes nevertheless. */
const MAX_BODY_BYTES = 67_108_864;
const SMALL_BODY_BYTES = 16_384;

/** Why a request is turned away, with headers for the answer. */
type Objection = [McpReason, string, Record<string, string>?];

type Running = Pick<Exchange, 'cancel' | 'endForDrain'>;

export class McpEgress {
  private readonly context: McpContext;
  private servers: ReadonlyMap<string, McpServer>;
  private readonly repeats: Repeats;
  private readonly budgets = new CallBudgets();
  private readonly keyWatch = new KeyFileWatch();
  private readonly running = new LinkedList<Listed<Running>>();
  /** Calls by their place, and requests of sessions by their ids. */
  private readonly calls = new Map<string, Exchange>();
  private readonly requests = new Map<string, Exchange>();
  /** Of the bodies of all requests. */
  private bodyBytes = 0;
  private draining = false;

  constructor(settings: McpSettings, environment: McpEnvironment, observer: McpObserver | undefined) {
    this.context = { ...environment, settings, observer };
    this.servers = serversOf(settings, this.context);
    this.repeats = new Repeats(this.context);
  }

  get all(): readonly McpServer[] {
    return [...this.servers.values()];
  }

  /** Looks at the files of the servers' keys. */
  keyFiles(): readonly KeyFileState[] {
    const files = this.all.flatMap(({ name, keyFile }) =>
      keyFile === undefined ? [] : [[`mcp.servers.${name}.api_key_file`, keyFile] as const],
    );
    return this.keyWatch.look(files, this.context.clock(), this.context.events);
  }

  set observer(observer: McpObserver | undefined) {
    this.context.observer = observer;
  }

  /** Requests and streams whose answers are not over. */
  get activeRequests(): number {
    return this.context.stats.activeRequests;
  }

  /** Applies new settings to new requests; an unchanged server keeps its state. */
  apply(settings: McpSettings): void {
    const { servers } = this;
    this.servers = serversOf(settings, this.context, servers, this.context.settings);
    const kept = new Set(this.servers.values());
    for (const server of servers.values()) if (!kept.has(server)) server.close();
    this.context.settings = settings;
  }

  handleRequest(request: DownstreamRequest, response: DownstreamResponse, isLoopback: boolean): void {
    const reply = new Reply(response);
    const server = this.serverOf(request);
    const objection = this.objectionTo(request, server, isLoopback);
    if (objection !== undefined || server === undefined) {
      request.on('error', ignore);
      request.resume();
      refuse(reply, ...(objection ?? this.noRoute));
      return;
    }
    const { stats } = this.context;
    stats.activeRequests++;
    reply.onOver = shortLived(() => {
      reply.onOver = ignore;
      stats.activeRequests--;
    });
    const headers = plainHeaders(request.headers);
    if (request.method === 'POST')
      this.read(request, reply, (body) => this.post(server, headers, body, reply));
    else {
      request.on('error', ignore);
      request.resume();
      this.pass(server, request.method!, headers, undefined, reply);
    }
  }

  private serverOf({ url }: DownstreamRequest): McpServer | undefined {
    const name = PATH.exec(url ?? '')?.[1];
    if (name === undefined) return undefined;
    try {
      return this.servers.get(decodeURIComponent(name));
    } catch {
      return undefined;
    }
  }

  private objectionTo(
    request: DownstreamRequest,
    server: McpServer | undefined,
    isLoopback: boolean,
  ): Objection | undefined {
    const { method = '', url = '', headers } = request;
    const complaint = complaintAbout(headers, url, isLoopback);
    if (complaint !== undefined) return ['forbidden', complaint];
    if (server === undefined) return this.noRoute;
    if (!METHODS.has(method))
      return [
        'method_not_allowed',
        'MCP knows POST, GET and DELETE; use one of them',
        { allow: 'POST, GET, DELETE' },
      ];
    if (this.draining) return ['draining', 'the sidecar is shutting down; try again'];
    const { stats, settings } = this.context;
    if (stats.activeRequests >= settings.limits.maxConcurrentRequests)
      return [
        'overloaded',
        `${stats.activeRequests} requests are running (mcp.limits.max_concurrent_requests); try again later`,
      ];
    if (method === 'POST' && (headers['content-encoding'] ?? 'identity') !== 'identity')
      return ['unsupported_encoding', 'the egress reads messages: send them without a content-encoding'];
    return undefined;
  }

  private get noRoute(): Objection {
    const names = [...this.servers.keys()].slice(0, 20).map((name) => `/mcp/${name}`);
    return [
      'no_route',
      `there is no tool server at this path; there are ${names.join(', ') || 'none'} (mcp.servers)`,
    ];
  }

  /** Reads a body within its bound. */
  private read(request: DownstreamRequest, reply: Reply, then: (body: Buffer) => void): void {
    const { maxRequestBytes } = this.context.settings.limits;
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isOver = false;
    let isWhole = false;
    const length = Number(request.headers['content-length'] ?? -1);
    const { onOver } = reply;
    reply.onOver = shortLived(() => {
      onOver();
      this.bodyBytes -= bytes;
      bytes = 0;
      isOver = true;
    });
    const tooLarge = (): void => {
      isOver = true;
      chunks.length = 0;
      refuse(
        reply,
        'request_too_large',
        `a request may have ${maxRequestBytes} bytes (mcp.limits.max_request_bytes)`,
        {
          connection: 'close',
        },
      );
    };
    const noRoom = (): void => {
      isOver = true;
      chunks.length = 0;
      const message = 'the running requests take all their memory; send smaller ones, or fewer at a time';
      refuse(reply, 'overloaded', message, { connection: 'close' });
    };
    request.on('error', ignore);
    request.on('data', (chunk: Buffer) => {
      if (isOver) return;
      bytes += chunk.length;
      this.bodyBytes += chunk.length;
      if (bytes > maxRequestBytes) tooLarge();
      else if (this.bodyBytes > MAX_BODY_BYTES && bytes > SMALL_BODY_BYTES) noRoom();
      else {
        chunks.push(chunk);
        // The event of the end comes a turn later.
        if (bytes === length) whole();
      }
    });
    const whole = (): void => {
      if (isOver || isWhole || reply.gone) return;
      isWhole = true;
      then(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
    };
    request.on('end', whole);
    if (length > maxRequestBytes) tooLarge();
    else if (request.headers.expect !== undefined) reply.continue();
  }

  private post(server: McpServer, headers: HttpHeaders, body: Buffer, reply: Reply): void {
    const { context } = this;
    const revision = revisionOf(textOf(headers['mcp-protocol-version']));
    const parsed = readBody(body, headers, revision);
    if ('code' in parsed) {
      refuseFault(reply, parsed);
      return;
    }
    const sessionId = (textOf(headers['mcp-session-id']) ?? '').slice(0, MAX_ID_LENGTH);
    this.noteCancelled(server, sessionId, parsed.messages);
    if (parsed.requests.length === 0) {
      this.pass(server, 'POST', headers, body, reply);
      return;
    }
    const named = withMeta(headers, parsed.messages);
    const ownerCall = context.ownerCalls?.find(named);
    const taskId = textOf(headers['x-task-id']) ?? '';
    this.serve(
      server,
      {
        ...parsed,
        headers,
        traced: named,
        revision,
        sessionId,
        body,
        receivedMs: context.clock(),
        ownerCall,
        isLate: ownerCall === undefined && context.ownerCalls?.isOver?.(named) === true,
        taskId: (taskId.length > MAX_ID_LENGTH ? '' : taskId) || (ownerCall?.taskId ?? ''),
      },
      reply,
    );
  }

  private serve(server: McpServer, request: McpRequest, reply: Reply): void {
    const { context, calls, requests } = this;
    if (this.refusesTools(server, request, reply)) return;
    const who = (): string => `${request.sessionId} ${secretsOf(request.headers).join(' ')}`;
    if (this.answersFromCache(server, request, who, reply)) return;
    const call = request.isBatch ? undefined : request.calls[0];
    const place = call === undefined ? undefined : this.repeats.enter(server.name, request, call);
    const running = place === undefined ? undefined : calls.get(place.key);
    if (running !== undefined && call !== undefined) {
      running.join(reply, call.id);
      return;
    }
    const ids =
      request.sessionId === ''
        ? []
        : request.requests.map(({ id }) => requestKey(server, request.sessionId, idKey(id)));
    const exchange: Exchange = new Exchange({
      context,
      server,
      request,
      reply,
      call,
      place,
      who,
      takeBudget: () =>
        request.calls.length === 0 ||
        this.budgets.take(request, request.calls.length, context.settings.limits.callsPerTask),
      onOver: () => {
        this.running.remove(listed);
        if (place !== undefined) calls.delete(place.key);
        for (const id of ids) if (requests.get(id) === exchange) requests.delete(id);
      },
    });
    const listed = new Listed<Running>(exchange);
    this.running.add(listed);
    if (place !== undefined) calls.set(place.key, exchange);
    for (const id of ids) requests.set(id, exchange);
    server.retryBudget.countCall(request.receivedMs);
    reply.onGone = shortLived(() => exchange.cancel());
    exchange.start();
  }

  /** Nothing of a request goes out that calls a tool which the operator has not listed. */
  private refusesTools(server: McpServer, request: McpRequest, reply: Reply): boolean {
    const refused = request.calls.find(({ name }) => !server.allows(name));
    if (refused === undefined) return false;
    const { stats, clock } = this.context;
    const seconds = (clock() - request.receivedMs) / 1000;
    for (const { name } of request.calls)
      stats.ended(server.name, 'tools/call', server.allows(name) ? name : '_REFUSED', 'refused', seconds);
    const answers = request.requests.map(({ id, method, params }): JsonObject => {
      const isRefused = method === 'tools/call' && !server.allows(String(params['name']));
      return isRefused
        ? requestFailure(
            id,
            'tool_not_allowed',
            `Unknown tool: ${String(params['name']).slice(0, 128)} (mcp.servers.${server.name}.tools does not list it)`,
          )
        : requestFailure(
            id,
            'bad_request',
            'the batch calls a tool that is not allowed, so that none of it was sent',
          );
    });
    sendJson(reply, 200, request.isBatch ? answers : answers[0]!, { 'outrigger-reason': 'tool_not_allowed' });
    return true;
  }

  private answersFromCache(server: McpServer, request: McpRequest, who: () => string, reply: Reply): boolean {
    const [asked] = request.requests;
    if (request.isBatch || asked === undefined) return false;
    const key = cacheKey(asked, request.revision.name, who);
    const { stats, clock } = this.context;
    const result = key === undefined ? undefined : server.lists.find(key, clock());
    if (result === undefined) return false;
    stats.cachedLists++;
    stats.ended(server.name, asked.method, undefined, 'replayed', (clock() - request.receivedMs) / 1000);
    sendJson(reply, 200, { jsonrpc: '2.0', id: asked.id, result }, { 'outrigger-cache': 'hit' });
    return true;
  }

  /** The agent wants no answer to a request of its session. */
  private noteCancelled(server: McpServer, sessionId: string, messages: McpRequest['messages']): void {
    if (sessionId === '') return;
    for (const message of messages) {
      if (message.kind !== 'notification' || message.method !== 'notifications/cancelled') continue;
      const { requestId } = message.params;
      if (typeof requestId !== 'string' && typeof requestId !== 'number') continue;
      this.requests.get(requestKey(server, sessionId, idKey(requestId)))?.cancelledByAgent();
    }
  }

  private pass(
    server: McpServer,
    method: string,
    headers: HttpHeaders,
    body: Buffer | undefined,
    reply: Reply,
  ): void {
    const { context } = this;
    const passing = new Passing({
      context,
      server,
      method,
      headers,
      body,
      reply,
      onMessage: ignore,
      onOver: () => this.running.remove(listed),
    });
    const listed = new Listed<Running>(passing);
    this.running.add(listed);
    reply.onGone = shortLived(() => passing.cancel());
    passing.start();
  }

  /** Refuses new requests from now on; running ones go on. */
  drain(): void {
    this.draining = true;
  }

  /** The time to drain is over. */
  endRequests(): void {
    for (const one of takeAll(this.running)) one.endForDrain();
  }

  close(): void {
    this.draining = true;
    this.endRequests();
    for (const server of this.servers.values()) server.close();
  }
}

function requestKey(server: McpServer, sessionId: string, id: string): string {
  return `${server.name} ${sessionId} ${id}`;
}

function serversOf(
  settings: McpSettings,
  context: McpContext,
  before: ReadonlyMap<string, McpServer> = new Map(),
  old: McpSettings | undefined = undefined,
): ReadonlyMap<string, McpServer> {
  const sameBreaker = JSON.stringify(old?.circuitBreaker) === JSON.stringify(settings.circuitBreaker);
  const servers = new Map<string, McpServer>();
  for (const [name, one] of settings.servers) {
    const known = before.get(name);
    const isSame =
      sameBreaker && known !== undefined && JSON.stringify(known.settings) === JSON.stringify(one);
    servers.set(name, isSame ? known : new McpServer(name, one, settings.circuitBreaker, context));
  }
  return servers;
}
