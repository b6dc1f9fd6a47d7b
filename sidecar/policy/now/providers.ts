/** Finds the problems of model providers. Pure. */
import type { Finding } from './finding.ts';
import { MODEL_LIMITS, type WaitFacts, WaitWatch } from './waits.ts';
import { counted, joined, spanOf } from './words.ts';

/** The latest attempts that ended with one kind of result, without a success among them. */
export interface StreakFacts {
  /**
   * `refused`: 401, 403 and similar; `throttled`: 429; `failed`: no answer, or an error of the provider's own;
   * `unanswered`: callers left after they had waited longer than any of the provider's latest answers took.
   */
  readonly kind: 'refused' | 'throttled' | 'failed' | 'unanswered';
  /** A status, or the reason of the failure. */
  readonly what: string;
  /** The provider's message, without keys. */
  readonly said: string;
  readonly inARow: number;
  /** How long ago the latest attempt ended. */
  readonly agoMs: number;
  /** How long ago the latest success was; Infinity when there was none. */
  readonly goodAgoMs: number;
}

export interface ModelFacts {
  /** '' for requests that name no model. */
  readonly model: string;
  /** The provider's message that payment is missing; null when it is not. */
  readonly outOfCredit: string | null;
  /** How long the egress sends it no requests; 0 when it may. */
  readonly restsForMs: number;
  /** The status that caused the rest. */
  readonly restsBecause: string;
  /** The rest is short enough for requests to wait. */
  readonly isWaitedFor: boolean;
  /** The number of requests that wait for the end of the rest. */
  readonly awaiting: number;
  /** How long ago the latest success was; Infinity when there was none. */
  readonly goodAgoMs: number;
  readonly streak: StreakFacts | undefined;
  readonly waits: WaitFacts;
}

export interface ProviderFacts {
  readonly name: string;
  readonly circuit: string;
  readonly rejections: number;
  /** How the latest request failed, without keys; '' when none has failed since the last success. */
  readonly lastFailure: string;
  readonly models: readonly ModelFacts[];
}

/** A failure that retries repaired is no finding. Three in a row are, or one where nothing else is known. */
const MIN_IN_A_ROW = 3;
const KNOWN_MS = 60_000;
/** A single refusal or failure may be the fault of one request: it is a warning, not an alarm. */
const BAD_IN_A_ROW = 2;
/** With thin traffic the latest answer may be minutes old, and is still the best evidence. */
const STREAK_MS = 600_000;
/** A 429 says nothing about the quota at a later time. */
const THROTTLED_MS = 30_000;

const HINTS: Readonly<Record<string, string>> = {
  '401': ': is the API key right?',
  '402': ': it wants to be paid.',
  '403': ': may the key ask for this?',
  '404': ': are the base URL and the model right?',
};

/** Examines providers from second to second, and remembers how long their models usually take. */
export class ProviderWatch {
  private readonly waits = new Map<string, WaitWatch>();

  *findingsOf(provider: ProviderFacts, nowMs: number): Generator<Finding> {
    const { name, circuit, lastFailure, rejections } = provider;
    for (const model of provider.models) {
      yield* quotaFindings(name, model);
      const streak = streakFinding(name, model, servesOther(provider.models, model));
      if (streak !== undefined) yield streak;
      const slow = this.slow(name, model, nowMs);
      if (slow !== undefined) yield slow;
    }
    if (circuit === 'closed') return;
    const turnedAway = rejections > 0 ? ', and requests are turned away' : '';
    const because = lastFailure === '' ? '' : `: ${lastFailure}`;
    yield {
      kind: 'provider_circuit',
      id: `circuit of provider ${name}`,
      severity: circuit === 'open' ? 'bad' : 'warn',
      text: `The circuit of the model provider ${name} is ${circuit}${turnedAway}${because}.`,
      detail: '',
      about: { provider: name },
      numbers: { requests_turned_away: rejections },
    };
  }

  private slow(provider: string, { model, waits }: ModelFacts, nowMs: number): Finding | undefined {
    const id = `slow ${provider} ${model}`;
    let watch = this.waits.get(id);
    if (watch === undefined) {
      watch = new WaitWatch(MODEL_LIMITS);
      this.waits.set(id, watch);
    }
    const slow = watch.update(waits, nowMs);
    if (slow === undefined) return undefined;
    const { waiting, longestMs, answersTakeMs, usualAnswers, usualSlowestMs } = slow;
    return {
      kind: 'provider_slow',
      id,
      severity: slow.unanswered ? 'bad' : 'warn',
      text: `The model provider ${provider} takes far longer than usual to answer ${nameOf(model)}.`,
      detail: joined(
        '; ',
        waiting === 0
          ? ''
          : `${counted(waiting, 'request', 'waits')} for an answer, the longest for ${spanOf(longestMs)}`,
        answersTakeMs === 0 ? '' : `answers take ${spanOf(answersTakeMs)}`,
        `none of ${usualAnswers} before took longer than ${spanOf(usualSlowestMs)}`,
      ),
      about: { provider, model },
      numbers: {
        waiting_requests: waiting,
        longest_wait_ms: Math.round(longestMs),
        usual_slowest_ms: Math.round(usualSlowestMs),
        ...(answersTakeMs === 0 ? {} : { answers_take_ms: Math.round(answersTakeMs) }),
      },
    };
  }

  /** Removes the models that no longer exist. */
  keep(known: ReadonlySet<string>): void {
    for (const id of this.waits.keys()) if (!known.has(id)) this.waits.delete(id);
  }

  static idOf(provider: string, model: string): string {
    return `slow ${provider} ${model}`;
  }
}

function* quotaFindings(provider: string, facts: ModelFacts): Generator<Finding> {
  const { model, outOfCredit, restsForMs, restsBecause, isWaitedFor, awaiting, streak } = facts;
  const about = { provider, model };
  // An old refusal without a request since proves nothing: the bill may be paid by now.
  if (outOfCredit !== null && (streak?.agoMs ?? 0) < STREAK_MS)
    yield {
      kind: 'provider_unpaid',
      id: `unpaid ${provider} ${model}`,
      severity: (streak?.inARow ?? 0) < BAD_IN_A_ROW ? 'warn' : 'bad',
      text: `The model provider ${provider} refuses ${nameOf(model)} until it is paid: ${outOfCredit}.`,
      detail: '',
      about,
      numbers: {},
    };
  const inARow = streak?.kind === 'throttled' ? streak.inARow : 0;
  const goesOn = streak !== undefined && inARow > 0 && isTold(streak, THROTTLED_MS);
  if (awaiting === 0 && !goesOn && (restsForMs === 0 || (isWaitedFor && inARow < 2))) return;
  if (restsForMs === 0 && inARow === 0) return;
  yield {
    kind: 'provider_throttles',
    id: `throttled ${provider} ${model}`,
    severity: isWaitedFor ? 'warn' : 'bad',
    text: isWaitedFor
      ? `The model provider ${provider} throttles ${nameOf(model)} (${restsBecause || '429'}).`
      : `The model provider ${provider} asked for a pause of ${nameOf(model)} that is too long to wait for.`,
    detail: joined(
      '; ',
      awaiting === 0 ? '' : counted(awaiting, 'request', 'waits'),
      restsForMs === 0 ? '' : `it may be asked again in ${spanOf(restsForMs)}`,
      inARow < 2 ? '' : `429 ${inARow} times in a row`,
    ),
    about,
    numbers: { waiting_requests: awaiting, rests_for_ms: Math.round(restsForMs), throttled_in_a_row: inARow },
  };
}

/** Callers may name a model that the provider does not have: that is no outage if it serves other models. */
function servesOther(models: readonly ModelFacts[], model: ModelFacts): boolean {
  if (model.goodAgoMs !== Number.POSITIVE_INFINITY) return false;
  return models.some(({ goodAgoMs }) => goodAgoMs < STREAK_MS);
}

function streakFinding(provider: string, facts: ModelFacts, servesOther: boolean): Finding | undefined {
  const { model, streak, outOfCredit } = facts;
  if (streak === undefined || streak.kind === 'throttled' || outOfCredit !== null) return undefined;
  if (!isTold(streak, STREAK_MS)) return undefined;
  const { kind, what, inARow, said } = streak;
  return {
    kind: STREAK_FINDINGS[kind],
    id: `streak ${provider} ${model}`,
    severity: inARow < BAD_IN_A_ROW || (what === '404' && servesOther) ? 'warn' : 'bad',
    text: streakText(provider, model, streak),
    detail: joined('; ', inARow === 1 ? 'once' : `${inARow} times in a row`, said),
    about: { provider, model },
    numbers: { in_a_row: inARow, latest_ms_ago: Math.round(streak.agoMs) },
  };
}

const STREAK_FINDINGS = {
  refused: 'provider_refuses',
  failed: 'provider_fails',
  unanswered: 'provider_slow',
} as const;

/** Descriptions of failure reasons; other failures are a status, or their names suffice. */
const FAILURES: Readonly<Record<string, string>> = {
  connect_failed: 'it can not be connected to',
  connection_lost: 'connections are lost before an answer',
  first_byte: 'no answer begins in time',
  deadline: 'no answer comes in time',
  idle: 'answers stop in the middle',
  stream_cut: 'streams end before their end',
  answer_cut: 'answers break off',
  malformed_answer: 'its answers are no JSON',
  upstream_protocol: 'it does not answer in HTTP',
};

function streakText(provider: string, model: string, { kind, what }: StreakFacts): string {
  const whom = nameOf(model);
  if (kind === 'refused')
    return `The model provider ${provider} refuses ${whom} with ${what}${HINTS[what] ?? '.'}`;
  if (kind === 'unanswered')
    return `The model provider ${provider} does not answer ${whom} before callers leave, who have waited for longer than usual.`;
  return `The model provider ${provider} fails for ${whom}: ${FAILURES[what] ?? what.replaceAll('_', ' ')}.`;
}

function isTold({ inARow, agoMs, goodAgoMs }: StreakFacts, forMs: number): boolean {
  return agoMs < forMs && (inARow >= MIN_IN_A_ROW || goodAgoMs >= KNOWN_MS);
}

function nameOf(model: string): string {
  return model === '' ? 'requests without a model' : model;
}
