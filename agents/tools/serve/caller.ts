/** Tells callers apart: no caller sees another one's workspaces and results. */
import { createHash } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';

/** What the runner's sidecar forwards of a caller: its certificate's name, and its credentials. */
const fields = ['x-forwarded-client-cert', 'authorization', 'x-api-key', 'cookie'];

/** A digest, so that no key stays in memory; '' for a caller that says nothing of itself. */
export function callerOf(metadata: Metadata): string {
  const said = fields.map((name) => metadata.get(name).map(String));
  if (said.every((values) => values.length === 0)) return '';
  return createHash('sha256').update(JSON.stringify(said)).digest('hex');
}
