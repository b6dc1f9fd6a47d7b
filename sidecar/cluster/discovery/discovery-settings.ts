/** The settings that say where a cluster's endpoints come from. */
import * as z from 'zod';
import { dnsTarget, target } from '../../settings/address-kinds.ts';
import { agentType, duration } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';
import { kubernetes } from './kubernetes-settings.ts';

/** Keys of a cluster: the source of its endpoints. */
export const discovery = {
  endpoints: z
    .array(target())
    .min(1)
    .max(4096)
    .optional()
    .describe('Static addresses; give these or dns, not both'),
  dns: dnsTarget().optional().describe('A DNS name and a port; every address of the name is an endpoint'),
  kubernetes: kubernetes
    .optional()
    .describe(
      'A Service; the Kubernetes API names its endpoints (EndpointSlices). It replaces endpoints and dns',
    ),
  bus: agentType()
    .optional()
    .describe(
      'An agent type: calls become tasks on the bus (bus.url), for any sidecar that takes this type. It replaces endpoints',
    ),
  dns_refresh: duration('positive').default('5s').describe('Interval of DNS look-ups'),
};

export type DiscoverySettings = SettingsOf<z.ZodObject<typeof discovery>>;
