/** The sessions of MCP's revisions before 2026-07-28: each belongs to the caller that has opened it, and ends when nobody uses it. */
import { randomUUID } from 'node:crypto';
import {
  type AuthInfo,
  type Server,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';
import type { Calls } from './running-calls.ts';

interface Session {
  caller: string;
  transport: WebStandardStreamableHTTPServerTransport;
  usedMs: number;
  /** The ids of its calls that run, and of those that arrive. */
  running: Set<string | number>;
  begun: Set<string | number>;
}

export interface SessionLimits {
  most: number;
  idleMs: number;
}

export class Sessions {
  private readonly known = new Map<string, Session>();
  private readonly limits: SessionLimits;
  private readonly calls: Calls;
  private readonly serverFor: (calls: Calls, caller: string) => Server;

  constructor(limits: SessionLimits, calls: Calls, serverFor: (calls: Calls, caller: string) => Server) {
    this.limits = limits;
    this.calls = calls;
    this.serverFor = serverFor;
  }

  /** Answers a request of a session, or one that opens it. The specification's 404 tells a client to open a new one. */
  async serve(request: Request, authInfo: AuthInfo, nowMs: number): Promise<Response> {
    const id = request.headers.get('mcp-session-id');
    const session = id === null ? await this.open(authInfo.clientId, nowMs) : this.known.get(id);
    if (session === undefined || session.caller !== authInfo.clientId)
      return failure(404, -32_001, 'Session not found');
    session.usedMs = nowMs;
    const ids = await callsIn(request);
    // The transport would give the answers of both to the second, and leave the first waiting.
    if (new Set(ids).size < ids.length || ids.some((each) => session.running.has(each)))
      return failure(400, -32_600, 'a call with this id is still running: each call has an id of its own');
    for (const each of ids) session.running.add(each);
    const response = await session.transport.handleRequest(request, { authInfo });
    // Those that were refused have not begun.
    setImmediate(() => {
      for (const each of ids) if (!session.begun.has(each)) session.running.delete(each);
    });
    // Opening it was refused: nobody knows it.
    if (session.transport.sessionId === undefined) void session.transport.close();
    return response;
  }

  close(): void {
    for (const { transport } of this.known.values()) void transport.close();
    this.known.clear();
  }

  private async open(caller: string, nowMs: number): Promise<Session> {
    this.forget(nowMs);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void this.known.set(id, session),
      onsessionclosed: (id) => void this.known.delete(id),
    });
    const session: Session = { caller, transport, usedMs: nowMs, running: new Set(), begun: new Set() };
    const calls: Calls = {
      begin: (id) => {
        const call = this.calls.begin(id);
        session.running.add(id);
        session.begun.add(id);
        const end = () => {
          session.running.delete(id);
          session.begun.delete(id);
          session.usedMs = Date.now();
          call.end();
        };
        return { stopping: call.stopping, end };
      },
    };
    await this.serverFor(calls, caller).connect(transport);
    return session;
  }

  /** Ends sessions that were idle for too long, and the one that was idle for longest where there are too many. */
  private forget(nowMs: number): void {
    let oldest: [string, Session] | undefined;
    for (const entry of this.known) {
      const [id, session] = entry;
      if (session.running.size > 0) continue;
      if (nowMs - session.usedMs > this.limits.idleMs) this.end(id, session);
      else if (oldest === undefined || session.usedMs < oldest[1].usedMs) oldest = entry;
    }
    if (this.known.size >= this.limits.most && oldest !== undefined) this.end(...oldest);
  }

  private end(id: string, { transport }: Session): void {
    this.known.delete(id);
    void transport.close();
  }
}

/** The ids of the calls of tools in a message, or in several of the oldest revisions. */
async function callsIn(request: Request): Promise<(string | number)[]> {
  if (request.method !== 'POST') return [];
  const body: unknown = await request
    .clone()
    .json()
    .catch(() => undefined);
  return [body].flat().flatMap((message) => {
    const { method, id } = (message ?? {}) as { method?: unknown; id?: unknown };
    return method === 'tools/call' && (typeof id === 'string' || typeof id === 'number') ? [id] : [];
  });
}

export function failure(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', error: { code, message }, id: null }, { status });
}
