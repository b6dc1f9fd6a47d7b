/** Builds the resources at an agent's pods: allowed callers, TLS, limits, and telemetry. */

import { NO_APP, parseAddress } from '../../cluster/address.ts';
import type { Config } from '../../config/config.ts';
import { type Fields, type Named, note, notesOf, type Resource, resource } from './resource.ts';

/** A caller in Istio: the service account of its pods. */
export interface Caller extends Named {}

/** Requires mutual TLS for all traffic to the agent's pods. */
export function strictTls(workload: Named, { inbound }: Config): Resource {
  const notes = notesOf(
    inbound.tls === undefined &&
      note(
        'mtls',
        'inbound.tls: none in the configuration; Istio brings its own, and plain text is refused.',
      ),
    inbound.tls !== undefined &&
      note('mtls', "inbound.tls: Istio's own certificates are used instead of the files, and renewed by it."),
  );
  return resource(
    'PeerAuthentication',
    workload,
    { selector: selectorOf(workload), mtls: { mode: 'STRICT' } },
    notes,
  );
}

/** For a workload with callers outside the mesh. */
export function permissiveTls(workload: Named): Resource {
  const why =
    'Its own callers, browsers and ingress controllers, need not be in the mesh. STRICT once they are.';
  return resource(
    'PeerAuthentication',
    workload,
    { selector: selectorOf(workload), mtls: { mode: 'PERMISSIVE' } },
    [note('mtls', why)],
  );
}

/**
 * Allows only these callers and these services. Istio denies what no rule of the workload allows.
 *
 * @param paths `/package.Service/*`
 */
export function callersAllowed(
  workload: Named,
  { inbound }: Config,
  {
    callers,
    trustDomain,
    paths,
  }: { callers: readonly Caller[]; trustDomain: string; paths: readonly string[] },
): Resource {
  const port = appPort(inbound);
  const identities = inbound.tls?.allowIdentities ?? [];
  const principals = [
    ...callers.map(({ name, namespace }) => `${trustDomain}/ns/${namespace}/sa/${name}`),
    ...identities.filter(isPrincipal).map((name) => name.slice('spiffe://'.length)),
  ];
  const others = identities.filter((name) => !isPrincipal(name));
  const spec = {
    selector: selectorOf(workload),
    action: 'ALLOW',
    rules: [
      {
        from: [{ source: { principals: [...new Set(principals)] } }],
        to: [
          { operation: { methods: ['POST'], paths, ports: port === undefined ? undefined : [String(port)] } },
        ],
      },
    ],
  };
  return resource(
    'AuthorizationPolicy',
    workload,
    spec,
    notesOf(
      note(
        'rules.0.from.0.source.principals',
        'The service accounts of the callers. Everybody else gets PERMISSION_DENIED.',
      ),
      others.length > 0 &&
        note(
          'rules.0.from.0.source.principals',
          `inbound.tls.allow_identities ${others.join(', ')}: Istio knows callers by SPIFFE names only, with a star at the end or none.`,
        ),
      note('rules.0.to.0.operation.methods', 'gRPC is POST. Reflection is not among the paths.'),
      port === undefined &&
        note(
          'rules.0.to.0.operation',
          `inbound.app is ${inbound.app === NO_APP ? 'none' : 'a Unix socket'}, so no port is named.`,
        ),
    ),
  );
}

/** Limits at the callee, for all callers together. */
export function inboundLimits(workload: Named, { inbound }: Config): Resource {
  const spec = {
    workloadSelector: { labels: labelsOf(workload) },
    inboundConnectionPool: { http: { http2MaxRequests: inbound.maxConcurrentCalls } },
  };
  const path = 'inboundConnectionPool.http.http2MaxRequests';
  return resource(
    'Sidecar',
    workload,
    spec,
    notesOf(
      note(
        path,
        'inbound.max_concurrent_calls: above it UNAVAILABLE, where the sidecar says RESOURCE_EXHAUSTED with the time to wait. A caller of Istio that ejects by errors counts it against the pod.',
      ),
      inbound.adaptiveConcurrency && note(path, 'inbound.adaptive_concurrency: the limit stays as it is.'),
      inbound.queue.maxCalls > 0 && note(path, 'inbound.queue: calls above the limit do not wait.'),
      inbound.rateLimit.callsPerSecond > 0 &&
        note(
          path,
          'inbound.rate_limit: needs an EnvoyFilter with local rate limits, which knows no caller, or a rate limit service.',
        ),
      inbound.tasks.deduplicate &&
        note('inboundConnectionPool', 'inbound.tasks: a task that comes twice runs twice.'),
      inbound.tokenBudget.from !== 'anyone' &&
        note('inboundConnectionPool', 'inbound.token_budget: Istio counts no tokens.'),
      (inbound.maxCallDepth > 0 || !inbound.allowCallCycles) &&
        note(
          'inboundConnectionPool',
          'inbound.max_call_depth, allow_call_cycles: agents that call each other in a circle are not stopped.',
        ),
      note(
        'inboundConnectionPool',
        `inbound.max_message_bytes ${inbound.maxMessageBytes}: messages of any size pass; the agent's gRPC library has a limit of its own.`,
      ),
      note(
        'inboundConnectionPool',
        'inbound.timeout, max_timeout, first_chunk_timeout, idle_timeout: no time limits at the callee; those in its VirtualService are kept by the proxies of its callers.',
      ),
      note(
        'inboundConnectionPool',
        'inbound.keepalive: of it, max_connection_age is in the DestinationRule; Istio sends callers no PING, and holds them to no shortest interval.',
      ),
      note(
        'inboundConnectionPool',
        'inbound.limits: connections, streams on each and the size of headers are bounded by Envoy, by its own numbers.',
      ),
      note(
        'inboundConnectionPool',
        'inbound.health: Istio answers no health check for the agent; the pod needs probes of its own.',
      ),
    ),
  );
}

export function telemetry(workload: Named, { log }: Config): Resource {
  const logging: Fields = log.access ? { providers: [{ name: 'envoy' }] } : { disabled: true };
  const spec = {
    selector: selectorOf(workload),
    accessLogging: [logging],
    metrics: [{ providers: [{ name: 'prometheus' }] }],
    tracing: [{ randomSamplingPercentage: 100 }],
  };
  return resource('Telemetry', workload, spec, [
    note('accessLogging', `log.access ${log.access}.`),
    note(
      'metrics',
      'istio_requests_total has grpc_response_status, trailers included. Tasks, tokens, retries by reason and circuits have no metric.',
    ),
    note(
      'tracing',
      "All calls, as OTEL_TRACES_SAMPLER's default does. Sent only where the mesh has a tracing provider. Spans end at the proxies; attempts and reasons are not in them.",
    ),
  ]);
}

function selectorOf(workload: Named): Fields {
  return { matchLabels: labelsOf(workload) };
}

function labelsOf({ name }: Named): Fields {
  return { 'app.kubernetes.io/name': name };
}

function appPort({ app: text }: Config['inbound']): number | undefined {
  if (text === NO_APP) return undefined;
  const app = parseAddress(text);
  return app.kind === 'tcp' ? app.port : undefined;
}

/** The valid form of a principal: a SPIFFE ID, with a star only at its end. */
function isPrincipal(name: string): boolean {
  return name.startsWith('spiffe://') && !name.slice(0, -1).includes('*');
}
