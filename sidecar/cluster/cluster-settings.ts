/** The settings of a cluster, except those that have a file of their own (discovery, health checks, outliers, TLS). */
import * as z from 'zod';
import { duration, integer, oneOf } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import type { healthCheck } from './health/health-check-settings.ts';
import type { outlierDetection } from './outlier/outlier-settings.ts';

const MANY = 1_000_000;

/** Keys of a cluster: how it picks an endpoint for a call and connects to it. */
export const picking = {
  balancer: oneOf(['peak_ewma', 'least_request', 'round_robin', 'ring_hash'])
    .default('peak_ewma')
    .describe('How an endpoint is picked; ring_hash picks by task id'),
  connect_timeout: duration('positive').default('5s').describe('TCP, TLS and the first SETTINGS together'),
};

/** Keys of a cluster: its keepalive and its limits. */
export const connections = {
  keepalive: z
    .strictObject({
      time: duration('zero')
        .default('30s')
        .describe('Silence after which a PING asks if the peer lives; 0s is off'),
      timeout: duration('positive').default('10s').describe('How long the answer to a PING may take'),
    })
    .prefault({}),
  limits: z
    .strictObject({
      max_connections: integer(1, 4096).default(16).describe('Connections to one endpoint'),
      max_pending_calls: integer(0, MANY).default(1024).describe('Calls that may wait for a connection'),
      max_concurrent_calls: integer(1, MANY).default(1024).describe('Calls in flight in the whole cluster'),
    })
    .prefault({}),
};

type Declared = typeof picking &
  typeof connections & { outlier_detection: typeof outlierDetection; health_check: typeof healthCheck };

/** The settings that a cluster reads. */
export interface ClusterSettings extends SettingsOf<z.ZodObject<Declared>> {
  readonly name: string;
  readonly retry: { readonly bufferBytes: number };
}
