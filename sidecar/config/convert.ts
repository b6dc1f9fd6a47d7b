/** From the file form to `Config`: durations to milliseconds, snake case to camel case, frozen. */
import { formatAddress, NO_APP } from '../cluster/address.ts';
import type { TimeLimits } from '../policy/deadline.ts';
import { readAddress } from './address.ts';
import type { ClusterConfig, Config, ListenerLimitsConfig, LlmConfig, RouteConfig } from './config.ts';
import { parseDurationMs } from './duration.ts';
import type { FileCluster, FileConfig } from './schema.ts';
import { type FileTimeLimits, STREAM_IDLE_TIMEOUT } from './schema-cluster.ts';

/** The immutable configuration that `file`, already validated, stands for. */
export function toConfig(file: FileConfig): Config {
  const { inbound, outbound } = file;
  return deepFreeze({
    name: file.name,
    version: file.version,
    inbound: {
      listen: address(inbound.listen),
      app: inbound.app === NO_APP ? NO_APP : address(inbound.app),
      maxConcurrentCalls: inbound.max_concurrent_calls,
      adaptiveConcurrency: inbound.adaptive_concurrency,
      queue: { maxCalls: inbound.queue.max_calls, maxWaitMs: ms(inbound.queue.max_wait) },
      rateLimit: {
        callsPerSecond: inbound.rate_limit.calls_per_second,
        burst: inbound.rate_limit.burst,
      },
      tasks: {
        deduplicate: inbound.tasks.deduplicate,
        maxAgeMs: ms(inbound.tasks.max_age),
        maxBytes: inbound.tasks.max_bytes,
        maxAnswerBytes: inbound.tasks.max_answer_bytes,
        scopeHeaders: inbound.tasks.scope_headers.map((name) => name.toLowerCase()),
      },
      tokenBudget: {
        from: inbound.token_budget.from,
        allowIdentities: inbound.token_budget.allow_identities,
      },
      maxCallDepth: inbound.max_call_depth,
      allowCallCycles: inbound.allow_call_cycles,
      callBaggage: inbound.call_baggage,
      forwardClientCert: inbound.forward_client_cert,
      maxMessageBytes: inbound.max_message_bytes,
      ...toTimeLimits(inbound),
      keepalive: {
        timeMs: ms(inbound.keepalive.time),
        timeoutMs: ms(inbound.keepalive.timeout),
        maxConnectionAgeMs: ms(inbound.keepalive.max_connection_age),
        minTimeMs: ms(inbound.keepalive.min_time),
      },
      limits: toListenerLimits(inbound.limits),
      health: { intervalMs: ms(inbound.health.interval), timeoutMs: ms(inbound.health.timeout) },
      tls: inbound.tls && {
        cert: inbound.tls.cert,
        key: inbound.tls.key,
        clientCa: inbound.tls.client_ca,
        allowIdentities: inbound.tls.allow_identities,
        required: inbound.tls.required,
      },
    },
    outbound: {
      listen: address(outbound.listen),
      limits: toListenerLimits(outbound.limits),
      namespace: outbound.namespace,
      clusterDomain: outbound.cluster_domain,
      routes: outbound.routes.map(toRoute),
      clusters: new FrozenMap(
        Object.entries(outbound.clusters).map(([name, value]) => [name, toCluster(name, value)] as const),
      ),
    },
    llm: toLlm(file.llm),
    admin: { listen: address(file.admin.listen) },
    metrics: { listen: address(file.metrics.listen) },
    health: { listen: address(file.health.listen) },
    drain: { delayMs: ms(file.drain.delay), timeoutMs: ms(file.drain.timeout) },
    log: {
      level: file.log.level,
      access: file.log.access,
      accessHeaders: file.log.access_headers,
    },
  });
}

function toTimeLimits(file: FileTimeLimits): TimeLimits {
  return {
    timeoutMs: ms(file.timeout),
    maxTimeoutMs: ms(file.max_timeout),
    firstChunkTimeoutMs: ms(file.first_chunk_timeout),
    idleTimeoutMs: ms(file.idle_timeout ?? STREAM_IDLE_TIMEOUT),
    otherIdleTimeoutMs: ms(file.idle_timeout ?? '0s'),
  };
}

function toListenerLimits(limits: FileConfig['inbound']['limits']): ListenerLimitsConfig {
  return {
    maxConnections: limits.max_connections,
    maxConcurrentStreams: limits.max_concurrent_streams,
    maxHeaderBytes: limits.max_header_bytes,
  };
}

function toRoute({ match, cluster }: FileConfig['outbound']['routes'][number]): RouteConfig {
  const headers = Object.entries(match.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  return {
    match: {
      authority: match.authority,
      pathPrefix: match.path_prefix,
      headers: Object.fromEntries(headers),
      agentType: match.agent_type,
    },
    cluster,
  };
}

function toCluster(name: string, file: FileCluster): ClusterConfig {
  const {
    keepalive,
    limits,
    circuit_breaker: breaker,
    outlier_detection: outlier,
    health_check: health,
    retry,
    hedge,
    task,
    tls,
  } = file;
  return {
    name,
    endpoints: (file.endpoints ?? []).map(address),
    dns: file.dns,
    dnsRefreshMs: ms(file.dns_refresh),
    kubernetes: file.kubernetes && {
      service: file.kubernetes.service,
      namespace: file.kubernetes.namespace,
      port: /^\d+$/.test(`${file.kubernetes.port}`) ? Number(file.kubernetes.port) : file.kubernetes.port,
      zonePreference: file.kubernetes.zone_preference,
      zone: file.kubernetes.zone,
    },
    balancer: file.balancer,
    connectTimeoutMs: ms(file.connect_timeout),
    ...toTimeLimits(file),
    keepalive: { timeMs: ms(keepalive.time), timeoutMs: ms(keepalive.timeout) },
    limits: {
      maxConnections: limits.max_connections,
      maxPendingCalls: limits.max_pending_calls,
      maxConcurrentCalls: limits.max_concurrent_calls,
    },
    circuitBreaker: {
      consecutiveFailures: breaker.consecutive_failures,
      failurePercent: breaker.failure_percent,
      minCalls: breaker.min_calls,
      windowMs: ms(breaker.window),
      recoveryTimeoutMs: ms(breaker.recovery_timeout),
      halfOpenMax: breaker.half_open_max,
    },
    outlierDetection: {
      consecutiveFailures: outlier.consecutive_failures,
      intervalMs: ms(outlier.interval),
      baseEjectionTimeMs: ms(outlier.base_ejection_time),
      maxEjectionTimeMs: ms(outlier.max_ejection_time),
      maxEjectionPercent: outlier.max_ejection_percent,
    },
    healthCheck: {
      intervalMs: ms(health.interval),
      timeoutMs: ms(health.timeout),
      unhealthyThreshold: health.unhealthy_threshold,
      healthyThreshold: health.healthy_threshold,
      service: health.service,
      protocol: health.protocol,
    },
    retry: {
      maxAttempts: retry.max_attempts,
      on: retry.on,
      idempotentMethods: retry.idempotent_methods,
      perTryTimeoutMs: ms(retry.per_try_timeout),
      backoff: { baseMs: ms(retry.backoff.base), maxMs: ms(retry.backoff.max) },
      budget: { percent: retry.budget.percent, minConcurrent: retry.budget.min_concurrent },
      bufferBytes: retry.buffer_bytes,
    },
    hedge: { delayMs: ms(hedge.delay), percentile: hedge.percentile, maxExtra: hedge.max_extra },
    task: { statusIsVerdict: task.status_is_verdict, deduplicate: task.deduplicate },
    tls: tls && {
      ca: tls.ca,
      cert: tls.cert,
      key: tls.key,
      serverName: tls.server_name,
      allowIdentities: tls.allow_identities,
    },
  };
}

function toLlm(file: FileConfig['llm']): LlmConfig {
  return {
    listen: address(file.listen),
    upstreams: file.upstreams.map((upstream) => ({
      name: upstream.name,
      url: upstream.url,
      apiKeyEnv: upstream.api_key_env ?? undefined,
      model: upstream.model ?? undefined,
      adds: upstream.adds ?? undefined,
    })),
    connectTimeoutMs: ms(file.connect_timeout),
    firstByteTimeoutMs: ms(file.first_byte_timeout),
    idleTimeoutMs: ms(file.idle_timeout),
    timeoutMs: ms(file.timeout),
    webSocketIdleTimeoutMs: ms(file.web_socket_idle_timeout),
    retry: {
      maxAttempts: file.retry.max_attempts,
      maxRetryAfterMs: ms(file.retry.max_retry_after),
      resend: file.retry.resend,
      backoff: { baseMs: ms(file.retry.backoff.base), maxMs: ms(file.retry.backoff.max) },
      incompleteAnswers: file.retry.incomplete_answers,
    },
    circuitBreaker: {
      failurePercent: file.circuit_breaker.failure_percent,
      minCalls: file.circuit_breaker.min_calls,
      windowMs: ms(file.circuit_breaker.window),
      recoveryTimeoutMs: ms(file.circuit_breaker.recovery_timeout),
    },
    limits: {
      requestsPerMinute: file.limits.requests_per_minute,
      tokensPerMinute: file.limits.tokens_per_minute,
      tokensPerTask: file.limits.tokens_per_task,
      defaultOutputTokens: file.limits.default_output_tokens,
      maxWaitMs: ms(file.limits.max_wait),
      maxConcurrentRequests: file.limits.max_concurrent_requests,
      maxWebSockets: file.limits.max_web_sockets,
      maxRequestBytes: file.limits.max_request_bytes,
      maxBodyMemoryBytes: file.limits.max_body_memory_bytes,
      maxAnswerBytes: file.limits.max_answer_bytes,
    },
    streamUsage: file.stream_usage,
    singleFlight: file.single_flight,
    logBodies: file.log_bodies,
  };
}

function ms(duration: string): number {
  return parseDurationMs(duration)!;
}

function address(text: string): string {
  return formatAddress(readAddress(text));
}

/** Object.freeze does not reach into a Map, so this one refuses by itself. */
class FrozenMap<K, V> extends Map<K, V> {
  #frozen = false;

  constructor(entries: Iterable<readonly [K, V]>) {
    super();
    for (const [key, value] of entries) super.set(key, value);
    this.#frozen = true;
  }

  override set(key: K, value: V): this {
    if (this.#frozen) throw new TypeError('the configuration can not be changed; load a new one');
    return super.set(key, value);
  }

  override delete(): boolean {
    throw new TypeError('the configuration can not be changed; load a new one');
  }

  override clear(): void {
    throw new TypeError('the configuration can not be changed; load a new one');
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const inner of value instanceof Map ? value.values() : Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
