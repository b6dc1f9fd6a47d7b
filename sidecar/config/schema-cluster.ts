/** The file form of one outbound cluster, composed of the settings that each component declares. */
import * as z from 'zod';
import { connections, picking } from '../cluster/cluster-settings.ts';
import { tls } from '../cluster/connection/tls-settings.ts';
import { kubernetes } from '../cluster/discovery/kubernetes-settings.ts';
import { healthCheck } from '../cluster/health/health-check-settings.ts';
import { outlierDetection } from '../cluster/outlier/outlier-settings.ts';
import { circuitBreaker } from '../policy/circuit-breaker-settings.ts';
import { hedge } from '../policy/hedge-settings.ts';
import { retry } from '../policy/retry-settings.ts';
import { task } from '../policy/task-settings.ts';
import { timeLimits } from '../policy/time-limit-settings.ts';
import { duration } from '../settings/kinds.ts';
import { dnsTarget, target } from './address-kinds.ts';

/** `outbound.clusters.NAME`. */
export const cluster = z.strictObject({
  endpoints: z
    .array(target())
    .min(1)
    .max(4096)
    .optional()
    .describe('Static addresses; give these or dns, not both'),
  dns: dnsTarget().optional().describe('A name and a port; every address of the name is an endpoint'),
  kubernetes: kubernetes
    .optional()
    .describe('The EndpointSlices of a Service, asked of the Kubernetes API; in place of endpoints or dns'),
  dns_refresh: duration('positive').default('5s').describe('How often the name is looked up'),
  ...picking,
  ...timeLimits,
  ...connections,
  circuit_breaker: circuitBreaker.prefault({}),
  outlier_detection: outlierDetection.prefault({}),
  health_check: healthCheck.prefault({}),
  retry: retry.prefault({}),
  hedge: hedge.prefault({}),
  task: task.prefault({}),
  tls: tls.optional().describe('TLS to the endpoints; cleartext when absent'),
});
