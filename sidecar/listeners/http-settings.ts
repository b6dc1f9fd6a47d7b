/** The settings of the listeners for operators, Prometheus and the kubelet. */
import * as z from 'zod';
import { listen } from '../settings/address-kinds.ts';

const listener = (address: string, description: string) =>
  z.strictObject({ listen: listen().default(address).describe(description) }).prefault({});

/** `admin`, `metrics` and `health`. */
export const httpListeners = {
  admin: listener('127.0.0.1:15000', 'Dashboard and JSON, without a password: keep the address local'),
  metrics: listener('0.0.0.0:15020', 'Prometheus: /metrics'),
  health: listener('0.0.0.0:15021', 'Kubernetes probes: /healthz/live, /healthz/ready and /healthz/app'),
};
