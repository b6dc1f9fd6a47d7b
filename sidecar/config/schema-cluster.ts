/** The file form of one outbound cluster. */
import * as z from 'zod';
import { STATUS_NAMES } from '../grpc/status.ts';
import {
  duration,
  file,
  flag,
  identity,
  integer,
  oneOf,
  percent,
  portOfPods,
  text,
} from '../settings/kinds.ts';
import { dnsTarget, target } from './address-kinds.ts';

/** Every gRPC status that is an error, by name. */
const ERROR_CODES = STATUS_NAMES.filter((name) => name !== 'OK');

const MANY = 1_000_000;

const keepalive = z.strictObject({
  time: duration('zero')
    .default('30s')
    .describe('Silence after which a PING asks if the peer lives; 0s is off'),
  timeout: duration('positive').default('10s').describe('How long the answer to a PING may take'),
});

const limits = z.strictObject({
  max_connections: integer(1, 4096).default(16).describe('Connections to one endpoint'),
  max_pending_calls: integer(0, MANY).default(1024).describe('Calls that may wait for a connection'),
  max_concurrent_calls: integer(1, MANY).default(1024).describe('Calls in flight in the whole cluster'),
});

const circuitBreaker = z.strictObject({
  consecutive_failures: integer(0, MANY)
    .default(5)
    .describe('Failures in a row that open it; 0 turns the rule off'),
  failure_percent: percent().default(50).describe('Share of failures in the window that opens it; 0 is off'),
  min_calls: integer(1, MANY).default(20).describe('Calls in the window before the share counts'),
  window: duration('positive').default('10s').describe('The window the share is taken over'),
  recovery_timeout: duration('positive')
    .default('30s')
    .describe('From open to the first probe, unless an endpoint that was away comes back sooner'),
  half_open_max: integer(1, 1000).default(3).describe('Probes at a time, and successes that close it'),
});

const outlierDetection = z.strictObject({
  consecutive_failures: integer(0, MANY)
    .default(3)
    .describe('Failures in a row that eject an endpoint; 0 is off'),
  interval: duration('positive').default('30s').describe('How often ejected endpoints are looked at'),
  base_ejection_time: duration('positive').default('30s').describe('The first ejection; each next is longer'),
  max_ejection_time: duration('positive').default('300s').describe('The longest ejection'),
  max_ejection_percent: percent().default(50).describe('The most of the endpoints that may be ejected'),
});

const healthCheck = z.strictObject({
  interval: duration('zero')
    .default('0s')
    .describe('How often each endpoint is asked for its health; 0s is off'),
  timeout: duration('positive').default('2s').describe('How long its answer may take'),
  unhealthy_threshold: integer(1, 100)
    .default(3)
    .describe('Checks in a row without an answer, or with an error, that eject; NOT_SERVING does at once'),
  healthy_threshold: integer(1, 100).default(2).describe('Checks in a row that must pass to bring it back'),
  service: text('the name of a service such as agent.AgentService, or nothing', /^[A-Za-z0-9_./-]*$/)
    .default('')
    .describe('Whose health is asked of grpc.health.v1; the whole server when empty'),
  protocol: oneOf(['grpc', 'agent'])
    .default('grpc')
    .describe('grpc asks grpc.health.v1.Health/Check, agent asks agent.AgentService/HealthCheck'),
});

const retry = z.strictObject({
  max_attempts: integer(1, 10).default(3).describe('Attempts, the first one included; 1 is no retry'),
  on: z
    .array(oneOf(ERROR_CODES))
    .max(ERROR_CODES.length)
    .default(['UNAVAILABLE'])
    .describe('Status codes that may be tried again'),
  idempotent_methods: z
    .array(text('a method such as /agent.AgentService/ProcessTask', /^\/[A-Za-z0-9_.]+\/[A-Za-z0-9_]+$/))
    .max(1024)
    .default([])
    .describe('Methods that may run twice: /package.Service/Method'),
  per_try_timeout: duration('zero').default('0s').describe('The most one attempt may take; 0s is off'),
  backoff: z
    .strictObject({
      base: duration('positive').default('25ms').describe('The first wait before a retry, before jitter'),
      max: duration('positive').default('250ms').describe('The longest wait before a retry'),
    })
    .prefault({}),
  budget: z
    .strictObject({
      percent: percent().default(20).describe('Retries as a share of the calls in flight'),
      min_concurrent: integer(0, MANY).default(3).describe('Retries that are always allowed at a time'),
    })
    .prefault({}),
  buffer_bytes: integer(0, 16_777_216)
    .default(65_536)
    .describe('Request bytes kept for a retry; a larger request is tried once'),
});

const hedge = z.strictObject({
  delay: duration('zero')
    .default('0s')
    .describe('When to send a second attempt beside a slow one; 0s is off'),
  percentile: integer(0, 100)
    .default(0)
    .describe('Send it when an attempt takes longer than this share of the answers did; 0 is off'),
  max_extra: integer(1, 5).default(1).describe('Extra attempts; idempotent methods only'),
});

const task = z.strictObject({
  status_is_verdict: flag()
    .default(true)
    .describe('OK with TaskResponse.status FAILED or TIMEOUT is a failure'),
  deduplicate: flag()
    .default(true)
    .describe('The other side de-duplicates by task id, so tasks may be retried'),
});

const tls = z.strictObject({
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

/** The idle timeout of `StreamProcess` where none is given. */
export const STREAM_IDLE_TIMEOUT = '5m';

/** The time limits of calls, which the inbound side and each cluster have. */
export const timeLimits = {
  timeout: duration('zero')
    .default('60s')
    .describe(
      'The most a call of ProcessTask may take whose caller names no deadline; no other method has one; 0s is off',
    ),
  max_timeout: duration('zero')
    .default('0s')
    .describe("The most a caller's own deadline may be, of any method; 0s leaves it as it is"),
  first_chunk_timeout: duration('zero')
    .default('0s')
    .describe('To the first message of an answer; 0s is off'),
  idle_timeout: duration('zero')
    .nullable()
    .default(null)
    .describe(
      `How long neither side may send anything, from the request on: of every method but ProcessTask when given, 0s is off; by default, which null stands for, ${STREAM_IDLE_TIMEOUT} of StreamProcess only`,
    ),
};

/** `outbound.clusters.NAME`. */
export const cluster = z.strictObject({
  endpoints: z
    .array(target())
    .min(1)
    .max(4096)
    .optional()
    .describe('Static addresses; give these or dns, not both'),
  dns: dnsTarget().optional().describe('A name and a port; every address of the name is an endpoint'),
  kubernetes: z
    .strictObject({
      service: text(
        'the name of a Service such as writing-agent',
        /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/,
      ).describe('Whose EndpointSlices are watched'),
      namespace: text('a namespace such as agents', /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/)
        .default('')
        .describe("Where it is; the pod's own when empty"),
      port: portOfPods().describe('The name of a port of the Service, or a number of the pods'),
      zone_preference: flag()
        .default(true)
        .describe('Call endpoints in our own zone while they are enough and well'),
      zone: text('a zone such as eu-west-1a', /^[A-Za-z0-9._-]{0,63}$/)
        .default('')
        .describe('Our own; that of the node which NODE_NAME names when empty'),
    })
    .optional()
    .describe('The EndpointSlices of a Service, asked of the Kubernetes API; in place of endpoints or dns'),
  dns_refresh: duration('positive').default('5s').describe('How often the name is looked up'),
  balancer: oneOf(['peak_ewma', 'least_request', 'round_robin', 'ring_hash'])
    .default('peak_ewma')
    .describe('How an endpoint is picked; ring_hash picks by task id'),
  connect_timeout: duration('positive').default('5s').describe('TCP, TLS and the first SETTINGS together'),
  ...timeLimits,
  keepalive: keepalive.prefault({}),
  limits: limits.prefault({}),
  circuit_breaker: circuitBreaker.prefault({}),
  outlier_detection: outlierDetection.prefault({}),
  health_check: healthCheck.prefault({}),
  retry: retry.prefault({}),
  hedge: hedge.prefault({}),
  task: task.prefault({}),
  tls: tls.optional().describe('TLS to the endpoints; cleartext when absent'),
});
