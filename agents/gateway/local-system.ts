/** The routes with which the page controls the local system. */
import { request } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from './api-error.ts';

/** The longest time to restart an agent. */
const limitMs = 65_000;

interface Answer {
  status: number;
  body: string;
}

/**
 * The API for the page's controls, which break and restore replicas. The local system listens on a Unix socket; without
 * one, these routes show and do nothing.
 *
 * @param socketPath '' outside of a local system
 */
export function localSystemRoutes(app: FastifyInstance, socketPath: string): void {
  const hidden = { schema: { hide: true } };
  app.get('/local/state', hidden, async (_request, reply) => {
    if (socketPath === '') return { local: false };
    const { status, body } = await ask(socketPath, 'GET', '/state');
    return reply.code(status).type('application/json').send(body);
  });
  if (socketPath === '') return;
  app.get<{ Params: { text: string } }>('/local/tasks/:text', hidden, async ({ params }, reply) => {
    const { status, body } = await ask(socketPath, 'GET', `/tasks/${encodeURIComponent(params.text)}`);
    return reply.code(status).type('application/json').send(body);
  });
  const commands = ['/replicas/:name/:action', '/sending/:name'];
  for (const command of commands) {
    app.post<{ Params: Record<string, string> }>(`/local${command}`, hidden, async (request, reply) => {
      refuseOtherPages(request);
      const { params } = request;
      const path = command.replaceAll(/:(\w+)/g, (_, name: string) => encodeURIComponent(params[name] ?? ''));
      const { status, body } = await ask(socketPath, 'POST', path);
      return reply.code(status).type('application/json').send(body);
    });
  }
}

/** Complements the check of app.ts for browsers that send no Sec-Fetch-Site: another site's form needs no script. */
function refuseOtherPages({ headers }: FastifyRequest): void {
  const { origin, host } = headers;
  if (origin !== undefined && origin !== `http://${host}`)
    throw new ApiError(403, 'PERMISSION_DENIED', 'this gateway refuses requests from pages of other sites');
}

function ask(socketPath: string, method: string, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, signal: AbortSignal.timeout(limitMs) }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => resolve({ status: response.statusCode ?? 500, body }));
      response.on('error', reject);
    });
    asked.on('error', (cause) =>
      reject(new ApiError(503, 'UNAVAILABLE', 'the local system does not answer', { cause })),
    );
    asked.end();
  });
}
