/** GET /api/v1/health: the health of all agents. */
import { Metadata } from '@grpc/grpc-js';
import type { FastifyInstance } from 'fastify';
import type { HealthResponse } from '../protocol/messages.ts';
import { fromServiceError } from './api-error.ts';
import type { RegisteredAgent, Registry } from './registry.ts';
import { healthSchema } from './schemas.ts';

/** The time limit for an agent, or the sidecar in front of it, to answer a health check. */
const limitMs = 2000;

type AgentHealth = HealthResponse & { error?: string };

/** GET /api/v1/health: the health of each agent by its type. 200 while at least one agent works, 503 otherwise. */
export function healthRoute(app: FastifyInstance, registry: Registry): void {
  const schema = { summary: 'The health of every agent', response: { 200: healthSchema, 503: healthSchema } };
  app.get('/api/v1/health', { schema }, async (_request, reply) => {
    const found = await Promise.all(
      registry.all().map(async (agent) => [agent.type, await ask(agent)] as const),
    );
    const works = found.some(([, { healthy }]) => healthy);
    return reply.code(works ? 200 : 503).send(Object.fromEntries(found));
  });
}

function ask({ client, type }: RegisteredAgent): Promise<AgentHealth> {
  return new Promise((resolve) => {
    client.HealthCheck({}, new Metadata(), { deadline: Date.now() + limitMs }, (error, answer) => {
      if (error === null) return resolve(answer!);
      const { code, reason, message } = fromServiceError(error, type);
      const unknown = { agent_name: '', version: '', checks: {} };
      resolve({ healthy: false, ...unknown, error: `${reason ?? code}: ${message}` });
    });
  });
}
