/**
 * The configuration file, composed of the settings that each part declares beside the code that reads them. `schema.json`,
 * the environment variables, the flags and `outrigger check` all derive from it.
 */
import * as z from 'zod';
import { bus } from '../bus/settings.ts';
import { journal } from '../journal/settings.ts';
import { drain } from '../listeners/drain-settings.ts';
import { httpListeners } from '../listeners/http-settings.ts';
import { inboundKeys, outboundKeys } from '../listeners/listener-settings.ts';
import { llmKeys } from '../llm/shared/llm-settings.ts';
import { mcpKeys } from '../mcp/shared/mcp-settings.ts';
import { routes } from '../proxy/route-settings.ts';
import { entryName } from '../settings/kinds.ts';
import { log } from '../telemetry/log-settings.ts';
import { service } from '../telemetry/service-settings.ts';
import { cluster } from './schema-cluster.ts';

const clusters = z
  .record(entryName(), cluster)
  .default({})
  .describe('Sets of endpoints that serve the same methods, by name');

/** The whole file. */
export const schema = z.strictObject({
  ...service,
  inbound: z.strictObject(inboundKeys).prefault({}).describe('Calls from other agents to the local one'),
  outbound: z
    .strictObject({ ...outboundKeys, routes, clusters })
    .prefault({})
    .describe('Calls from the local agent to others'),
  llm: z.strictObject(llmKeys).prefault({}).describe('Requests from the local agent to its LLM provider'),
  mcp: z.strictObject(mcpKeys).prefault({}).describe('Calls from the local agent to tool servers (MCP)'),
  bus,
  journal,
  ...httpListeners,
  drain,
  log,
});

/** The values of a valid file, with the defaults filled in and nothing converted. */
export type FileConfig = z.output<typeof schema>;
export type FileCluster = FileConfig['outbound']['clusters'][string];
