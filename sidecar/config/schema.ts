/**
 * The configuration file: every key, its form, its default and its description. `schema.json`, the environment
 * variables, the flags and `outrigger check` all derive from it.
 */
import * as z from 'zod';
import { inboundKeys, outboundKeys } from '../listeners/listener-settings.ts';
import { egress, llmUpstream } from '../llm/shared/llm-settings.ts';
import { duration, entryName, flag, headerName, oneOf, text } from '../settings/kinds.ts';
import { appTarget, listen } from './address-kinds.ts';
import { DEFAULT_PROVIDER, LLM_LISTEN } from './provider-defaults.ts';
import { cluster } from './schema-cluster.ts';

const inbound = z.strictObject({
  listen: listen().default('0.0.0.0:15006').describe('Where other agents reach this one'),
  app: appTarget()
    .default('127.0.0.1:50051')
    .describe('The local agent: host:port or unix:/path; none for a pod that only calls'),
  ...inboundKeys,
});

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

const outbound = z.strictObject({
  listen: listen().default('127.0.0.1:15001').describe('Where the local agent sends its calls'),
  ...outboundKeys,
  routes: z
    .array(route)
    .max(1024)
    .default([])
    .describe('The first match wins; when there is none the authority names the cluster'),
  clusters: z
    .record(entryName(), cluster)
    .default({})
    .describe('Sets of endpoints that serve the same, by name'),
});

const llm = z.strictObject({
  listen: listen().default(LLM_LISTEN).describe('OPENAI_BASE_URL of the agent is http://HOST:PORT/v1'),
  upstreams: z
    .array(llmUpstream)
    .min(1)
    .max(64)
    .default([{ ...DEFAULT_PROVIDER, model: null, adds: null }])
    .describe('Providers in order of preference; when there are none, OPENAI_BASE_URL names one'),
  ...egress,
});

const listener = (address: string, description: string) =>
  z.strictObject({ listen: listen().default(address).describe(description) }).prefault({});

/** The whole file. */
export const schema = z.strictObject({
  name: text('a name such as research-agent').default('agent').describe('Service name in traces and metrics'),
  version: text('a version such as "1.0.0"').default('0.0.0').describe('Version that HealthCheck answers'),
  inbound: inbound.prefault({}).describe('Calls from other agents to the local one'),
  outbound: outbound.prefault({}).describe('Calls from the local agent to others'),
  llm: llm.prefault({}).describe('Requests from the local agent to its LLM provider'),
  admin: listener('127.0.0.1:15000', 'Dashboard and JSON; it asks for no password, so keep it local'),
  metrics: listener('0.0.0.0:15020', 'Prometheus: /metrics'),
  health: listener('0.0.0.0:15021', 'Kubernetes probes: /healthz/live, /healthz/ready and /healthz/app'),
  drain: z
    .strictObject({
      delay: duration('zero').default('0s').describe('From "not ready" to the first GOAWAY'),
      timeout: duration('zero').default('30s').describe('For calls in flight to finish; then they are ended'),
    })
    .prefault({})
    .describe('What SIGTERM starts'),
  log: z
    .strictObject({
      level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .describe('The least important line that is written'),
      access: flag().default(false).describe('One line a call'),
      access_headers: z
        .array(
          text(
            'a header name in lower case that holds no secret: not authorization, cookie, or a key or token',
            /^(?!:|(proxy-)?authorization$|(set-)?cookie$|.*(key|token|secret|password|credential))[a-z0-9_.-]+$/,
          ),
        )
        .max(20)
        .default([])
        .describe('Request headers whose values are in these lines; none unless named here'),
    })
    .prefault({}),
});

/** The values of a valid file, with the defaults filled in and nothing converted. */
export type FileConfig = z.output<typeof schema>;
export type FileCluster = FileConfig['outbound']['clusters'][string];
