/** The settings for discovery in Kubernetes. */
import * as z from 'zod';
import { flag, portOfPods, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `kubernetes` of a cluster. */
export const kubernetes = z.strictObject({
  service: text('the name of a Service such as writing-agent', /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/).describe(
    'The Service whose EndpointSlices the sidecar watches',
  ),
  namespace: text('a namespace such as agents', /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/)
    .default('')
    .describe('The namespace of the Service; empty means the namespace of the pod'),
  port: portOfPods().describe('The name of a port of the Service, or a port number of its pods'),
  zone_preference: flag()
    .default(true)
    .describe('Prefer endpoints in the own zone while enough of them are usable'),
  zone: text('a zone such as eu-west-1a', /^[A-Za-z0-9._-]{0,63}$/)
    .default('')
    .describe('The own zone; empty means the zone of the node that NODE_NAME names'),
});

export type KubernetesSettings = SettingsOf<typeof kubernetes>;
