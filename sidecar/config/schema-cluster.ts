/** The file form of one outbound cluster, composed of the settings that each component declares. */
import * as z from 'zod';
import { connections, picking } from '../cluster/cluster-settings.ts';
import { tls } from '../cluster/connection/tls-settings.ts';
import { discovery } from '../cluster/discovery/discovery-settings.ts';
import { healthCheck } from '../cluster/health/health-check-settings.ts';
import { outlierDetection } from '../cluster/outlier/outlier-settings.ts';
import { circuitBreaker } from '../policy/circuit-breaker-settings.ts';
import { hedge } from '../policy/hedge-settings.ts';
import { retry } from '../policy/retry-settings.ts';
import { task } from '../policy/task-settings.ts';
import { timeLimits } from '../policy/time-limit-settings.ts';
import { agentTypes } from '../proxy/route-settings.ts';

/** `outbound.clusters.NAME`. */
export const cluster = z.strictObject({
  ...discovery,
  ...picking,
  agent_types: agentTypes,
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
