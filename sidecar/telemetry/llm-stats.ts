/**
 * What the LLM egress counts, as plain numbers; `llm-metrics.ts` shows them. By upstream and model, both of which are
 * bounded here: a model's name comes from whoever asks.
 */
import { Durations, LLM_BUCKETS } from './durations.ts';

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
