/** Declares the settings of the egress as a service: its certificate, and the callers that may use it. */
import * as z from 'zod';
import { dollars, entryName, file, identity, integer, text } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

const MANY = 1_000_000_000;

/** `llm.tls` and `mcp.tls`. */
export const serviceTls = z.strictObject({
  cert: file().describe('PEM file of our certificate, with its chain'),
  key: file().describe('PEM file of its key'),
  client_ca: file()
    .optional()
    .describe(
      'PEM file of certificate authorities; with it, callers must show a certificate that one of them has signed',
    ),
});

/** An entry of `llm.callers`. */
export const llmCaller = z.strictObject({
  name: entryName().describe('The name in metrics, logs and refusals'),
  identity: identity()
    .nullable()
    .default(null)
    .describe('A URI or DNS name of its certificate, which llm.tls.client_ca verifies; * stands for a part'),
  key_env: text('the name of an environment variable', /^[A-Za-z_][A-Za-z0-9_]*$/)
    .nullable()
    .default(null)
    .describe('The environment variable that holds its key for this service'),
  key_file: file()
    .nullable()
    .default(null)
    .describe('The file that holds its keys, one a line; it is read again when it changes'),
  models: z
    .array(text('the name of a model, or a pattern such as claude-*'))
    .max(1_000)
    .default([])
    .describe('The models that it may name; * stands for any characters, and [] is all of them'),
  limits: z
    .strictObject({
      requests_per_minute: integer(0, MANY).default(0).describe('At all replicas together; 0 is none'),
      tokens_per_minute: integer(0, MANY)
        .default(0)
        .describe('Input and output, at all replicas together; 0 is none'),
      concurrent: integer(0, 1_000_000).default(0).describe('Requests at a time, at each replica; 0 is none'),
    })
    .prefault({}),
  budget: z
    .strictObject({
      tokens_per_day: integer(0, 1_000_000_000_000)
        .default(0)
        .describe(
          'Tokens of a day of UTC, at all replicas together, reserved before they are used; 0 is none',
        ),
      usd_per_day: dollars()
        .default(0)
        .describe('Money of a day of UTC, likewise, by llm.prices_file; 0 is no limit'),
    })
    .prefault({}),
});

export type ServiceTlsSettings = SettingsOf<typeof serviceTls>;
export type LlmCallerSettings = SettingsOf<typeof llmCaller>;
