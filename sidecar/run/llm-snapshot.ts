/** The state of the LLM egress: for `/stats`, and for metrics. Never a key; URLs without what is secret in them. */
import { redactUrl } from '../config/redact.ts';
import type { LlmListener } from '../listeners/llm.ts';
import { CIRCUIT_STATE_VALUE } from '../policy/circuit-state.ts';
import type { Sidecar } from '../sidecar.ts';
import type { MeasuredLlm } from '../telemetry/llm-metrics.ts';

/** Nothing of an upstream is known before the first request; it stands as its settings say. */
export function llmSnapshot(sidecar: Sidecar): unknown {
  const { llm, config } = sidecar;
  const nowMs = sidecar.clock();
  return {
    address: sidecar.llmAddress,
    active_requests: llm.activeRequests,
    waiting_requests: llm.egress?.waiting ?? 0,
    upstreams: config.llm.upstreams.map(({ name, url, model }) => {
      const upstream = llm.egress?.upstreams.find((one) => one.name === name);
      const left = upstream?.learned.left(nowMs);
      return {
        name,
        url: redactUrl(url),
        model: model ?? null,
        state: (upstream?.breaker.state ?? 'closed').replace('_', '-'),
        probe_in_ms: upstream?.breaker.state === 'open' ? inMs(upstream.breaker.probeAtMs, nowMs) : 0,
        rejections: upstream?.breaker.rejections ?? 0,
        cooling_for_ms: upstream === undefined ? 0 : inMs(upstream.cooldownUntilMs, nowMs),
        active_requests: upstream?.activeRequests ?? 0,
        requests_left: left?.requests ?? null,
        tokens_left: left?.tokens ?? null,
      };
    }),
    requests: [...llm.stats.pairs.values()].map((pair) => ({
      upstream: pair.upstream,
      model: pair.model,
      outcomes: Object.fromEntries(pair.outcomes),
      attempts: Object.fromEntries(pair.attempts),
      retries: pair.retries,
      tokens: { ...pair.tokens },
    })),
  };
}

export function measuredLlm(llm: LlmListener, clock: () => number): MeasuredLlm {
  return {
    stats: llm.stats,
    waiting: () => llm.egress?.waiting ?? 0,
    upstreams: () => {
      const nowMs = clock();
      return (llm.egress?.upstreams ?? []).map(({ name, breaker, cooldownUntilMs, learned }) => {
        const left = learned.left(nowMs);
        return {
          name,
          state: CIRCUIT_STATE_VALUE[breaker.state],
          rejections: breaker.rejections,
          coolingSeconds: inMs(cooldownUntilMs, nowMs) / 1000,
          requestsLeft: left.requests,
          tokensLeft: left.tokens,
        };
      });
    },
  };
}

function inMs(atMs: number, nowMs: number): number {
  return Math.max(0, Math.round(atMs - nowMs));
}
