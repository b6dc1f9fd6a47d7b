/**
 * Counts of the LLM egress as plain numbers, by upstream and model; `admin/metrics/` shows them. Both keys are bounded
 * here, because a caller chooses the name of the model.
 */
import { Durations, LLM_BUCKETS } from './durations.ts';
import { type Spender, Spenders } from './spenders.ts';

/** The pairs of upstream and model beyond this number share one count. */
const MAX_PAIRS = 100;
/** The places for pairs that no upstream has answered yet: invented models must not take the places of real ones. */
const MAX_UNANSWERED_PAIRS = 50;
export const OTHER_MODEL = '_OTHER';
/** The callers of one model beyond this number share one sum. */
const MAX_CALLERS = 1_000;
const OTHER_CALLER = '_OTHER';
/** For requests that reached no upstream. */
export const NO_UPSTREAM = '';

/** How a request ended. */
export type LlmOutcome =
  /** The answer was complete. */
  | 'success'
  /** The provider refused the request (4xx), and the egress relayed its answer. */
  | 'refused'
  /** Throttled by the provider (429), or by our own limits. */
  | 'throttled'
  /** It failed at every upstream that we tried, or no upstream was available. */
  | 'failed'
  /** The answer broke off after its beginning. */
  | 'cut'
  /** A time limit ended it. */
  | 'timeout'
  /** The caller cancelled it. */
  | 'cancelled'
  /** It exceeds its task's token budget. */
  | 'over_budget'
  /** Refused: malformed, too large, too many at a time, or draining. */
  | 'rejected';

/** All outcomes, shown from the first scrape on. */
export const LLM_OUTCOMES: readonly string[] = Object.keys({
  success: true,
  refused: true,
  throttled: true,
  failed: true,
  cut: true,
  timeout: true,
  cancelled: true,
  over_budget: true,
  rejected: true,
} satisfies Record<LlmOutcome, true>);
/** The usual outcomes of attempts, shown from the first scrape on; other reasons and statuses appear after their first. */
export const LLM_ATTEMPTS: readonly string[] = [
  'success',
  'cancelled',
  'connect_failed',
  'connection_lost',
  'first_byte',
  'idle',
  'stream_cut',
  '401',
  '429',
  '500',
  '502',
  '503',
];

/** `wasted` tokens were paid for answers that no caller received completely. */
export type LlmTokenType = 'input' | 'output' | 'wasted';

/** The requests to one upstream for one model. */
export class LlmPairStats {
  readonly upstream: string;
  readonly model: string;
  readonly outcomes = new Map<string, number>();
  readonly attempts = new Map<string, number>();
  readonly tokens: Record<LlmTokenType, number> = { input: 0, output: 0, wasted: 0 };
  retries = 0;
  /** The cost, in nano-dollars, by the caller of the service; '' beside an agent. */
  readonly costs = new Map<string, number>();
  /** Attempts whose cost is unknown, because their model has no price. */
  unpriced = 0;
  /** Until the first byte of content in the answer. */
  readonly firstToken = new Durations(LLM_BUCKETS);
  readonly duration = new Durations(LLM_BUCKETS);
  /** True after a complete answer, or when the configuration names the pair. */
  answered = false;

  constructor(upstream: string, model: string) {
    this.upstream = upstream;
    this.model = model;
  }

  /** @param nanos undefined for an attempt whose model has no price */
  countCost(caller: string, nanos: number | undefined): void {
    if (nanos === undefined) this.unpriced++;
    else if (nanos > 0) {
      const key = this.costs.has(caller) || this.costs.size < MAX_CALLERS ? caller : OTHER_CALLER;
      this.costs.set(key, (this.costs.get(key) ?? 0) + nanos);
    }
  }

  /** @param outcome `success`, or why the attempt failed */
  countAttempt(outcome: string): void {
    this.attempts.set(outcome, (this.attempts.get(outcome) ?? 0) + 1);
  }
}

export class LlmStats {
  /** The agent that makes these requests. */
  agent = '';
  activeRequests = 0;
  /** Open WebSockets. */
  webSockets = 0;
  readonly pairs = new Map<string, LlmPairStats>();
  /** The tasks that have spent most. */
  readonly tasks = new Spenders();
  private unanswered = 0;
  /** Names of upstreams, and their pairs where a model is configured; undefined before `configure`. */
  private upstreams: ReadonlySet<string> | undefined = undefined;
  private configured: ReadonlySet<string> = new Set();

  /** The sidecar calls this at the start and at reloads, so that a configured model always has its name. */
  configure(upstreams: readonly { readonly name: string; readonly model?: string | undefined }[]): void {
    this.upstreams = new Set(upstreams.map(({ name }) => name));
    this.configured = new Set(upstreams.map(({ name, model = '' }) => `${name}\n${model}`));
  }

  /** Leaves out removed upstreams; their counts continue if they return. */
  *shown(): Generator<LlmPairStats> {
    for (const pair of this.pairs.values())
      if (pair.upstream === NO_UPSTREAM || this.upstreams?.has(pair.upstream) !== false) yield pair;
  }

  /** The callers of the service that have spent most, first. */
  topCallers(count: number): readonly Spender[] {
    const callers = new Spenders();
    for (const { costs } of this.pairs.values())
      for (const [caller, nanos] of costs) callers.add(caller, nanos);
    return callers.top(count);
  }

  /** A request was refused before any upstream was chosen. */
  reject(seconds: number): void {
    this.ended(this.of(NO_UPSTREAM, ''), '', 'rejected', seconds);
  }

  /** A request counted with this pair has ended; `model` is the model that it requested. */
  ended(pair: LlmPairStats, model: string, outcome: LlmOutcome, seconds: number): void {
    pair.outcomes.set(outcome, (pair.outcomes.get(outcome) ?? 0) + 1);
    pair.duration.record(seconds);
    if (outcome !== 'success') return;
    if (!pair.answered && pair.model !== OTHER_MODEL) this.unanswered--;
    pair.answered = true;
    // The model is real: it has its own name from its next request on.
    if (pair.model === OTHER_MODEL && model !== OTHER_MODEL && this.pairs.size < MAX_PAIRS)
      this.add(pair.upstream, model).answered = true;
  }

  of(upstream: string, model: string): LlmPairStats {
    const key = `${upstream}\n${model}`;
    const known = this.pairs.get(key);
    if (known !== undefined) return known;
    if (this.configured.has(key)) {
      const pair = this.add(upstream, model);
      pair.answered = true;
      return pair;
    }
    if (this.pairs.size < MAX_PAIRS && this.unanswered < MAX_UNANSWERED_PAIRS) {
      this.unanswered++;
      return this.add(upstream, model);
    }
    return this.pairs.get(`${upstream}\n${OTHER_MODEL}`) ?? this.add(upstream, OTHER_MODEL);
  }

  private add(upstream: string, model: string): LlmPairStats {
    const pair = new LlmPairStats(upstream, model);
    this.pairs.set(`${upstream}\n${model}`, pair);
    return pair;
  }
}
