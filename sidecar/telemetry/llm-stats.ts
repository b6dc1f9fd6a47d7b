/**
 * What the LLM egress counts, as plain numbers; `llm-metrics.ts` shows them. By upstream and model, both of which are
 * bounded here: a model's name comes from whoever asks.
 */

/** In seconds, as OpenTelemetry's conventions for generative AI advise: answers take longer than calls. */
export const LLM_BUCKETS: readonly number[] = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];

/** One histogram: counts per bucket, the last for everything above; not cumulative. */
export class LlmDurations {
  readonly buckets = new Float64Array(LLM_BUCKETS.length + 1);
  sumSeconds = 0;

  record(seconds: number): void {
    let at = 0;
    while (at < LLM_BUCKETS.length && seconds > LLM_BUCKETS[at]!) at++;
    this.buckets[at]!++;
    this.sumSeconds += seconds;
  }
}

/** Pairs of upstream and model beyond this are counted together. */
const MAX_PAIRS = 100;
export const OTHER_MODEL = '_OTHER';
/** For requests that no upstream was asked for. */
export const NO_UPSTREAM = '';

/** What became of a request. */
export type LlmOutcome =
  /** Answered whole. */
  | 'success'
  /** The provider refused it (4xx), and its answer was passed on. */
  | 'refused'
  /** Throttled: by the provider (429), or by the limits here. */
  | 'throttled'
  /** It failed at every upstream that was asked, or none could be. */
  | 'failed'
  /** Its answer broke off after its beginning. */
  | 'cut'
  /** One of the clocks ended it. */
  | 'timeout'
  /** The caller left. */
  | 'cancelled'
  /** Its task's token budget does not reach. */
  | 'over_budget'
  /** Turned away: malformed, too large, too many at a time, draining. */
  | 'rejected';

/** `wasted` tokens were paid for answers that nobody got whole. */
export type LlmTokenType = 'input' | 'output' | 'wasted';

/** The requests that one upstream was asked for with one model. */
export class LlmPairStats {
  readonly upstream: string;
  readonly model: string;
  readonly outcomes = new Map<string, number>();
  readonly attempts = new Map<string, number>();
  readonly tokens: Record<LlmTokenType, number> = { input: 0, output: 0, wasted: 0 };
  retries = 0;
  /** To the first byte of the answer that means something. */
  readonly firstToken = new LlmDurations();
  readonly duration = new LlmDurations();

  constructor(upstream: string, model: string) {
    this.upstream = upstream;
    this.model = model;
  }

  countOutcome(outcome: LlmOutcome): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }

  /** @param outcome `success`, or why the attempt failed */
  countAttempt(outcome: string): void {
    this.attempts.set(outcome, (this.attempts.get(outcome) ?? 0) + 1);
  }
}

export class LlmStats {
  /** The agent whose requests these are. */
  agent = '';
  activeRequests = 0;
  /** WebSockets that are open. */
  webSockets = 0;
  readonly pairs = new Map<string, LlmPairStats>();

  /** A request was turned away before any upstream was chosen. */
  reject(seconds: number): void {
    const pair = this.of(NO_UPSTREAM, '');
    pair.countOutcome('rejected');
    pair.duration.record(seconds);
  }

  of(upstream: string, model: string): LlmPairStats {
    const known = this.pairs.get(`${upstream}\n${model}`);
    if (known !== undefined) return known;
    const name = this.pairs.size < MAX_PAIRS ? model : OTHER_MODEL;
    const key = `${upstream}\n${name}`;
    let pair = this.pairs.get(key);
    if (pair === undefined) {
      pair = new LlmPairStats(upstream, name);
      this.pairs.set(key, pair);
    }
    return pair;
  }
}
