/** The settings of the inbound and the outbound listener. */
import * as z from 'zod';
import { queue, rateLimit } from '../policy/admission-settings.ts';
import { timeLimits } from '../policy/time-limit-settings.ts';
import { appTarget, listen } from '../settings/address-kinds.ts';
import { duration, file, flag, identity, integer, oneOf, text } from '../settings/kinds.ts';
import type { SettingsOf } from '../settings/settings-of.ts';
import { tasks } from '../task/task-store-settings.ts';

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

const tls = z.strictObject({
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
});

/** The keys of `inbound`. */
export const inboundKeys = {
  listen: listen().default('0.0.0.0:15006').describe('Where other agents reach this one'),
  app: appTarget()
    .default('127.0.0.1:50051')
    .describe('The local agent: host:port or unix:/path; none for a pod that only calls'),
  max_concurrent_calls: integer(1, MANY).default(1024).describe('Above it: RESOURCE_EXHAUSTED with pushback'),
  queue: queue
    .prefault({})
    .describe('For calls above max_concurrent_calls; those that would not be served in time are refused'),
  rate_limit: rateLimit
    .prefault({})
    .describe('For each caller by itself: by its certificate, or by its address'),
  tasks: tasks.prefault({}),
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
  tls: tls.optional().describe('TLS for callers; cleartext when absent'),
};

/** The keys of `outbound`, besides its routes and clusters. */
export const outboundKeys = {
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
};

export type InboundKeys = SettingsOf<z.ZodObject<typeof inboundKeys>>;
export type OutboundKeys = SettingsOf<z.ZodObject<typeof outboundKeys>>;
export type TlsAcceptorSettings = SettingsOf<typeof tls>;
