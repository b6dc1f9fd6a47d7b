/**
 * The configuration as the rest of the code sees it: camel case, units in the names, every value
 * present, nothing changeable. `schema.ts` describes the file form, `convert.ts` maps one to the
 * other. What each setting does is said once, in the schema's descriptions.
 *
 * A duration of 0 means "off" wherever the schema lets 0 through.
 */
import type { StatusName } from '../grpc/status.ts';

export interface Config {
  /** Service name in traces, metrics and HealthCheck. */
  readonly name: string;
  readonly version: string;
  readonly inbound: InboundConfig;
  readonly outbound: OutboundConfig;
  readonly llm: LlmConfig;
  readonly admin: ListenConfig;
  readonly metrics: ListenConfig;
  readonly health: ListenConfig;
  readonly drain: DrainConfig;
  readonly log: LogConfig;
}

export interface ListenConfig {
  readonly listen: string;
}

export interface InboundConfig {
  readonly listen: string;
  /** The local agent: `host:port` or `unix:/path`. */
  readonly app: string;
  readonly maxConcurrentCalls: number;
  readonly adaptiveConcurrency: boolean;
  readonly queue: { readonly maxCalls: number; readonly maxWaitMs: number };
  readonly rateLimit: { readonly callsPerSecond: number; readonly burst: number };
  readonly tasks: InboundTasksConfig;
  readonly tokenBudget: InboundTokenBudgetConfig;
  readonly maxCallDepth: number;
  readonly allowCallCycles: boolean;
  /** Calls are named to the agent in their baggage. */
  readonly callBaggage: boolean;
  /** What callers say of a client's certificate goes on to the agent. */
  readonly forwardClientCert: boolean;
  readonly maxMessageBytes: number;
  readonly timeoutMs: number;
  readonly maxTimeoutMs: number;
  readonly firstChunkTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly otherIdleTimeoutMs: number;
  readonly keepalive: InboundKeepaliveConfig;
  readonly limits: ListenerLimitsConfig;
  readonly health: AppHealthConfig;
  readonly tls: ServerTlsConfig | undefined;
}

/** How tasks that come again are found. */
export interface InboundTasksConfig {
  readonly deduplicate: boolean;
  readonly maxAgeMs: number;
  readonly maxBytes: number;
  readonly maxAnswerBytes: number;
  /** In lower case. */
  readonly scopeHeaders: readonly string[];
}

/** Whose `outrigger-token-budget` holds. */
export interface InboundTokenBudgetConfig {
  readonly from: 'anyone' | 'identified' | 'nobody';
  /** Patterns of names of which an identified caller must have one; empty is any. */
  readonly allowIdentities: readonly string[];
}

export interface InboundKeepaliveConfig {
  readonly timeMs: number;
  readonly timeoutMs: number;
  readonly maxConnectionAgeMs: number;
  /** The shortest interval between a downstream's PINGs that is not a flood (gRFC A8, A9). */
  readonly minTimeMs: number;
}

/** Bounds of one listener, against downstreams that ask too much. */
export interface ListenerLimitsConfig {
  readonly maxConnections: number;
  /** Per connection: SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2). */
  readonly maxConcurrentStreams: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113, section 6.5.2). */
  readonly maxHeaderBytes: number;
}

/** How the app's own grpc.health.v1 service is asked. */
export interface AppHealthConfig {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** Paths of PEM files. */
export interface ServerTlsConfig {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
  /** Patterns of names of which a caller's certificate must have one; empty is any. */
  readonly allowIdentities: readonly string[];
  /** Plain text is refused. */
  readonly required: boolean;
}

/** Paths of PEM files; `cert` and `key` come together. */
export interface ClientTlsConfig {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly serverName: string | undefined;
  /** Patterns of names of which an endpoint's certificate must have one; empty is any. */
  readonly allowIdentities: readonly string[];
}

export interface OutboundConfig {
  readonly listen: string;
  readonly limits: ListenerLimitsConfig;
  /** That short names of Services belong to; '' is the pod's own. */
  readonly namespace: string;
  /** Of the Kubernetes cluster; '' is the pod's own. */
  readonly clusterDomain: string;
  /** First match wins; when there is none the authority names the cluster. */
  readonly routes: readonly RouteConfig[];
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
}

export interface RouteConfig {
  readonly match: RouteMatchConfig;
  readonly cluster: string;
}

/** Everything given must hold; a match with nothing given takes every call. */
export interface RouteMatchConfig {
  /** As it is written; `cluster/authority.ts` compares it. */
  readonly authority: string | undefined;
  readonly pathPrefix: string | undefined;
  /** Lower-case names with the exact values they must have. */
  readonly headers: Readonly<Record<string, string>>;
  /** TaskRequest.agent_type. */
  readonly agentType: string | undefined;
}

export type BalancerName = 'peak_ewma' | 'least_request' | 'round_robin' | 'ring_hash';

export interface ClusterConfig {
  readonly name: string;
  /** Static addresses; empty when `dns` is given. */
  readonly endpoints: readonly string[];
  /** `host:port`, every address of which is an endpoint. */
  readonly dns: string | undefined;
  readonly dnsRefreshMs: number;
  /** The Service whose EndpointSlices are the endpoints. */
  readonly kubernetes: KubernetesConfig | undefined;
  readonly balancer: BalancerName;
  readonly connectTimeoutMs: number;
  readonly timeoutMs: number;
  readonly maxTimeoutMs: number;
  readonly firstChunkTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly otherIdleTimeoutMs: number;
  readonly keepalive: KeepaliveConfig;
  readonly limits: ClusterLimitsConfig;
  readonly circuitBreaker: CircuitBreakerConfig;
  readonly outlierDetection: OutlierDetectionConfig;
  readonly healthCheck: HealthCheckConfig;
  readonly retry: RetryConfig;
  readonly hedge: HedgeConfig;
  readonly task: TaskConfig;
  readonly tls: ClientTlsConfig | undefined;
}

export interface KubernetesConfig {
  readonly service: string;
  /** '' is the pod's own. */
  readonly namespace: string;
  readonly port: string | number;
  readonly zonePreference: boolean;
  /** '' is that of our node. */
  readonly zone: string;
}

export interface KeepaliveConfig {
  readonly timeMs: number;
  readonly timeoutMs: number;
}

export interface ClusterLimitsConfig {
  readonly maxConnections: number;
  readonly maxPendingCalls: number;
  readonly maxConcurrentCalls: number;
}

export interface CircuitBreakerConfig {
  readonly consecutiveFailures: number;
  readonly failurePercent: number;
  readonly minCalls: number;
  readonly windowMs: number;
  readonly recoveryTimeoutMs: number;
  readonly halfOpenMax: number;
}

export interface OutlierDetectionConfig {
  readonly consecutiveFailures: number;
  readonly intervalMs: number;
  readonly baseEjectionTimeMs: number;
  readonly maxEjectionTimeMs: number;
  readonly maxEjectionPercent: number;
}

/** How the endpoints are asked for their health. */
export interface HealthCheckConfig {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  readonly service: string;
  readonly protocol: 'grpc' | 'agent';
}

export interface RetryConfig {
  /** The first attempt included: 1 is no retry. */
  readonly maxAttempts: number;
  readonly on: readonly StatusName[];
  /** Full method names: `/package.Service/Method`. */
  readonly idempotentMethods: readonly string[];
  readonly perTryTimeoutMs: number;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  readonly budget: { readonly percent: number; readonly minConcurrent: number };
  readonly bufferBytes: number;
}

export interface HedgeConfig {
  readonly delayMs: number;
  readonly percentile: number;
  readonly maxExtra: number;
}

export interface TaskConfig {
  readonly statusIsVerdict: boolean;
  readonly deduplicate: boolean;
}

export interface LlmConfig {
  readonly listen: string;
  /** In order of preference. */
  readonly upstreams: readonly LlmUpstreamConfig[];
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly timeoutMs: number;
  readonly webSocketIdleTimeoutMs: number;
  readonly retry: LlmRetryConfig;
  readonly circuitBreaker: LlmCircuitBreakerConfig;
  readonly limits: LlmLimitsConfig;
  readonly streamUsage: 'auto' | 'always' | 'never';
  readonly singleFlight: boolean;
  readonly logBodies: boolean;
}

export interface LlmRetryConfig {
  /** The first attempt included, at all upstreams together. */
  readonly maxAttempts: number;
  readonly maxRetryAfterMs: number;
  readonly resend: boolean;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  readonly incompleteAnswers: boolean;
}

/** 0 is none in the first three. */
export interface LlmLimitsConfig {
  readonly requestsPerMinute: number;
  readonly tokensPerMinute: number;
  readonly tokensPerTask: number;
  readonly defaultOutputTokens: number;
  readonly maxWaitMs: number;
  readonly maxConcurrentRequests: number;
  readonly maxWebSockets: number;
  readonly maxRequestBytes: number;
  readonly maxBodyMemoryBytes: number;
  readonly maxAnswerBytes: number;
}

export interface LlmUpstreamConfig {
  readonly name: string;
  /** May hold credentials: never print it, `redact.ts` has the form for eyes. */
  readonly url: string;
  /** The environment variable that holds the key; the key itself is never in the configuration. */
  readonly apiKeyEnv: string | undefined;
  /** Replaces the model a request names; `undefined` leaves it. */
  readonly model: string | undefined;
  readonly adds:
    | readonly ('max_completion_tokens' | 'max_tokens' | 'max_output_tokens' | 'stream_options')[]
    | undefined;
}

export interface LlmCircuitBreakerConfig {
  readonly failurePercent: number;
  readonly minCalls: number;
  readonly windowMs: number;
  readonly recoveryTimeoutMs: number;
}

export interface DrainConfig {
  /** From "not ready" to the first GOAWAY. */
  readonly delayMs: number;
  /** For what is in flight; then it is ended. */
  readonly timeoutMs: number;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LogConfig {
  readonly level: LogLevel;
  /** One line a call. */
  readonly access: boolean;
  /** Request headers whose values are in it; in lower case. */
  readonly accessHeaders: readonly string[];
}
