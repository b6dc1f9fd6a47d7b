/** The settings of routes. */
import * as z from 'zod';
import { agentType, entryName, headerName, text } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';

/** An entry of `outbound.routes`. */
const route = z.strictObject({
  match: z
    .strictObject({
      authority: text('an authority such as writing-agent', /^[\x21-\x7e]+$/)
        .optional()
        .describe(
          'The :authority, in any case, with or without a dot at its end, a Service by any of its names; a port only where one is given',
        ),
      path_prefix: text('a path such as /agent.AgentService/', /^\/[\x21-\x7e]*$/)
        .optional()
        .describe('How the path begins'),
      headers: z
        .record(headerName('a header name'), text('the value of the header', /^[\x20-\x7e]*$/))
        .optional()
        .describe('Headers with the exact values they must have'),
      agent_type: text('an agent type such as code').optional().describe('TaskRequest.agent_type'),
    })
    .prefault({})
    .describe('Everything given must hold; nothing given takes every call'),
  cluster: entryName().describe('A key of outbound.clusters'),
});

/** `agent_types` of a cluster. */
export const agentTypes = z
  .array(agentType())
  .max(64)
  .default([])
  .describe(
    'Agents that its endpoints serve side by side: each has a circuit, ejections, limits, retries and figures of its own, as cluster NAME/TYPE',
  );

/** `outbound.routes`. */
export const routes = z
  .array(route)
  .max(1024)
  .default([])
  .describe('The first match wins; when there is none the authority names the cluster');

export type RouteRule = SettingsOf<typeof route>;
