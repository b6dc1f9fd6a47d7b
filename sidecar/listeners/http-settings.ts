/** The settings of the listeners for operators, Prometheus and the kubelet. */
import * as z from 'zod';
import { listen, target } from '../settings/address-kinds.ts';
import { entryName, url } from '../settings/kinds.ts';

const listener = (address: string, description: string) =>
  z.strictObject({ listen: listen().default(address).describe(description) }).prefault({});

/** An entry of `admin.peers`: it changes what the dashboard shows, and no call. */
const peer = z.strictObject({
  address: target().describe('An endpoint, as clusters name it'),
  name: entryName().describe('The name that the dashboard shows beside the address'),
  page: url().nullable().default(null).describe('The dashboard of the sidecar at that address'),
});

const ADMIN = 'Dashboard and JSON, without a password: keep the address local';

/** `admin`, `metrics` and `health`. */
export const httpListeners = {
  admin: z
    .strictObject({
      listen: listen().default('127.0.0.1:15000').describe(ADMIN),
      peers: z
        .array(peer)
        .max(1024)
        .default([])
        .describe('Names and dashboards of endpoints, for this dashboard'),
    })
    .prefault({}),
  metrics: listener('0.0.0.0:15020', 'Prometheus: /metrics'),
  health: listener('0.0.0.0:15021', 'Kubernetes probes: /healthz/live, /healthz/ready and /healthz/app'),
};
