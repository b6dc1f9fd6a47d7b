/** The TLS settings of a cluster. */
import * as z from 'zod';
import { file, identity, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `tls` of a cluster. */
export const tls = z.strictObject({
  ca: file().optional().describe('PEM file of the authorities trusted; the system ones when absent'),
  cert: file().optional().describe('PEM file of our certificate, for mutual TLS'),
  key: file().optional().describe('PEM file of its key'),
  server_name: text('a host name', /^[A-Za-z0-9._-]+$/)
    .optional()
    .describe('The name the certificate must have; by default that of dns, of kubernetes, or of the address'),
  allow_identities: z
    .array(identity())
    .max(1024)
    .default([])
    .describe('URI or DNS names of which an endpoint must have one; checked in place of the default name'),
});

export type ClusterTlsSettings = SettingsOf<typeof tls>;
