/**
 * The configuration file: every key, its form, its default and what it does. `schema.json`, the
 * environment variables, the flags and `outrigger check` all come from here.
 */
import * as z from 'zod';
import { egress, llmUpstream } from '../llm/shared/llm-settings.ts';
import { timeLimits } from '../policy/time-limit-settings.ts';
import {
  duration,
  entryName,
  file,
  flag,
  headerName,
  identity,
  integer,
  oneOf,
  text,
} from '../settings/kinds.ts';
import { appTarget, listen } from './address-kinds.ts';
import { DEFAULT_PROVIDER, LLM_LISTEN } from './provider-defaults.ts';
import { cluster } from './schema-cluster.ts';

const MANY = 1_000_000;

const listenerLimits = z.strictObject({
  max_connections: integer(1, 65_535)
    .default(1024)
    .describe('Connections at a time; more are closed at once'),
  max_concurrent_streams: integer(1, 1_000_000)
    .default(1024)
    .describe('Streams at a time on one connection; more are refused'),
  max_header_bytes: integer(1024, 1_048_576)
    .default(65_536)
    .describe('The largest header list, either way, as RFC 9113 section 6.5.2 counts it'),
});

const inbound = z.strictObject({
  listen: listen().default('0.0.0.0:15006').describe('Where other agents reach this one'),
  app: appTarget()
    .default('127.0.0.1:50051')
    .describe('The local agent: host:port or unix:/path; none for a pod that only calls'),
  max_concurrent_calls: integer(1, MANY).default(1024).describe('Above it: RESOURCE_EXHAUSTED with pushback'),
  queue: z
    .strictObject({
      max_calls: integer(0, MANY).default(0).describe('Calls that may wait for a place; 0 is no queue'),
      max_wait: duration('positive').default('5s').describe('The longest wait that a call is let in for'),
    })
    .prefault({})
    .describe('For calls above max_concurrent_calls; those that would not be served in time are refused'),
  rate_limit: z
    .strictObject({
      calls_per_second: integer(0, MANY).default(0).describe('Calls of one caller a second; 0 is no limit'),
      burst: integer(1, MANY).default(10).describe('Calls at once after a silence'),
    })
    .prefault({})
    .describe('For each caller by itself: by its certificate, or by its address'),
  tasks: z
    .strictObject({
      deduplicate: flag().default(true).describe('Run a task once, however often it is sent'),
      max_age: duration('positive').default('5m').describe('How long an answer can be had again'),
      max_bytes: integer(0, 1_073_741_824).default(16_777_216).describe('Memory for all answers'),
      max_answer_bytes: integer(0, 1_073_741_824)
        .default(1_048_576)
        .describe('A larger answer is given once'),
      scope_headers: z
        .array(headerName('a header name such as x-user'))
        .max(32)
        .default(['x-api-key', 'cookie'])
        .describe(
          'Header fields whose values tell callers apart, besides certificate and authorization: no answer, and no work of the agent, is shared between two callers',
        ),
    })
    .prefault({}),
  token_budget: z
    .strictObject({
      from: oneOf(['anyone', 'identified', 'nobody'])
        .default('anyone')
        .describe(
          'Callers whose outrigger-token-budget holds; identified ones have shown a certificate by tls.client_ca',
        ),
      allow_identities: z
        .array(identity())
        .max(1024)
        .default([])
        .describe('URI or DNS names of which an identified caller must have one; empty is any'),
    })
    .prefault({})
    .describe("A caller's budget can only lower what the operator allows; what others send is left out"),
  max_call_depth: integer(0, 100)
    .default(8)
    .describe('Agents that a task may come through, this one included; 0 is any number'),
  allow_call_cycles: flag().default(false).describe('Take tasks that have come through this agent before'),
  call_baggage: flag()
    .default(true)
    .describe(
      "Name a call that no trace tells apart in its W3C baggage, so that the agent's own calls are known to be made for it",
    ),
  forward_client_cert: flag()
    .default(false)
    .describe(
      "Pass on what callers say of a client's certificate (x-forwarded-client-cert, client-cert): only where a proxy that you trust writes it",
    ),
  adaptive_concurrency: flag().default(false).describe('Lower the limit while the agent gets slower'),
  max_message_bytes: integer(1, 2_147_483_647).default(10_485_760).describe('The largest gRPC message'),
  ...timeLimits,
  keepalive: z
    .strictObject({
      time: duration('zero')
        .default('30s')
        .describe('Silence after which a PING asks if the peer lives; 0s is off'),
      timeout: duration('positive').default('10s').describe('How long the answer to a PING may take'),
      max_connection_age: duration('zero')
        .default('30m')
        .describe('Age at which a connection is asked to go, so that load spreads; 0s is off'),
      min_time: duration('zero')
        .default('10s')
        .describe('Downstreams that send PINGs more often are sent away with too_many_pings'),
    })
    .prefault({}),
  limits: listenerLimits.prefault({}),
  health: z
    .strictObject({
      interval: duration('zero')
        .default('5s')
        .describe("How often the agent's own grpc.health.v1 service is asked, if it has one; 0s is off"),
      timeout: duration('positive').default('2s').describe('How long its answer may take'),
    })
    .prefault({}),
  tls: z
    .strictObject({
      cert: file().describe('PEM file of our certificate, with its chain'),
      key: file().describe('PEM file of its key'),
      client_ca: file().optional().describe('PEM file; when given, callers must show a certificate by it'),
      allow_identities: z
        .array(identity())
        .max(1024)
        .default([])
        .describe('URI or DNS names of which a caller must have one; empty lets in all by client_ca'),
      required: flag()
        .default(true)
        .describe('Refuse plain text; false takes both on one port while callers move to TLS'),
    })
    .optional()
    .describe('TLS for callers; cleartext when absent'),
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
  limits: listenerLimits.prefault({}),
  namespace: text('a namespace such as agents', /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/)
    .default('')
    .describe(
      "Of which a Service is meant by its name alone; empty is the pod's own: POD_NAMESPACE, the service account's, or resolv.conf's",
    ),
  cluster_domain: text(
    'a domain such as cluster.local',
    /^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$/,
  )
    .default('')
    .describe("Behind NAME.NAMESPACE.svc; empty is resolv.conf's, or cluster.local"),
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

/** What a valid file says, with the defaults filled in and nothing converted. */
export type FileConfig = z.output<typeof schema>;
export type FileCluster = FileConfig['outbound']['clusters'][string];
