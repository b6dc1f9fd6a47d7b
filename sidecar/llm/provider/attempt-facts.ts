/** Says what an attempt has come to: its failures, in words and facts, and its end for the owner. */
import type { AnswerBody } from '../answer/answer-body.ts';
import type { RelayError } from '../relay/provider-relay.ts';
import type { ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import type { AnswerLife } from './answer-life.ts';
import type { AttemptAnswer } from './attempt-answer.ts';
import { describeFailure, type FailureDetails, isStale } from './describe-failure.ts';
import type { ProviderAttemptClocks } from './provider-attempt-clocks.ts';
import type { ProviderAttemptEnd, ProviderAttemptOptions } from './provider-attempt-owner.ts';

/** Knows whether the provider has the whole request. */
interface Sending {
  readonly sent: boolean;
}

export class AttemptFacts {
  private readonly options: ProviderAttemptOptions;
  private readonly clocks: ProviderAttemptClocks;
  private readonly life: AnswerLife;
  private readonly answer: AttemptAnswer;
  private readonly sending: Sending;

  constructor(
    options: ProviderAttemptOptions,
    clocks: ProviderAttemptClocks,
    life: AnswerLife,
    answer: AttemptAnswer,
    sending: Sending,
  ) {
    this.options = options;
    this.clocks = clocks;
    this.life = life;
    this.answer = answer;
    this.sending = sending;
  }

  /** The provider may be working on the request: it has all of it, and nothing of an answer has come. */
  get mayBeRunning(): boolean {
    const { head, body } = this.answer;
    return this.sending.sent && head.status < 400 && body?.begun !== true;
  }

  failure(reason: ProviderFailureReason, details: FailureDetails): ProviderFailure {
    const { status, headers } = this.answer.head;
    const { mayBeRunning } = this;
    const progress = { status, headers, sent: this.sending.sent, mayBeRunning };
    return describeFailure(reason, details, this.options, this.clocks, progress);
  }

  /** The failure that an answer tells of itself; undefined for an answer without an error. */
  failureIn({ facts: { error }, isGood }: AnswerBody): ProviderFailure | undefined {
    if (error === undefined) return undefined;
    // After a part of an answer the error comes too late to cost nothing.
    return this.failure('status', { answerError: error, outOfCredit: error.outOfCredit, paid: isGood });
  }

  /** How the loss of the connection ends the attempt. */
  lossOf(
    { code, connected, reused, unprocessed = false }: RelayError,
    committed: boolean,
  ): [reason: ProviderFailureReason, details: FailureDetails] {
    const { head, body } = this.answer;
    if (head.status > 0 && (this.life.firstByteMs > 0 || committed))
      return [body?.isEvents === true ? 'stream_cut' : 'answer_cut', { code }];
    const sinceMs = this.sending.sent ? this.options.clock() - this.clocks.startedMs : 0;
    const stale = unprocessed || (reused && head.status === 0 && isStale(code, sinceMs));
    return [connected ? 'connection_lost' : 'connect_failed', { code, stale }];
  }

  end(committed: boolean, failure: ProviderFailure | undefined, stale = false): ProviderAttemptEnd {
    return this.answer.end(committed, failure, this.life.firstByteMs, stale);
  }
}
