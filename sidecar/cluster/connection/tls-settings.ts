/** The TLS settings of a cluster. */
import * as z from 'zod';
import { file, identity, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

/** `tls` of a cluster. */
export const tls = z.strictObject({
  ca: file()
    .optional()
    .describe('PEM file of the trusted certificate authorities; by default those of the system'),
  cert: file().optional().describe('PEM file of our certificate, for mutual TLS'),
  key: file().optional().describe('PEM file of its key'),
  server_name: text('a host name', /^[A-Za-z0-9._-]+$/)
    .optional()
    .describe(
      'The name that the certificate must have; by default the name in dns or kubernetes, or the address',
    ),
  allow_identities: z
    .array(identity())
    .max(1024)
    .default([])
    .describe(
      'URI or DNS names; the certificate of an endpoint must have one of them, instead of the default name',
    ),
});

export type ClusterTlsSettings = SettingsOf<typeof tls>;
