/** Says what is read of an answer: its tokens, its model, its end, its error. Each kind of upstream fills it in. */

/**
 * The tokens of an answer, as the provider has counted them. Providers disagree on what a count includes; here the input is
 * all of it, with what was read from a cache or written to one, and the output is all of it, with what was reasoning.
 */
export interface Usage {
  readonly inputTokens: number;
  /** The part of the input that came from a cache. */
  readonly cacheReadTokens: number;
  /** The parts of the input that were written to a cache, by how long it keeps them. */
  readonly cacheWrite5mTokens: number;
  readonly cacheWrite1hTokens: number;
  readonly outputTokens: number;
  /** The part of the output that was reasoning; 0 where the provider does not say. */
  readonly reasoningTokens: number;
}

export interface AnswerError {
  /** The status that the error stands for: 400 to 599. */
  readonly status: number;
  /** The provider's word for the error; '' without a word that can be shown. */
  readonly code: string;
  /** The provider's message. Don't show it unmasked: it may contain a key. */
  readonly message: string;
  /** The provider's word for a missing payment; undefined for another error. */
  readonly outOfCredit: string | undefined;
}

/** The facts of a plain answer, or of the events of a stream. */
export interface AnswerFacts {
  /** In a stream, the usage of its last event that has one. */
  usage: Usage | undefined;
  /** The usage that a stream of Anthropic's API tells first; the rest comes last. */
  earlyUsage: Usage | undefined;
  model: string | undefined;
  id: string | undefined;
  finishReason: string | undefined;
  /** The provider's name for the service tier that served it, in lower case; undefined where the answer names none. */
  serviceTier: string | undefined;
  /** The error that stands in place of the answer, or after a part of it. */
  error: AnswerError | undefined;
  /** What the answer names of things that its upstream stores: files, batches, cached prompts. */
  storedIds: readonly string[];
}

const NONE: readonly string[] = [];

export function noFacts(): AnswerFacts {
  return {
    usage: undefined,
    earlyUsage: undefined,
    model: undefined,
    id: undefined,
    finishReason: undefined,
    serviceTier: undefined,
    error: undefined,
    storedIds: NONE,
  };
}

/** No answer has more tokens. */
const MAX_COUNT = 1_000_000_000;

/** Returns a count of tokens; undefined for anything else, also for a number that none can be. */
export function count(value: unknown): number | undefined {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT
    ? (value as number)
    : undefined;
}

/** Joins a part of the answer's text to the text so far. */
export function joined(text: string | undefined, part: unknown): string | undefined {
  if (typeof part !== 'string' || part === '') return text;
  return text === undefined ? part : text + part;
}

const MAX_NAME = 256;

/** Notes the service tier that an answer, or its usage, names. */
export function noteTier(facts: AnswerFacts, tier: unknown): void {
  if (typeof tier === 'string') facts.serviceTier = tier.slice(0, MAX_NAME).toLowerCase();
}

/** Notes the model and the id that an answer names. */
export function noteNames(facts: AnswerFacts, model: unknown, id: unknown): void {
  if (typeof model === 'string') facts.model = model.slice(0, MAX_NAME);
  if (typeof id === 'string') facts.id ??= id.slice(0, MAX_NAME);
}
