/** Metrics of the LLM egress, from its counts. */

import { usdOf } from '../../policy/money.ts';
import { type Durations, LLM_BUCKETS } from '../../telemetry/durations.ts';
import {
  LLM_ATTEMPTS,
  LLM_OUTCOMES,
  LlmPairStats,
  type LlmStats,
  NO_UPSTREAM,
} from '../../telemetry/llm-stats.ts';
import { histogramSample } from './duration-histogram.ts';
import { HistogramLayout } from './histogram-layout.ts';
import { type KnownSeries, MAX_KNOWN_MODELS } from './known-series.ts';
import type { AddMetric, Sample } from './sampled-metric.ts';

/** The current state of an upstream. */
interface MeasuredUpstream {
  readonly name: string;
  /** 0 closed, 1 half-open, 2 open. */
  readonly state: number;
  readonly rejections: number;
  readonly models: readonly MeasuredModel[];
}

/** The current state of one model of an upstream: providers limit each model separately. */
interface MeasuredModel {
  readonly model: string;
  /** The remaining time of the model's cooldown, in seconds. */
  readonly coolingSeconds: number;
  readonly outOfCredit: boolean;
  /** From the provider's own headers; undefined until it has sent them. */
  readonly requestsLeft: number | undefined;
  readonly tokensLeft: number | undefined;
}

export interface MeasuredLlm {
  readonly stats: LlmStats;
  readonly upstreams: () => readonly MeasuredUpstream[];
  /** Requests that wait for a per-minute limit, a provider, or memory. */
  readonly waiting: () => number;
  readonly bodyBytes: () => number;
}

/** For requests refused before an upstream was chosen. */
const NOBODY = { upstream: NO_UPSTREAM, model: '' };
const LAYOUT = new HistogramLayout(LLM_BUCKETS);
const NO_COSTS: ReadonlyMap<string, number> = new Map([['', 0]]);

export function addLlm(
  add: AddMetric,
  { stats, upstreams, waiting, bodyBytes }: MeasuredLlm,
  models: KnownSeries['models'] = () => [],
): void {
  const unused = new Map<string, LlmPairStats>();
  /** First the pairs that the configuration names, then those that requests have named. */
  const pairsOf = (): LlmPairStats[] => {
    const pairs = new Set<LlmPairStats>();
    const known = models();
    for (const { upstream, model } of known.length === 0 ? [] : [...known, NOBODY]) {
      if (pairs.size >= MAX_KNOWN_MODELS) break;
      const key = `${upstream}\n${model}`;
      let pair = stats.pairs.get(key) ?? unused.get(key);
      if (pair === undefined) unused.set(key, (pair = new LlmPairStats(upstream, model)));
      pairs.add(pair);
    }
    for (const pair of stats.shown()) pairs.add(pair);
    return [...pairs];
  };
  /** Counts by outcome; the usual outcomes appear from the first scrape on. */
  const counts = function* (
    usual: readonly string[],
    countsOf: (pair: LlmPairStats) => ReadonlyMap<string, number>,
  ): Generator<Sample> {
    let known = 0;
    for (const pair of pairsOf()) {
      const all = countsOf(pair);
      const shown = known++ < MAX_KNOWN_MODELS ? new Set([...usual, ...all.keys()]) : all.keys();
      for (const outcome of shown)
        yield { labels: { ...labelsOf(pair), outcome }, value: all.get(outcome) ?? 0 };
    }
  };
  const labelsOf = ({ upstream, model }: LlmPairStats) => ({ agent: stats.agent, upstream, model });
  const perPair = (values: (pair: LlmPairStats) => Iterable<readonly [Record<string, string>, number]>) =>
    function* (): Generator<Sample> {
      for (const pair of pairsOf())
        for (const [labels, value] of values(pair)) yield { labels: { ...labelsOf(pair), ...labels }, value };
    };
  add('counter', 'outrigger_llm_requests_total', 'Requests to models that ended, by outcome.', () =>
    counts(LLM_OUTCOMES, ({ outcomes }) => outcomes),
  );
  add(
    'counter',
    'outrigger_llm_attempts_total',
    'Attempts at providers: success, or the reason of the failure.',
    () => counts(LLM_ATTEMPTS, ({ attempts }) => attempts),
  );
  add(
    'counter',
    'outrigger_llm_retries_total',
    'Attempts after the first one of their request, fallbacks included.',
    perPair(({ retries }) => [[{}, retries]]),
  );
  add(
    'counter',
    'outrigger_llm_tokens_total',
    'Tokens: input and output of complete answers, and wasted tokens of answers that no caller received completely.',
    perPair(({ tokens }) => Object.entries(tokens).map(([type, count]) => [{ type }, count])),
  );
  add(
    'counter',
    'outrigger_llm_cost_usd_total',
    'What requests have cost by the list of prices, in USD; caller is the caller of the service, and empty beside an agent.',
    perPair(({ costs }) =>
      Array.from(costs.size === 0 ? NO_COSTS : costs, ([caller, nanos]) => [{ caller }, usdOf(nanos)]),
    ),
  );
  add(
    'counter',
    'outrigger_llm_unpriced_total',
    'Attempts whose cost is unknown, because the list of prices does not have their model or their service tier.',
    perPair(({ unpriced }) => [[{}, unpriced]]),
  );
  const histogram = (durations: (pair: LlmPairStats) => Durations) =>
    function* (): Generator<Sample> {
      for (const pair of pairsOf()) yield sampleOf(labelsOf(pair), durations(pair));
    };
  add(
    'histogram',
    'outrigger_llm_time_to_first_token_seconds',
    'Time from the start of an attempt to the first byte of its answer, or to the first event with data of a stream.',
    histogram((pair) => pair.firstToken),
  );
  add(
    'histogram',
    'outrigger_llm_request_duration_seconds',
    'Duration of requests to models, with all their attempts and waits.',
    histogram((pair) => pair.duration),
  );
  add('gauge', 'outrigger_llm_active_requests', 'Requests to models whose answer is not complete.', () => [
    { labels: {}, value: stats.activeRequests },
  ]);
  add(
    'gauge',
    'outrigger_llm_waiting_requests',
    'Requests that wait for a limit per minute, for a provider, or for memory for their bodies.',
    () => [{ labels: {}, value: waiting() }],
  );
  add('gauge', 'outrigger_llm_web_sockets', 'Open WebSockets to models.', () => [
    { labels: {}, value: stats.webSockets },
  ]);
  add('gauge', 'outrigger_llm_body_bytes', 'Memory of the bodies of requests.', () => [
    { labels: {}, value: bodyBytes() },
  ]);
  add(
    'gauge',
    'outrigger_llm_circuit_state',
    'Circuits of LLM upstreams: 0 closed, 1 half-open, 2 open.',
    function* () {
      for (const { name, state } of upstreams()) yield { labels: { upstream: name }, value: state };
    },
  );
  const perModel = (value: (model: MeasuredModel) => number | undefined) =>
    function* (): Generator<Sample> {
      for (const { name, models } of upstreams()) {
        for (const one of models) {
          const number = value(one);
          if (number !== undefined) yield { labels: { upstream: name, model: one.model }, value: number };
        }
      }
    };
  add(
    'gauge',
    'outrigger_llm_cooldown_seconds',
    'Remaining time for which the egress sends no requests for a model to an upstream, as its answer asked.',
    perModel(({ coolingSeconds }) => coolingSeconds),
  );
  add(
    'gauge',
    'outrigger_llm_out_of_credit',
    'Whether an upstream refuses a model for lack of credit: 1 or 0.',
    perModel(({ outOfCredit }) => (outOfCredit ? 1 : 0)),
  );
  add(
    'gauge',
    'outrigger_llm_provider_requests_left',
    'Remaining requests of a model, by the headers of the provider.',
    perModel(({ requestsLeft }) => requestsLeft),
  );
  add(
    'gauge',
    'outrigger_llm_provider_tokens_left',
    'Remaining tokens of a model, by the headers of the provider.',
    perModel(({ tokensLeft }) => tokensLeft),
  );
}

function sampleOf(labels: Record<string, string>, durations: Durations): Sample {
  const totals = new Float64Array(LAYOUT.width);
  LAYOUT.add(durations, totals);
  return histogramSample({ labels, lines: [], owners: [durations], totals }, LAYOUT);
}
