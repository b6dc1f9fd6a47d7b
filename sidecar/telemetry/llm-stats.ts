/**
 * What the LLM egress counts, as plain numbers; `llm-metrics.ts` shows them. By upstream and model, both of which are
 * bounded here: a model's name comes from whoever asks.
 */
import { Durations, LLM_BUCKETS } from './durations.ts';

/** Pairs of upstream and model beyond this are counted together. */
const MAX_PAIRS = 100;
/** Of these, the ones that nobody has ever answered: invented models must not take the places of real ones. */
const MAX_UNANSWERED_PAIRS = 50;
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

/** All of them, to be shown from the beginning. */
export const LLM_OUTCOMES: readonly LlmOutcome[] = [
  'success',
  'refused',
  'throttled',
  'failed',
  'cut',
  'timeout',
  'cancelled',
  'over_budget',
  'rejected',
];
/** What becomes of attempts as a rule, to be shown from the beginning; other reasons and statuses once they have happened. */
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
  readonly firstToken = new Durations(LLM_BUCKETS);
  readonly duration = new Durations(LLM_BUCKETS);
  /** A request has been answered whole, or the configuration names it. */
  answered = false;

  constructor(upstream: string, model: string) {
    this.upstream = upstream;
    this.model = model;
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
  #unanswered = 0;
  /** Names of upstreams, and their pairs where a model is configured; undefined until they are told. */
  #upstreams: ReadonlySet<string> | undefined = undefined;
  #configured: ReadonlySet<string> = new Set();

  /** Told at the start and at reloads: a configured model always has its name. */
  configure(upstreams: readonly { readonly name: string; readonly model?: string | undefined }[]): void {
    this.#upstreams = new Set(upstreams.map(({ name }) => name));
    this.#configured = new Set(upstreams.map(({ name, model = '' }) => `${name}\n${model}`));
  }

  /** Without upstreams that are no more: their counts go on if they come back. */
  *shown(): Generator<LlmPairStats> {
    for (const pair of this.pairs.values())
      if (pair.upstream === NO_UPSTREAM || this.#upstreams?.has(pair.upstream) !== false) yield pair;
  }

  /** A request was turned away before any upstream was chosen. */
  reject(seconds: number): void {
    this.ended(this.of(NO_UPSTREAM, ''), '', 'rejected', seconds);
  }

  /** A request has ended that was counted with this pair; the model is the one it was for. */
  ended(pair: LlmPairStats, model: string, outcome: LlmOutcome, seconds: number): void {
    pair.outcomes.set(outcome, (pair.outcomes.get(outcome) ?? 0) + 1);
    pair.duration.record(seconds);
    if (outcome !== 'success') return;
    if (!pair.answered && pair.model !== OTHER_MODEL) this.#unanswered--;
    pair.answered = true;
    // It is a real one: from its next request on it has its name.
    if (pair.model === OTHER_MODEL && model !== OTHER_MODEL && this.pairs.size < MAX_PAIRS)
      this.#add(pair.upstream, model).answered = true;
  }

  of(upstream: string, model: string): LlmPairStats {
    const key = `${upstream}\n${model}`;
    const known = this.pairs.get(key);
    if (known !== undefined) return known;
    if (this.#configured.has(key)) {
      const pair = this.#add(upstream, model);
      pair.answered = true;
      return pair;
    }
    if (this.pairs.size < MAX_PAIRS && this.#unanswered < MAX_UNANSWERED_PAIRS) {
      this.#unanswered++;
      return this.#add(upstream, model);
    }
    return this.pairs.get(`${upstream}\n${OTHER_MODEL}`) ?? this.#add(upstream, OTHER_MODEL);
  }

  #add(upstream: string, model: string): LlmPairStats {
    const pair = new LlmPairStats(upstream, model);
    this.pairs.set(`${upstream}\n${model}`, pair);
    return pair;
  }
}
