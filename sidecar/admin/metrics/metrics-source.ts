/** The sources of the metrics: the counters and states of a running sidecar. */
import type { Cluster } from '../../cluster/cluster.ts';
import type { Endpoint } from '../../cluster/endpoint.ts';
import type { Sidecar } from '../../data-plane/sidecar.ts';
import type { CircuitBreaker } from '../../policy/circuit-breaker.ts';
import type { Finding } from '../../policy/now/finding.ts';
import { REASONS } from '../../policy/reasons.ts';
import type { ListenerStats } from '../../telemetry/call-stats.ts';
import type { TaskStats } from '../../telemetry/task-stats.ts';
import type { SpanCounts } from '../../telemetry/tracing/span-queue.ts';
import type { Credentials } from '../../tls/credentials.ts';
import type { MeasuredBus } from './bus-metrics.ts';
import type { MeasuredJournal } from './journal-metrics.ts';
import type { KnownSeries } from './known-series.ts';
import type { MeasuredLlm } from './llm-metrics.ts';
import type { MeasuredMcp } from './mcp-metrics.ts';
import { measuredLlm } from './measured-llm.ts';

/** The numbers of an endpoint. */
export type MeasuredEndpoint = Pick<Endpoint, 'address' | 'attemptsByStatus'> & {
  readonly pool: Pick<Endpoint['pool'], 'connectionCount'>;
};

/** The numbers of a cluster. */
export type MeasuredCluster = Pick<
  Cluster,
  'name' | 'activeCalls' | 'retries' | 'streamsResumed' | 'hedges' | 'calls' | 'connectFailures'
> & {
  readonly outliers: Pick<Cluster['outliers'], 'ejections'> & {
    readonly detector: {
      readonly endpoints: Iterable<{ readonly ejected: boolean; readonly reason: string | undefined }>;
    };
  };
  /** The present endpoints, and removed ones with calls now or recently. */
  reportedEndpoints(): Iterable<MeasuredEndpoint>;
};

/** The circuit of one cluster and method. */
export interface MeasuredCircuit {
  readonly cluster: string;
  /** The path; '' for the methods that share a circuit. */
  readonly method: string;
  readonly breaker: Pick<CircuitBreaker, 'state' | 'rejections'>;
}

/** An agent that has places of its own beside others of the same app. */
export interface MeasuredAgentType {
  readonly agentType: string;
  readonly active: number;
  readonly queued: number;
  /** Calls that may run at a time. */
  readonly limit: number;
  /** Calls that got no place. */
  readonly refused: number;
}

/** One of our own certificates that comes from files. */
export type MeasuredCertificate = Pick<Credentials, 'where' | 'whereAuthorities' | 'problem'> & {
  readonly material:
    | { readonly expiresAtMs: number; readonly authorities: { readonly expiresAtMs: number } | undefined }
    | undefined;
};

/** The sources of all numbers. Each scrape reads everything anew, so a reload need not call us. */
export interface MetricsSource {
  readonly version: string;
  readonly ready: () => boolean;
  /** Whether the configuration file is refused while the last good one is in use. */
  readonly configRefused?: () => boolean;
  /** The writer of the log. */
  readonly logLines?: { readonly dropped: number };
  /** The findings of "Now"; a bounded list. */
  readonly findings?: () => Iterable<Pick<Finding, 'kind' | 'severity' | 'about'>>;
  readonly listeners: readonly ListenerStats[];
  readonly clusters: () => Iterable<MeasuredCluster>;
  readonly circuits: () => Iterable<MeasuredCircuit>;
  /** The cluster of the local app, whose calls are counted at the listener. */
  readonly app?: MeasuredCluster;
  /** Whether there is an app. Without one there are no tasks to count. */
  readonly hasApp?: () => boolean;
  /** The series to show before their first event. */
  readonly known?: KnownSeries;
  readonly tasks: TaskStats;
  /** The agents that have places of their own. */
  readonly agentTypes?: () => Iterable<MeasuredAgentType>;
  readonly certificates?: () => Iterable<MeasuredCertificate>;
  /** Repeated tasks, by what became of them. */
  readonly taskStore: { readonly joined: number; readonly replayed: number; readonly refused: number };
  readonly bus?: MeasuredBus;
  /** Undefined without an LLM egress. */
  readonly llm?: MeasuredLlm;
  /** Undefined without an MCP egress. */
  readonly mcp?: MeasuredMcp;
  readonly journal?: MeasuredJournal;
  /** Undefined when tracing is off. */
  readonly tracing?: { readonly counts: SpanCounts; readonly waiting: () => number } | undefined;
}

/** The sources that the process adds to those of the data plane. */
type ProcessSource = Required<
  Pick<MetricsSource, 'version' | 'configRefused' | 'logLines' | 'findings' | 'tracing'>
>;

export function metricsSource(sidecar: Sidecar, ofProcess: ProcessSource): MetricsSource {
  const { inbound, outbound, llm } = sidecar;
  return {
    ...ofProcess,
    ready: () => sidecar.notReadyBecause === undefined,
    listeners: [inbound.stats, outbound.stats, llm.listenerStats],
    clusters: () => [inbound.app, ...outbound.clusters.reported()],
    circuits: () => circuitsOf(sidecar),
    app: inbound.app,
    hasApp: () => inbound.appHealth.state !== 'none',
    known: knownSeries(sidecar),
    tasks: inbound.tasks,
    agentTypes: () => inbound.context.admissions!.agentTypes,
    taskStore: inbound.taskRuns.store,
    certificates: () => sidecar.credentials(),
    bus: sidecar.busSide.bus,
    llm: measuredLlm(llm, sidecar.clock),
    mcp: sidecar.mcp,
    journal: sidecar.journal,
  };
}

function* circuitsOf({ outbound }: Sidecar): Generator<MeasuredCircuit> {
  for (const cluster of outbound.clusters.clusters.values())
    for (const [method, breaker] of cluster.policies.breakers.entries())
      yield { cluster: cluster.name, method, breaker };
}

/** The series that the configuration names. The result follows reloads. */
function knownSeries(sidecar: Sidecar): KnownSeries {
  return {
    reasons: Object.keys(REASONS),
    agent: () => sidecar.inbound.context.name,
    models: () =>
      sidecar.config.llm.upstreams.flatMap(({ name, model }) =>
        model === undefined ? [] : [{ upstream: name, model }],
      ),
  };
}
