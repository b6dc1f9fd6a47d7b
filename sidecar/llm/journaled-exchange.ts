/**
 * Carries a request of a task whose answers are kept: an earlier run's answer is replayed, and a new one is recorded.
 *
 *     finding ──an earlier run has the answer──▶ over
 *        ├── none ──▶ exchanging ──▶ over
 *        └── its caller, its owner or the sidecar's time is gone ──▶ over
 */
import { type Arrows, step } from '../errors/illegal-step.ts';
import type { Answer } from '../journal/record/record.ts';
import type { JournalEntry } from '../journal/run/journal-entry.ts';
import { type LlmOutcome, NO_UPSTREAM } from '../telemetry/llm-stats.ts';
import { type RefusalReason, refuse, statusOfRefusal } from './caller/refusals.ts';
import type { Sink } from './caller/sink.ts';
import { Exchange } from './exchange.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { RecordingSink } from './recording-sink.ts';
import { infoOf, type ModelRequest } from './request/model-request.ts';
import { type HttpHeaders, textOf } from './shared/headers.ts';

export type JournaledState = 'finding' | 'exchanging' | 'over';

export const JOURNALED_ARROWS: Arrows<JournaledState> = {
  finding: ['exchanging', 'over'],
  exchanging: ['over'],
  over: [],
};

export class JournaledExchange {
  private readonly context: EgressContext;
  private readonly request: ModelRequest;
  private readonly entry: JournalEntry;
  private readonly sink: Sink;
  private readonly onOver: () => void;
  private state: JournaledState = 'finding';
  private exchange: Exchange | undefined = undefined;
  private recording: RecordingSink | undefined = undefined;
  private leaveOwner: () => void = () => {};

  constructor(
    context: EgressContext,
    request: ModelRequest,
    entry: JournalEntry,
    sink: Sink,
    onOver: () => void,
  ) {
    this.context = context;
    this.request = request;
    this.entry = entry;
    this.sink = sink;
    this.onOver = onOver;
  }

  private become(state: JournaledState): void {
    this.state = step(JOURNALED_ARROWS, this.state, state);
  }

  start(): void {
    const { ownerCall } = this.request;
    if (ownerCall !== undefined)
      this.leaveOwner = ownerCall.onEnd((late) => {
        const message =
          'the inbound call that this request was made for has ended; make no more requests for it';
        this.endFinding(
          late === true ? 'deadline' : 'call_ended',
          message,
          late === true ? 'timeout' : 'cancelled',
        );
      });
    void this.entry.find().then((answer) => {
      if (this.state !== 'finding') return;
      this.leaveOwner();
      if (answer === undefined) this.ask();
      else this.replay(answer);
    });
  }

  /** The caller has left. */
  cancel(): void {
    if (this.state === 'finding') {
      this.finish('cancelled', 'cancelled', 0);
      this.entry.notDelivered();
      return;
    }
    this.exchange?.cancel();
    this.recording?.leave();
  }

  /** The time to drain is over. */
  endForDrain(): void {
    this.endFinding(
      'draining',
      'the sidecar is shutting down and the request did not end in time; retry',
      'failed',
    );
    this.exchange?.endForDrain();
  }

  private ask(): void {
    const { context, request, entry, sink } = this;
    this.become('exchanging');
    const recording = new RecordingSink(sink, {
      entry,
      operation: request.facts.operation,
      wheel: context.wheel,
      clock: context.clock,
      maxBytes: context.journal!.maxAnswerBytes,
    });
    this.recording = recording;
    recording.onOver = () => {
      if (this.state === 'over') return;
      this.become('over');
      this.onOver();
    };
    this.exchange = new Exchange(context, request, recording, (_, outcome) =>
      recording.settle(outcome === 'success'),
    );
    this.exchange.start();
  }

  private replay({ status, fields, body }: Answer): void {
    const { sink, request } = this;
    const headers: HttpHeaders = {};
    for (const name in fields) headers[name] = fields[name] as string | string[];
    headers['outrigger-journal'] = 'replayed';
    headers['outrigger-attempts'] = '0';
    if (!isEvents(headers)) headers['content-length'] = String(body.length);
    sink.head(status, headers);
    sink.write(body);
    sink.end();
    request.ownerCall?.modelEnded?.(undefined);
    this.finish('success', '', status, textOf(headers['outrigger-upstream']) ?? NO_UPSTREAM);
  }

  private endFinding(reason: RefusalReason, message: string, outcome: LlmOutcome): void {
    if (this.state !== 'finding') return;
    this.entry.notDelivered();
    refuse(this.sink, reason, message, {
      headers: { 'outrigger-attempts': '0' },
      clientDecides: reason === 'draining',
      api: this.request.asked.api,
    });
    this.finish(outcome, reason, statusOfRefusal(reason));
  }

  /** No provider was asked. */
  private finish(outcome: LlmOutcome, reason: string, status: number, upstream = NO_UPSTREAM): void {
    const { request, context } = this;
    const { stats, clock, observer } = context;
    this.become('over');
    this.leaveOwner();
    const { model } = request.facts;
    const durationMs = clock() - request.receivedMs;
    stats.ended(stats.of(NO_UPSTREAM, model), model, outcome, durationMs / 1000);
    const info = infoOf(request);
    observer?.begin(info)?.onEnd({
      info,
      outcome,
      reason,
      status,
      upstream,
      attempts: 0,
      isReplayed: outcome === 'success',
      responseModel: undefined,
      responseId: undefined,
      finishReason: undefined,
      inputTokens: 0,
      outputTokens: 0,
      wastedTokens: 0,
      tokensAreExact: true,
      costNanos: 0,
      firstByteMs: durationMs,
      durationMs,
    });
    request.visit?.settle(0);
    request.dropBody();
    this.onOver();
  }
}

function isEvents(headers: HttpHeaders): boolean {
  return textOf(headers['content-type'])?.startsWith('text/event-stream') === true;
}
