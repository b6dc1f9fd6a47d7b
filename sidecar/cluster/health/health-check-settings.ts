/** The settings of active health checks. */
import * as z from 'zod';
import { duration, integer, oneOf, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `health_check` of a cluster. */
export const healthCheck = z.strictObject({
  // Each interval varies by ±10 %.
  interval: duration('zero')
    .default('0s')
    .describe('Interval of the health checks of each endpoint; 0s is off'),
  // Without an answer, a sign of life may take as long again.
  timeout: duration('positive').default('2s').describe('Time limit of the answer to a health check'),
  unhealthy_threshold: integer(1, 100)
    .default(3)
    .describe(
      'Checks in a row without an answer, or with an error, that eject an endpoint; NOT_SERVING ejects it at once',
    ),
  healthy_threshold: integer(1, 100)
    .default(2)
    .describe('Checks in a row that must pass before an endpoint returns'),
  service: text('the name of a service such as agent.AgentService, or nothing', /^[A-Za-z0-9_./-]*$/)
    .default('')
    .describe('The service that the request of grpc.health.v1 names; empty means the whole server'),
  protocol: oneOf(['grpc', 'agent'])
    .default('grpc')
    .describe('grpc calls grpc.health.v1.Health/Check, agent calls agent.AgentService/HealthCheck'),
});

export type HealthCheckSettings = SettingsOf<typeof healthCheck>;
export type HealthThresholds = Pick<HealthCheckSettings, 'unhealthyThreshold' | 'healthyThreshold'>;
