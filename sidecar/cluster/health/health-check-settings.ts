/** The settings of active health checks. */
import * as z from 'zod';
import { duration, integer, oneOf, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `health_check` of a cluster. */
export const healthCheck = z.strictObject({
  // Each interval varies by ±10 %.
  interval: duration('zero')
    .default('0s')
    .describe('How often each endpoint is asked for its health; 0s is off'),
  // Without an answer, a sign of life may take as long again.
  timeout: duration('positive').default('2s').describe('How long its answer may take'),
  unhealthy_threshold: integer(1, 100)
    .default(3)
    .describe('Checks in a row without an answer, or with an error, that eject; NOT_SERVING does at once'),
  healthy_threshold: integer(1, 100).default(2).describe('Checks in a row that must pass to bring it back'),
  service: text('the name of a service such as agent.AgentService, or nothing', /^[A-Za-z0-9_./-]*$/)
    .default('')
    .describe('Whose health is asked of grpc.health.v1; the whole server when empty'),
  protocol: oneOf(['grpc', 'agent'])
    .default('grpc')
    .describe('grpc asks grpc.health.v1.Health/Check, agent asks agent.AgentService/HealthCheck'),
});

export type HealthCheckSettings = SettingsOf<typeof healthCheck>;
export type HealthThresholds = Pick<HealthCheckSettings, 'unhealthyThreshold' | 'healthyThreshold'>;
