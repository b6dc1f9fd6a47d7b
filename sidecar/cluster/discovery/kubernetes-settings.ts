/** The settings for discovery in Kubernetes. */
import * as z from 'zod';
import { flag, portOfPods, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `kubernetes` of a cluster. */
export const kubernetes = z.strictObject({
  service: text('the name of a Service such as writing-agent', /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/).describe(
    'Whose EndpointSlices are watched',
  ),
  namespace: text('a namespace such as agents', /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/)
    .default('')
    .describe("Where it is; the pod's own when empty"),
  port: portOfPods().describe('The name of a port of the Service, or a number of the pods'),
  zone_preference: flag()
    .default(true)
    .describe('Call endpoints in our own zone while they are enough and well'),
  zone: text('a zone such as eu-west-1a', /^[A-Za-z0-9._-]{0,63}$/)
    .default('')
    .describe('Our own; that of the node which NODE_NAME names when empty'),
});

export type KubernetesSettings = SettingsOf<typeof kubernetes>;
