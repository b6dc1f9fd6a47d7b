/** The MCP listener: streamable HTTP at /mcp, for callers with a key or a certificate. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { originValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { type AuthInfo, createMcpHandler, isLegacyRequest } from '@modelcontextprotocol/server';
import type { Logger } from 'pino';
import type { Environment } from '../../process/environment.ts';
import { loggedError } from '../../process/redact.ts';
import type { Runner } from '../run/runner.ts';
import type { McpSettings } from '../settings/mcp-settings.ts';
import { createAccess } from './access.ts';
import { certificates } from './certificates.ts';
import { RunningCalls } from './running-calls.ts';
import { failure, Sessions } from './sessions.ts';
import { toolServer } from './tool-server.ts';

export interface McpListener {
  readonly address: string;
  /** Takes no more calls; resolves true if all that ran had ended within the limit. */
  stop(limitMs: number): Promise<boolean>;
}

/** What one process keeps open for clients. */
const sessionLimits = { most: 1000, idleMs: 3_600_000 };
const maxConnections = 1000;
const maxSubscriptions = 100;
/** Arguments have 2 MiB at most; a message escapes them. */
const maxRequestBodySize = 8 * 1024 * 1024;
/** The time for ended calls to send their last message. */
const farewellMs = 500;

/** @throws SettingError where it would be open to everyone; Error if the address can't be bound */
export async function startMcpListener(
  settings: McpSettings & { listen: string },
  environment: Environment,
  runner: Runner,
  log: Logger,
): Promise<McpListener> {
  const access = createAccess(settings, environment);
  const calls = new RunningCalls();
  // A call has ended before its answer is sent.
  const answers = new RunningCalls();
  const sessions = new Sessions(sessionLimits, calls, (own, caller) => toolServer(runner, own, caller));
  const onerror = (error: Error) => log.debug({ err: loggedError(error, []) }, 'a request by MCP failed');
  const handler = createMcpHandler(({ authInfo }) => toolServer(runner, calls, authInfo!.clientId), {
    maxRequestBodySize,
    maxSubscriptions,
    onerror,
  });
  const serve = toNodeHandler(
    {
      async fetch(request, options) {
        const authInfo = options!.authInfo!;
        if (runner.problem !== undefined) return failure(503, -32_603, runner.problem);
        if (await hasSession(request)) return sessions.serve(request, authInfo, Date.now());
        return handler.fetch(request, options);
      },
    },
    { maxRequestBodySize, onerror },
  );
  const isOwnOrigin = originValidation(settings.origins);

  const listener: RequestListener = (request, response) => {
    const refuse = (status: number, message: string, headers: Record<string, string> = {}) => {
      response.writeHead(status, { 'content-type': 'text/plain', ...headers });
      response.end(`${message}\n`);
    };
    if (request.url?.split('?')[0] !== '/mcp') return refuse(404, 'MCP is at /mcp');
    if (!isOwnOrigin(request, response)) return;
    const caller = access.callerOf(request);
    if (caller === undefined) {
      const how = 'send a key of tools.mcp.keys as "Authorization: Bearer KEY"';
      return refuse(401, how, { 'www-authenticate': 'Bearer' });
    }
    flushStreams(response);
    if (request.method === 'POST') response.once('close', answers.begin().end);
    const auth: AuthInfo = { token: '', clientId: caller, scopes: [] };
    void serve(Object.assign(request, { auth }) as Parameters<typeof serve>[0], response);
  };
  const { server, close } = createListener(settings, listener, log);
  server.maxConnections = maxConnections;
  const at = settings.listen.lastIndexOf(':');
  server.listen(Number(settings.listen.slice(at + 1)), settings.listen.slice(0, at).replace(/^\[|\]$/g, ''));
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return {
    address: `${settings.listen.slice(0, at)}:${port}`,
    async stop(limitMs) {
      server.close();
      close();
      const inTime = await calls.stop(limitMs, farewellMs);
      await answers.stop(farewellMs, 0);
      sessions.close();
      await handler.close();
      server.closeAllConnections();
      return inTime;
    },
  };
}

/** Requests of the earlier revisions that name a session, or open one; what does neither is served alone. */
async function hasSession(request: Request): Promise<boolean> {
  if (!(await isLegacyRequest(request, undefined, { maxRequestBodySize }))) return false;
  if (request.headers.get('mcp-session-id') !== null) return true;
  if (request.method !== 'POST') return false;
  const message = await request
    .clone()
    .json()
    .catch(() => undefined);
  return (message as { method?: unknown } | undefined)?.method === 'initialize';
}

/** The head of a stream goes out at once, and not with the first event, which may come much later. */
function flushStreams(response: ServerResponse): void {
  const writeHead = response.writeHead.bind(response);
  response.writeHead = ((status: number, headers: Record<string, string>) => {
    writeHead(status, headers);
    if (headers['content-type']?.startsWith('text/event-stream')) response.flushHeaders();
    return response;
  }) as typeof response.writeHead;
}

const bounds = { maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 60_000 };

function createListener(
  { tls, listen }: McpSettings,
  listener: RequestListener,
  log: Logger,
): { server: Server; close(): void } {
  if (tls === undefined) {
    if (!/^(127\.|localhost:|\[::1\])/.test(listen ?? ''))
      log.warn({ listen }, 'tools.mcp.tls is not set: keys and results cross the network as plain text');
    return { server: createServer(bounds, listener), close() {} };
  }
  const files = certificates(tls);
  const server = createTlsServer(
    { ...bounds, ...files.read(), requestCert: tls.ca !== undefined, rejectUnauthorized: true },
    listener,
  );
  const close = files.onChange(
    (renewed) => server.setSecureContext(renewed),
    (error) =>
      log.error(
        { err: loggedError(error, []) },
        'the new certificate of tools.mcp.tls cannot be read; the old one stays in use',
      ),
  );
  return { server: server as unknown as Server, close };
}
