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
    .describe('The balancer that picks an endpoint for each attempt; ring_hash picks by task id'),
  connect_timeout: duration('positive')
    .default('5s')
    .describe('Time limit of TCP, TLS and the first SETTINGS together'),
};

/** Keys of a cluster: its keepalive and its limits. */
export const connections = {
  keepalive: z
    .strictObject({
      time: duration('zero')
        .default('30s')
        .describe('Silence after which the sidecar sends a PING; 0s is off'),
      timeout: duration('positive').default('10s').describe('Time limit of the answer to a PING'),
    })
    .prefault({}),
  limits: z
    .strictObject({
      max_connections: integer(1, 4096).default(16).describe('Connections to one endpoint'),
      max_pending_calls: integer(0, MANY).default(1024).describe('Calls that may wait for a connection'),
      max_concurrent_calls: integer(1, MANY)
        .default(1024)
        .describe('Calls in flight in the whole cluster at a time'),
    })
    .prefault({}),
};

type Declared = typeof picking &
  typeof connections & { outlier_detection: typeof outlierDetection; health_check: typeof healthCheck };

/** The settings that a cluster reads. */
export interface ClusterSettings extends SettingsOf<z.ZodObject<Declared>> {
  readonly name: string;
  readonly retry: { readonly bufferBytes: number };
  /** The agent type for which its calls become tasks on the bus. */
  readonly bus?: string | undefined;
}
