/** The settings of the inbound and the outbound listener. */
import * as z from 'zod';
import { agentTypePlaces, queue, rateLimit } from '../policy/admission-settings.ts';
import { timeLimits } from '../policy/time-limit-settings.ts';
import { appTarget, dnsTarget, listen } from '../settings/address-kinds.ts';
import { agentType, duration, file, flag, identity, integer, oneOf, text } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import { tasks } from '../task/task-store-settings.ts';

const MANY = 1_000_000;

const listenerLimits = z.strictObject({
  max_connections: integer(1, 65_535)
    .default(1024)
    .describe('Connections at a time; the sidecar closes further ones at once'),
  max_concurrent_streams: integer(1, 1_000_000)
    .default(1024)
    .describe('Streams at a time on one connection; the sidecar refuses further ones'),
  max_header_bytes: integer(1024, 1_048_576)
    .default(65_536)
    .describe('The largest header list of a request or response, as RFC 9113 section 6.5.2 counts it'),
});

const tls = z.strictObject({
  cert: file().describe('PEM file of our certificate, with its chain'),
  key: file().describe('PEM file of its key'),
  client_ca: file()
    .optional()
    .describe(
      'PEM file of certificate authorities; with it, callers must show a certificate that one of them has signed',
    ),
  allow_identities: z
    .array(identity())
    .max(1024)
    .default([])
    .describe(
      'URI or DNS names; the certificate of a caller must have one of them. Empty admits all that client_ca admits',
    ),
  required: flag()
    .default(true)
    .describe('Refuse plain text; false accepts TLS and plain text on one port while callers move to TLS'),
});

/** The keys of `inbound`. */
export const inboundKeys = {
  listen: listen().default('0.0.0.0:15006').describe('The address at which other agents reach this one'),
  app: appTarget()
    .default('127.0.0.1:50051')
    .describe(
      'The address of the local agent: host:port or unix:/path; none for a pod that only makes calls',
    ),
  max_concurrent_calls: integer(1, MANY).default(1024).describe('Above it: RESOURCE_EXHAUSTED with pushback'),
  queue: queue
    .prefault({})
    .describe(
      'Queue of the calls above max_concurrent_calls; the sidecar refuses calls that it would not serve in time',
    ),
  agent_types: z
    .record(agentType(), agentTypePlaces)
    .default({})
    .describe(
      'Agents that the app serves side by side, by TaskRequest.agent_type: each has places, a queue, tasks of the bus and figures of its own',
    ),
  rate_limit: rateLimit
    .prefault({})
    .describe('Rate limit of each caller, which its certificate or its address identifies'),
  tasks: tasks.prefault({}),
  token_budget: z
    .strictObject({
      from: oneOf(['anyone', 'identified', 'nobody'])
        .default('anyone')
        .describe(
          'Callers that may set a budget by outrigger-token-budget or outrigger-usd-budget; identified ones have shown a certificate that tls.client_ca verifies',
        ),
      allow_identities: z
        .array(identity())
        .max(1024)
        .default([])
        .describe(
          'URI or DNS names; the certificate of an identified caller must have one of them. Empty is any',
        ),
    })
    .prefault({})
    .describe(
      "A caller's budget can only lower the operator's limit; the sidecar ignores the budgets of other callers",
    ),
  max_call_depth: integer(0, 100)
    .default(8)
    .describe('Agents that a task may pass through, this one included; 0 is any number'),
  allow_call_cycles: flag()
    .default(false)
    .describe('Accept tasks that have passed through this agent before'),
  call_baggage: flag()
    .default(true)
    .describe(
      "Add the id of a call without a trace to its W3C baggage, so that the sidecar can assign the agent's own calls to it",
    ),
  forward_client_cert: flag()
    .default(false)
    .describe(
      "Forward the header fields in which callers describe a client's certificate (x-forwarded-client-cert, client-cert); only safe behind a trusted proxy that writes them",
    ),
  adaptive_concurrency: flag()
    .default(false)
    .describe('Lower max_concurrent_calls while the agent becomes slower'),
  max_message_bytes: integer(1, 2_147_483_647).default(10_485_760).describe('The largest gRPC message'),
  ...timeLimits,
  keepalive: z
    .strictObject({
      time: duration('zero')
        .default('30s')
        .describe('Silence after which the sidecar sends a PING; 0s is off'),
      timeout: duration('positive').default('10s').describe('Time limit of the answer to a PING'),
      max_connection_age: duration('zero')
        .default('30m')
        .describe('Age at which the sidecar sends GOAWAY on a connection, so that load spreads; 0s is off'),
      min_time: duration('zero')
        .default('10s')
        .describe(
          'The shortest interval of PINGs; the sidecar sends GOAWAY (too_many_pings) to peers that send them more often',
        ),
    })
    .prefault({}),
  limits: listenerLimits.prefault({}),
  health: z
    .strictObject({
      interval: duration('zero')
        .default('5s')
        .describe(
          "Interval of the checks of the agent's own grpc.health.v1 service, if it has one; 0s is off",
        ),
      timeout: duration('positive').default('2s').describe('Time limit of its answer'),
    })
    .prefault({}),
  tls: tls.optional().describe('TLS for callers; cleartext when absent'),
};

/** An entry of `outbound.targets`. */
const outboundTarget = z.strictObject({
  listen: listen().describe('The local address that the app dials instead'),
  address: dnsTarget().describe(
    'Where its calls go: they have this authority, and a cluster made of it unless a cluster or a route has the name',
  ),
});

/** The keys of `outbound`, besides its routes and clusters. */
export const outboundKeys = {
  listen: listen()
    .default('127.0.0.1:15001')
    .describe('The address to which the local agent sends its calls'),
  targets: z
    .array(outboundTarget)
    .max(64)
    .default([])
    .describe(
      'A local address for each address that the app calls, for clients that can not set an authority; outrigger inject writes them',
    ),
  limits: listenerLimits.prefault({}),
  namespace: text('a namespace such as agents', /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/)
    .default('')
    .describe(
      "The namespace of Services without one; empty means the namespace of the pod: POD_NAMESPACE, the service account's, or resolv.conf's",
    ),
  cluster_domain: text(
    'a domain such as cluster.local',
    /^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$/,
  )
    .default('')
    .describe(
      'The domain of the Kubernetes cluster, as in NAME.NAMESPACE.svc.cluster.local; empty means the domain in resolv.conf, or cluster.local',
    ),
};

export type InboundKeys = SettingsOf<z.ZodObject<typeof inboundKeys>>;
export type OutboundTarget = SettingsOf<typeof outboundTarget>;
export type OutboundKeys = SettingsOf<z.ZodObject<typeof outboundKeys>>;
export type TlsAcceptorSettings = SettingsOf<typeof tls>;
