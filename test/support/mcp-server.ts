// Official servers of MCP with tools whose effects are counted.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, type EventStore, isInitializeRequest, Server } from '@modelcontextprotocol/server';
import type { Test } from 'tap';

const TOOLS = [
  { name: 'write', annotations: {} },
  { name: 'put', annotations: { idempotentHint: true } },
  { name: 'read', annotations: { readOnlyHint: true } },
  { name: 'fail', annotations: {} },
  { name: 'slow', annotations: {} },
  { name: 'steps', annotations: {} },
  { name: 'ask', annotations: {} },
].map((tool) => ({ ...tool, inputSchema: { type: 'object' as const } }));

/** What the tools of one server have done. */
class Effects {
  /** By the tool and its arguments. */
  readonly counts = new Map<string, number>();
  lists = 0;
  /** Calls of `slow` that were cancelled. */
  cancelled = 0;
  slow = 0;
  finishSlow: () => void = () => {};
  private readonly slowOnes: (() => void)[] = [];
  /** Forgets all sessions. */
  forget: () => void = () => {};

  /** Ends the calls of `slow` that run. */
  finishAll(): void {
    for (const finish of this.slowOnes.splice(0)) finish();
  }

  runsSlow(finish: () => void): void {
    this.slow++;
    this.finishSlow = finish;
    this.slowOnes.push(finish);
  }

  count(tool: string, args: unknown): number {
    const key = `${tool} ${JSON.stringify(args)}`;
    const count = (this.counts.get(key) ?? 0) + 1;
    this.counts.set(key, count);
    return count;
  }

  of(tool: string, args: unknown = {}): number {
    return this.counts.get(`${tool} ${JSON.stringify(args)}`) ?? 0;
  }
}

function countingServer(effects: Effects, { ttlMs = 0, resumable = false }: CountingOptions): Server {
  const server = new Server(
    { name: 'counting', version: '1.0.0' },
    {
      capabilities: { tools: { listChanged: true } },
      ...(ttlMs > 0 ? { cacheHints: { 'tools/list': { ttlMs, cacheScope: 'private' as const } } } : {}),
    },
  );
  server.setRequestHandler('tools/list', () => {
    effects.lists++;
    return { tools: TOOLS };
  });
  server.setRequestHandler('tools/call', async ({ params: { name, arguments: args = {} } }, context) => {
    const count = effects.count(name, args);
    const said = (text: string, isError = false) => ({ content: [{ type: 'text' as const, text }], isError });
    const { mcpReq } = context;
    if (name === 'fail') return said('it failed', true);
    if (name === 'change') await server.sendToolListChanged();
    if (name === 'forget') effects.forget();
    if (name === 'slow') {
      const progressToken = mcpReq._meta?.progressToken;
      if (progressToken !== undefined)
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken, progress: 1, message: 'running' },
        });
      await new Promise<void>((resolve) => {
        effects.runsSlow(resolve);
        const cancelled = () => {
          effects.cancelled++;
          resolve();
        };
        mcpReq.signal.addEventListener('abort', cancelled);
        // Where a stream can be resumed, a lost connection is no cancel.
        if (!resumable) context.http?.req?.signal?.addEventListener('abort', cancelled);
      });
      return said('slow');
    }
    if (name === 'steps') {
      const progressToken = mcpReq._meta?.progressToken;
      for (const progress of [1, 2])
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken: progressToken!, progress, message: `step ${progress}` },
        });
    }
    if (name === 'ask') {
      const answer = await server.elicitInput({
        message: 'your name?',
        requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
      });
      return said(`hello ${String(answer.content?.['name'])}`);
    }
    return said(`${name} ${count}`);
  });
  return server;
}

export interface CountingServer {
  readonly url: string;
  readonly port: number;
  readonly effects: Effects;
  /** The heads of the requests that have come. */
  readonly heads: { readonly method: string; readonly headers: IncomingMessage['headers'] }[];
  /** Announces another list of tools, to whoever listens. */
  changeTools(): void;
  /** Forgets all sessions, as a restart does. */
  restart(): void;
  readonly sessions: number;
}

export interface CountingOptions {
  /** `stateless` serves the revision 2026-07-28, and earlier ones without sessions; `sessions` the earlier ones. */
  readonly kind?: 'stateless' | 'sessions';
  readonly answers?: 'json' | 'sse';
  /** Streams have ids and can be resumed. */
  readonly resumable?: boolean;
  /** Of the list of tools, for the revision 2026-07-28. */
  readonly ttlMs?: number;
  /** Serves a request itself, when it returns true. */
  readonly before?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export async function startCounting(
  t: Pick<Test, 'teardown'>,
  { kind = 'stateless', answers = 'json', resumable = false, ttlMs = 0, before }: CountingOptions = {},
): Promise<CountingServer> {
  const effects = new Effects();
  const heads: CountingServer['heads'] = [];
  effects.forget = () => sessions.clear();
  const sessions = new Map<string, { transport: NodeStreamableHTTPServerTransport; server: Server }>();
  const handler = createMcpHandler(() => countingServer(effects, { ttlMs }), {
    responseMode: answers === 'json' ? 'json' : 'sse',
  });
  const stateless = toNodeHandler(handler);

  const serveSession = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const id = request.headers['mcp-session-id'];
    const known = typeof id === 'string' ? sessions.get(id) : undefined;
    if (known !== undefined) return known.transport.handleRequest(request, response);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body: unknown = chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString());
    if (id !== undefined || !isInitializeRequest(body)) {
      response.writeHead(404, { 'content-type': 'application/json' });
      const error = { code: -32_001, message: 'Session not found' };
      response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
      return;
    }
    const server = countingServer(effects, { resumable });
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      enableJsonResponse: answers === 'json',
      onsessioninitialized: (session) => void sessions.set(session, { transport, server }),
      onsessionclosed: (session) => void sessions.delete(session),
      ...(resumable ? { eventStore: new Events() } : {}),
    });
    await server.connect(transport);
    await transport.handleRequest(request, response, body);
  };

  const listener: RequestListener = (request, response) => {
    heads.push({ method: request.method ?? '', headers: request.headers });
    if (before?.(request, response) === true) return;
    void (kind === 'sessions'
      ? serveSession(request, response)
      : stateless(request as Parameters<typeof stateless>[0], response));
  };
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    port,
    effects,
    heads,
    changeTools: () => {
      for (const one of sessions.values()) void one.server.sendToolListChanged();
      handler.notify.toolsChanged();
    },
    restart: () => sessions.clear(),
    get sessions() {
      return sessions.size;
    },
  };
}

/** Keeps the events of streams, so that they can be resumed. */
class Events implements EventStore {
  private readonly events: {
    id: string;
    stream: string;
    message: Parameters<EventStore['storeEvent']>[1];
  }[] = [];

  async storeEvent(stream: string, message: Parameters<EventStore['storeEvent']>[1]): Promise<string> {
    const id = `${this.events.length + 1}`;
    this.events.push({ id, stream, message });
    return id;
  }

  async getStreamIdForEventId(id: string): Promise<string | undefined> {
    return this.events[Number(id) - 1]?.stream;
  }

  async replayEventsAfter(
    last: string,
    { send }: Parameters<EventStore['replayEventsAfter']>[1],
  ): Promise<string> {
    const { stream = '' } = this.events[Number(last) - 1] ?? {};
    for (const event of this.events.slice(Number(last)))
      if (event.stream === stream && Object.keys(event.message).length > 0)
        await send(event.id, event.message);
    return stream;
  }
}
