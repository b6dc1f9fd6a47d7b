/** The state of the LLM egress, for `/stats` and `/live`. It never holds a key, and its URLs are redacted. */
import { redactUrl } from '../config/redact.ts';
import type { Sidecar } from '../data-plane/sidecar.ts';
import type { ModelState } from '../llm/provider/model-state.ts';
import type { Upstream } from '../llm/provider/upstream.ts';
import { usdOf } from '../policy/money.ts';
import type { Spender } from '../telemetry/spenders.ts';
import { llmCallers, llmModels } from './llm-models.ts';

/** The models shown of an upstream; those that need attention come first. */
const MAX_MODELS = 100;

/** The names shown of those who spend most. */
const MAX_SPENDERS = 10;

/** An upstream without a request has no state yet, so its settings stand in. */
export function llmSnapshot(sidecar: Sidecar) {
  const { llm, config } = sidecar;
  const nowMs = sidecar.clock();
  return {
    address: sidecar.llmAddress,
    active_requests: llm.activeRequests,
    waiting_requests: llm.egress?.waiting ?? 0,
    body_bytes: llm.egress?.bodyBytes ?? 0,
    upstreams: config.llm.upstreams.map(({ name, url, model }) => {
      const upstream = llm.egress?.upstreams.find((one) => one.name === name);
      const models =
        upstream === undefined ? [] : modelsOf(upstream, config.llm.retry.maxRetryAfterMs, nowMs);
      return {
        name,
        url: redactUrl(url),
        model: model ?? null,
        state: (upstream?.breaker.state ?? 'closed').replace('_', '-'),
        probe_in_ms: upstream?.breaker.state === 'open' ? inMs(upstream.breaker.probeAtMs, nowMs) : 0,
        rejections: upstream?.breaker.rejections ?? 0,
        // The longest cooldown of its models, and the smallest remaining quota of any of them.
        cooling_for_ms: Math.max(0, ...models.map((one) => one.cooling_for_ms)),
        active_requests: upstream?.activeRequests ?? 0,
        // They wait until we may try the upstream again, by its answers or after the last failure.
        waiting_requests: upstream?.records.awaiting ?? 0,
        requests_left: least(models.map((one) => one.requests_left)),
        tokens_left: least(models.map((one) => one.tokens_left)),
        models,
      };
    }),
    models: llmModels(sidecar, Date.now()),
    callers: llmCallers(sidecar),
    requests: Array.from(llm.stats.shown(), (pair) => ({
      upstream: pair.upstream,
      model: pair.model,
      outcomes: Object.fromEntries(pair.outcomes),
      attempts: Object.fromEntries(pair.attempts),
      retries: pair.retries,
      tokens: { ...pair.tokens },
      cost_usd: usdOf(sumOf(pair.costs.values())),
      unpriced: pair.unpriced,
    })),
    spending: {
      prices_as_of: llm.egress?.prices.asOf ?? null,
      prices_problem: llm.egress?.prices.problem ?? '',
      callers: llm.stats.topCallers(MAX_SPENDERS).map(shownSpender),
      tasks: llm.stats.tasks.top(MAX_SPENDERS).map(shownSpender),
    },
  };
}

/** @param longMs requests do not wait for a model that rests longer than this */
function modelsOf(upstream: Upstream, longMs: number, nowMs: number) {
  return shownModels(upstream, nowMs).map((state) => {
    const { model, outOfCredit, restsUntilMs, restsBecause } = state;
    const left = state.learned.left(nowMs);
    const rests = restsUntilMs > nowMs;
    return {
      model,
      cooling_for_ms: inMs(restsUntilMs, nowMs),
      cooling_because: rests ? restsBecause : null,
      waited_for: restsUntilMs <= nowMs + longMs,
      out_of_credit: outOfCredit ?? null,
      requests_left: left.requests ?? null,
      tokens_left: left.tokens ?? null,
    };
  });
}

export function shownModels(upstream: Upstream, nowMs: number): ModelState[] {
  const states = [...upstream.models.values()];
  if (states.length <= MAX_MODELS) return states;
  const needsAttention = (state: ModelState): number =>
    state.outOfCredit !== undefined || state.restsUntilMs > nowMs ? 0 : 1;
  return states.sort((a, b) => needsAttention(a) - needsAttention(b)).slice(0, MAX_MODELS);
}

function shownSpender({ name, nanos }: Spender) {
  return { name, usd: usdOf(nanos) };
}

function sumOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function least(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known);
}

export function inMs(atMs: number, nowMs: number): number {
  return Math.max(0, Math.round(atMs - nowMs));
}
