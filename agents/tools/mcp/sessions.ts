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
  /** Its calls that run. */
  running: number;
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
    const response = await session.transport.handleRequest(request, { authInfo });
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
    const session: Session = { caller, transport, usedMs: nowMs, running: 0 };
    const calls: Calls = {
      begin: () => {
        const call = this.calls.begin();
        session.running++;
        const end = () => {
          session.running--;
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
      if (session.running > 0) continue;
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

export function failure(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', error: { code, message }, id: null }, { status });
}
