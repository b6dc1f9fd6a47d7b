/** Assembles the gateway's HTTP server: limits, routes, errors and shutdown. */
import swagger from '@fastify/swagger';
import { type FastifyBaseLogger, type FastifyInstance, fastify } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { SentAhead } from '../../sidecar/node/sent-ahead.ts';
import { maxMessageBytes } from '../protocol/definitions.ts';
import { connectTasks } from '../protocol/tasks-client.ts';
import { ApiError } from './api-error.ts';
import { apiPageRoutes } from './api-page.ts';
import { boundBodies } from './bodies.ts';
import { boundConnections, sentAhead } from './connections.ts';
import { Discovery } from './discovery.ts';
import { errorHandler, notFoundHandler } from './error-handler.ts';
import { healthRoute } from './health-route.ts';
import { localSystemRoutes } from './local-system.ts';
import { isLoopback, otherSite } from './other-sites.ts';
import { pageRoutes } from './page.ts';
import { Registry } from './registry.ts';
import type { GatewaySettings } from './settings.ts';
import { submittedTaskRoutes } from './submitted/routes.ts';
import { taskRoute } from './task-route.ts';

/**
 * A text is never shorter in JSON than in a gRPC message, so a body of this size fits into a message of the largest
 * size, including ids and field tags.
 */
const maxBodyBytes = maxMessageBytes - 16 * 1024;

/** A client sends the head of a request at once. */
const headersTimeoutMs = 10_000;
/** Longer than the time limit of the largest body, which has its own answer (bodies.ts). */
const requestTimeoutMs = 90_000;

/** The time for the last answers of requests that the gateway aborts. */
const farewellMs = 1000;

export interface Gateway {
  app: FastifyInstance;
  /** Accepts no new requests and waits for the running ones; after the limit it ends the rest with 503. */
  stop(limitMs: number): Promise<void>;
}

/** Creates the REST API in front of the agents. It listens when the caller starts its `app`. */
export async function createGateway(settings: GatewaySettings, log: FastifyBaseLogger): Promise<Gateway> {
  const registry = new Registry(settings.agents);
  const discovery = settings.discover === '' ? undefined : new Discovery(settings, registry, log);
  await discovery?.begin();
  const tasks = connectTasks(settings.tasks);
  const stopping = new AbortController();
  let closing = false;
  const app: FastifyInstance = fastify({
    loggerInstance: log,
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: 1000 },
    forceCloseConnections: 'idle',
    // Each request is one task at most: its id is the task's id, in the log, in the answer and at the agent.
    genReqId: () => uuidv7(),
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false } },
  });
  app.removeContentTypeParser('text/plain');
  boundBodies(app, maxBodyBytes);
  boundConnections(app.server);
  SentAhead.on(app.server, 'connection', sentAhead);
  app.setErrorHandler(errorHandler);
  app.setNotFoundHandler(notFoundHandler);
  if (isLoopback(settings.host)) {
    app.addHook('onRequest', async ({ method, headers }) => {
      const why = otherSite(method, headers, settings.names);
      if (why !== undefined) throw new ApiError(403, 'PERMISSION_DENIED', why);
    });
  }
  app.addHook('onSend', async ({ raw }, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    // The server reads and discards the rest of a refused body: a connection that closed at once would lose the answer.
    if (!raw.complete) reply.removeHeader('connection');
    // Requests from before the stop would otherwise keep their connections open, and these the server.
    if (closing) reply.header('connection', 'close');
  });
  app.addHook('onClose', async () => {
    discovery?.end();
    registry.close();
    tasks.close();
  });

  await app.register(swagger, {
    openapi: {
      info: { title: 'Outrigger gateway', description: 'Sends tasks to agents.', version: '1.0.0' },
    },
  });
  await app.register(async (routes) => {
    const { timeoutMs, maxInputChars, defaultAgent, links } = settings;
    taskRoute(routes, { registry, tasks, timeoutMs, maxInputChars, defaultAgent, stopping: stopping.signal });
    submittedTaskRoutes(routes, { client: tasks, stopping: stopping.signal });
    healthRoute(routes, registry);
    pageRoutes(routes, links);
    apiPageRoutes(routes);
    // Only if no other machine can reach the gateway.
    localSystemRoutes(routes, isLoopback(settings.host) ? settings.localSystem : '');
  });

  const stop = async (limitMs: number) => {
    closing = true;
    const end = () =>
      stopping.abort(
        new ApiError(503, 'UNAVAILABLE', 'the gateway is stopping; try again', { retryAfterS: 1 }),
      );
    const timers = [
      setTimeout(end, limitMs),
      // For clients that read no answer, or never finish their request.
      setTimeout(() => app.server.closeAllConnections(), limitMs + farewellMs),
    ];
    await app.close();
    for (const timer of timers) clearTimeout(timer);
  };
  return { app, stop };
}
