/** Notes signs of life in an answer: they move the clocks of its attempt, and show that its upstream is alive. Pure. */
import type { AnswerBody } from '../answer/answer-body.ts';
import type { FailureContext } from './describe-failure.ts';
import type { ProviderAttemptClocks } from './provider-attempt-clocks.ts';

export class AnswerLife {
  private readonly clocks: ProviderAttemptClocks;
  private readonly context: FailureContext;
  private signs = 0;
  /** Milliseconds from the start of the attempt to its first byte; 0 before. */
  firstByteMs = 0;

  constructor(clocks: ProviderAttemptClocks, context: FailureContext) {
    this.clocks = clocks;
    this.context = context;
  }

  /** More of the answer has come. Returns true when another clock may be the next one now. */
  note({ isEvents, signs, flowing }: AnswerBody): boolean {
    const clocks = this.clocks;
    let changes = false;
    if (isEvents !== clocks.isStream) {
      clocks.isStream = isEvents;
      // Only the head of a stream is held for a first event.
      clocks.headAtMs = Number.POSITIVE_INFINITY;
      changes = true;
    }
    if (signs === this.signs) return changes;
    this.signs = signs;
    clocks.aliveMs = this.context.clock();
    this.context.life.aliveMs = clocks.aliveMs;
    if (this.firstByteMs === 0) this.firstByteMs = clocks.aliveMs - clocks.startedMs;
    if (clocks.flowing || !flowing) return changes;
    clocks.flowing = true;
    return true;
  }
}
