/** Builds the resources at an agent's pods: allowed callers, TLS, limits, and telemetry. */
import type { Config } from '../../config/config.ts';
import { NO_APP, parseAddress } from '../../net/address.ts';
import { type Fields, type Named, note, notesOf, type Resource, resource } from './resource.ts';

/** A caller in Istio: the service account of its pods. */
export interface Caller extends Named {}

/** Requires mutual TLS for all traffic to the agent's pods. */
export function strictTls(workload: Named, { inbound }: Config): Resource {
  const notes = notesOf(
    inbound.tls === undefined &&
      note(
        'mtls',
        'inbound.tls: the configuration has none; Istio uses its own TLS, and refuses plain text.',
      ),
    inbound.tls !== undefined &&
      note('mtls', 'inbound.tls: Istio uses and renews its own certificates instead of the files.'),
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
    'Its callers, browsers and ingress controllers, may be outside the mesh. Use STRICT when all of them are in it.';
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
        'The service accounts of the callers. All other callers get PERMISSION_DENIED.',
      ),
      others.length > 0 &&
        note(
          'rules.0.from.0.source.principals',
          `inbound.tls.allow_identities ${others.join(', ')}: Istio identifies callers only by SPIFFE names, which may end with a star. Omitted.`,
        ),
      note('rules.0.to.0.operation.methods', 'gRPC is POST. Reflection is not among the paths.'),
      port === undefined &&
        note(
          'rules.0.to.0.operation',
          `inbound.app is ${inbound.app === NO_APP ? 'none' : 'a Unix socket'}, so the rule has no port.`,
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
        "inbound.max_concurrent_calls: Istio answers calls above it with UNAVAILABLE, the sidecar with RESOURCE_EXHAUSTED and a time to wait. The outlier detection of Istio's callers counts these answers against the pod.",
      ),
      inbound.adaptiveConcurrency && note(path, "inbound.adaptive_concurrency: Istio's limit is constant."),
      inbound.queue.maxCalls > 0 && note(path, 'inbound.queue: Istio refuses calls above the limit at once.'),
      inbound.rateLimit.callsPerSecond > 0 &&
        note(
          path,
          'inbound.rate_limit: needs an EnvoyFilter with local rate limits, which do not distinguish callers, or a rate limit service.',
        ),
      inbound.tasks.deduplicate &&
        note('inboundConnectionPool', 'inbound.tasks: a task that arrives twice runs twice.'),
      inbound.tokenBudget.from !== 'anyone' &&
        note('inboundConnectionPool', 'inbound.token_budget: Istio counts no tokens.'),
      (inbound.maxCallDepth > 0 || !inbound.allowCallCycles) &&
        note(
          'inboundConnectionPool',
          'inbound.max_call_depth, allow_call_cycles: Istio does not stop agents that call each other in a circle.',
        ),
      note(
        'inboundConnectionPool',
        `inbound.max_message_bytes ${inbound.maxMessageBytes}: messages of any size pass; the agent's gRPC library has a limit of its own.`,
      ),
      note(
        'inboundConnectionPool',
        "inbound.timeout, max_timeout, first_chunk_timeout, idle_timeout: Istio has no time limits at the callee; the callers' proxies apply those of its VirtualService.",
      ),
      note(
        'inboundConnectionPool',
        'inbound.keepalive: max_connection_age is in the DestinationRule; Istio sends callers no PING, and enforces no minimum interval of theirs.',
      ),
      note(
        'inboundConnectionPool',
        'inbound.limits: Envoy bounds connections, streams on each, and the size of headers by its own numbers.',
      ),
      note(
        'inboundConnectionPool',
        'inbound.health: Istio answers no health checks for the agent; the pod needs its own probes.',
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
      'istio_requests_total has grpc_response_status, trailers included. Istio has no metrics of tasks, tokens, retries by reason, and circuits.',
    ),
    note(
      'tracing',
      "All calls, as OTEL_TRACES_SAMPLER's default does. Istio exports spans only if the mesh has a tracing provider. Spans end at the proxies, and show neither attempts nor reasons.",
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
