/** The models of each provider in the last minute, for `/stats` and the page: what is asked, what fails, what waits. */
import type { Sidecar } from '../data-plane/sidecar.ts';
import { usdOf } from '../policy/money.ts';
import { NO_UPSTREAM } from '../telemetry/llm-stats.ts';

/** The models shown: the busiest ones. */
const MAX_ROWS = 100;

export function llmModels(sidecar: Sidecar, wallMs: number) {
  const { llm } = sidecar;
  const nowMs = sidecar.clock();
  const rows = [...llm.stats.shown()]
    .filter(({ upstream }) => upstream !== NO_UPSTREAM)
    .map((pair) => {
      const { requests, tokens, nanos, errors, firstTokenMs } = llm.minutes.of(pair, nowMs);
      const upstream = llm.egress?.upstreams.find(({ name }) => name === pair.upstream);
      const state = upstream?.models.get(pair.model);
      const restsForMs = Math.max(0, (state?.restsUntilMs ?? 0) - nowMs);
      return {
        upstream: pair.upstream,
        model: pair.model,
        active_requests: state?.inUse ?? 0,
        waiting_requests: upstream?.records.of(pair.model).awaiting ?? 0,
        last_minute: {
          requests,
          tokens,
          cost_usd: nanos === undefined ? null : usdOf(nanos),
          errors,
          first_token_p50_ms: firstTokenMs.p50,
          first_token_p95_ms: firstTokenMs.p95,
        },
        cooldown_ends: restsForMs > 0 ? new Date(wallMs + restsForMs).toISOString() : null,
        cooldown_because: restsForMs > 0 ? (state?.restsBecause ?? null) : null,
      };
    });
  return rows.sort((a, b) => b.last_minute.requests - a.last_minute.requests).slice(0, MAX_ROWS);
}

/** The callers of the service: what runs for each, and what is left of its day here. */
export function llmCallers(sidecar: Sidecar) {
  const { egress } = sidecar.llm;
  return (egress?.callers ?? []).map(({ name, active, dayTokensLeft }) => ({
    name,
    active_requests: active,
    day_tokens_held: dayTokensLeft ?? null,
  }));
}
