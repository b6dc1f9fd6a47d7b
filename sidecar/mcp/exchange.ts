/**
 * Carries what an agent has posted, with a request in it, to its server and the answer back:
 *
 *     made before? → breaker → note of a call with an effect → attempt ──▶ answer
 *                       ▲                                          │
 *                       └── nothing was sent, or it may run twice ─┘
 *
 * What was sent and may have had an effect is not sent again: the model hears that its outcome is unknown.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { Timer } from '../clock/timer-wheel.ts';
import { step } from '../errors/illegal-step.ts';
import type { Reply } from '../llm/caller/reply.ts';
import type { McpOutcome } from '../telemetry/mcp-stats.ts';
import { AnswerReader, type EventTaker } from './answer-reader.ts';
import { failuresOf, type McpReason, sendJson, statusOf, unknownText } from './answers.ts';
import { isFault, isResumable, mayRepeat, outcomeOf } from './attempt-rules.ts';
import { Attempts } from './attempts.ts';
import { cancelAtServer } from './cancelling.ts';
import type { ExchangeParts } from './exchange-parts.ts';
import { ExchangeReport } from './exchange-report.ts';
import { MCP_EXCHANGE_ARROWS, type McpExchangeState } from './exchange-state.ts';
import { JoinedCalls } from './joined-calls.ts';
import { eventOf, type ServerEvent } from './message/events.ts';
import type { Id, JsonObject } from './message/json-rpc.ts';
import type { McpRequest } from './message/mcp-request.ts';
import { Pending } from './pending.ts';
import type { AttemptOwner } from './server/attempt.ts';
import { failureText, type McpFailure } from './server/failure.ts';
import type { McpContext } from './server/mcp-context.ts';
import { answerHeaders } from './server/mcp-server.ts';

/** How long a call with an effect waits for the journal to note it. */
const NOTE_MS = 1_000;
export class Exchange extends Timer implements AttemptOwner, EventTaker {
  readonly request: McpRequest;
  private readonly parts: ExchangeParts;
  private readonly report: ExchangeReport;
  private readonly pending: Pending;
  private readonly settings: McpContext['settings'];
  private readonly attempts: Attempts;
  private state: McpExchangeState = 'created';
  private reader: AnswerReader | undefined = undefined;
  private hasBudget = false;
  private readonly hasCalls: boolean;
  /** The agent has the head of a stream. */
  private isStreaming = false;
  /** The stream has ids, so that the agent can resume it. */
  private hasEventIds = false;
  /** The agent has sent `notifications/cancelled`. */
  private isCancelled = false;
  private leaveOwner: () => void = () => {};
  private readonly joined = new JoinedCalls();

  constructor(parts: ExchangeParts) {
    super();
    const { context, request, server } = parts;
    this.parts = parts;
    this.request = request;
    this.settings = context.settings;
    this.hasCalls = request.calls.length > 0;
    this.pending = new Pending(server, request, parts.who, context.clock);
    this.report = new ExchangeReport(parts);
    const deadlineMs = request.ownerCall?.deadlineMs ?? Number.POSITIVE_INFINITY;
    this.attempts = new Attempts(parts, this.report, deadlineMs);
  }

  start(): void {
    const { request, place } = this.parts;
    if (request.ownerCall !== undefined)
      this.leaveOwner = request.ownerCall.onEnd((late) => this.endOfOwner(late === true));
    if (this.state === 'over') return;
    if (request.isLate && this.hasCalls) {
      this.turnAway('call_ended', 'the task that this call names has ended', 'cancelled');
      return;
    }
    if (place === undefined) {
      this.goOn();
      return;
    }
    this.become('finding');
    void place.find().then((found) => {
      if (this.state !== 'finding') return;
      if (found.kind === 'none') this.goOn();
      else if (found.kind === 'unknown')
        this.unknown('this call was sent before, and its answer never came', 'unknown');
      else this.replay(found.result);
    });
  }

  /** Another request for the same call waits for its answer, too. */
  join(reply: Reply, id: Id): void {
    this.joined.add(reply, id);
  }

  private replay(result: JsonObject): void {
    this.pending.callAnswer = { jsonrpc: '2.0', id: this.parts.call!.id, result };
    sendJson(this.parts.reply, 200, this.pending.callAnswer, { 'outrigger-journal': 'replayed' });
    this.finish('replayed');
  }

  /** Makes the next attempt, unless something stands against it. */
  private goOn(): void {
    const { server, place, context, takeBudget } = this.parts;
    this.become('noting');
    if (!this.hasBudget && !takeBudget()) {
      const why = 'the task has made all calls of tools that it may make (mcp.limits.calls_per_task)';
      this.turnAway('budget_exhausted', why, 'over_budget');
      return;
    }
    this.hasBudget = true;
    const { breaker, name } = server;
    if (!breaker.admits) {
      breaker.admit();
      const inS = Math.ceil(Math.max(0, breaker.probeAtMs - context.clock()) / 1000);
      this.turnAway(
        'circuit_open',
        `the tool server ${name} has failed too often, and gets no requests for ${inS} s`,
      );
      return;
    }
    if (place === undefined || this.mayRepeat || this.attempts.count > 0) {
      this.send();
      return;
    }
    context.wheel.arm(this, context.clock() + NOTE_MS);
    void place.noteSent().then(() => {
      if (this.state === 'noting') this.send();
    });
  }

  override onTimeout(): void {
    if (this.state === 'noting') this.send();
    else if (this.state === 'waiting') this.goOn();
  }

  private send(): void {
    const { server, context } = this.parts;
    context.wheel.cancel(this);
    this.become('attempting');
    if (this.attempts.begin(this)) return;
    this.turnAway('circuit_open', `the tool server ${server.name} is being tried by another request`);
  }

  private turnAway(reason: McpReason, why: string, outcome: McpOutcome = 'failed'): void {
    this.parts.place?.notDelivered();
    this.endWithout(reason, `${why}; nothing was sent`, outcome);
  }

  // --- The answer ------------------------------------------------------------------------------------------

  onHead(status: number, headers: IncomingHttpHeaders): void {
    if (this.attempts.follows(status, headers.location)) {
      this.become('waiting');
      this.goOn();
      return;
    }
    const reader = new AnswerReader(status, headers, this.settings.limits.maxAnswerBytes, this);
    this.reader = reader;
    if (reader.kind !== 'events' || !reader.isSuccess || this.isStreaming) return;
    this.isStreaming = true;
    const { reply } = this.parts;
    reply.onDrain = () => this.attempts.resume();
    reply.head(status, { ...answerHeaders(headers), ...this.attempts.headers });
    reply.flushHead();
  }

  onData(chunk: Buffer): void {
    if (this.reader?.push(chunk) === false) this.onTooLarge();
  }

  onEvent({ id, json }: ServerEvent, raw: Buffer): void {
    if (!this.attempts.isRunning) return;
    if (id !== '') this.hasEventIds = true;
    const shown = json === undefined ? undefined : this.pending.takeAll(json);
    const bytes = shown === json ? raw : eventOf(shown as JsonObject, id);
    if (!this.parts.reply.write(bytes)) this.attempts.pause();
  }

  onTooLarge(): void {
    this.onFailure({ reason: 'answer_too_large', sent: true, why: failureText('answer_too_large') });
  }

  onEnd(): void {
    const reader = this.reader!;
    if (reader.kind === 'events' && reader.isSuccess) this.endOfStream();
    else if (reader.isSuccess) this.endOfPlain(reader);
    else this.endOfError(reader);
  }

  private endOfStream(): void {
    if (this.pending.isEmpty) this.pass(() => this.parts.reply.end());
    else this.onFailure({ reason: 'answer_cut', sent: true, why: failureText('answer_cut') });
  }

  private endOfPlain(reader: AnswerReader): void {
    const json = reader.json();
    const shown = json === undefined ? undefined : this.pending.takeAll(json);
    if (!this.pending.isEmpty) {
      this.onFailure({ reason: 'malformed_answer', sent: true, why: failureText('malformed_answer') });
      return;
    }
    const { reply } = this.parts;
    this.pass(() => {
      if (this.isStreaming) {
        reply.write(eventOf(shown as JsonObject));
        reply.end();
      } else this.passPlain(reader, shown === json ? reader.body : Buffer.from(JSON.stringify(shown)));
    });
  }

  /** The server answered with an error of HTTP. */
  private endOfError(reader: AnswerReader): void {
    const { status } = reader;
    const json = reader.json();
    if (json !== undefined && status >= 500) this.pending.takeAll(json);
    const isAnswered = this.pending.isEmpty;
    if (!isAnswered && isFault(status, this.hasCalls, this.mayRepeat)) {
      this.onFailure({ reason: 'status', sent: true, why: `${failureText('status')} (HTTP ${status})` });
      return;
    }
    if (!isAnswered) this.pending.outcome = 'error';
    this.endAttempt(status === 429 ? 'neutral' : status >= 500 ? 'failure' : 'success', String(status));
    this.parts.place?.clear();
    this.passPlain(reader, reader.body);
    this.finish('error');
  }

  private passPlain({ status, headers }: AnswerReader, body: Buffer): void {
    const { reply } = this.parts;
    if (this.isStreaming) {
      reply.breakOff(undefined);
      return;
    }
    reply.head(status, {
      ...answerHeaders(headers),
      ...this.attempts.headers,
      'content-length': String(body.length),
    });
    reply.write(body);
    reply.end();
  }

  /** Every request has its answer. */
  private pass(write: () => void): void {
    const { place } = this.parts;
    const { outcome, callAnswer } = this.pending;
    if (outcome === 'error') place?.clear();
    else if (callAnswer !== undefined) place?.keep(callAnswer['result'] as JsonObject);
    // The agent has its answer before anything is counted.
    write();
    this.endAttempt('success', '');
    this.finish(outcome);
  }

  onFailure(failure: McpFailure): void {
    if (this.state !== 'attempting') return;
    if (this.pending.isEmpty) {
      this.pass(() => this.parts.reply.end());
      return;
    }
    this.endAttempt(this.isCancelled ? 'neutral' : 'failure', failure.reason, failure.why);
    if (this.isCancelled) this.giveUp(failure, 'cancelled');
    else if (this.isStreaming && this.hasEventIds && isResumable(failure, this.request)) {
      if (failure.reason === 'answer_cut' && this.reader?.kind === 'events')
        this.parts.reply.breakOff(undefined);
      this.finish('resumable');
    } else if (!this.retries(failure)) {
      if (failure.sent && outcomeOf(failure) === 'timeout')
        cancelAtServer(this.parts, this.pending.requests, failure.why);
      this.giveUp(failure);
    }
  }

  private get mayRepeat(): boolean {
    return mayRepeat(this.parts.server, this.request.requests);
  }

  private retries(failure: McpFailure): boolean {
    const atMs = this.attempts.againAtMs(failure, this.mayRepeat, this.reader?.status);
    if (atMs === undefined) return false;
    this.become('waiting');
    this.parts.context.wheel.arm(this, atMs);
    return true;
  }

  /** No other attempt follows. */
  private giveUp(failure: McpFailure, ended?: McpOutcome, reason?: McpReason): void {
    const { place } = this.parts;
    const { sent, why } = failure;
    const said = reason ?? (failure.reason === 'status' ? 'upstream_failed' : failure.reason);
    const outcome = ended ?? outcomeOf(failure);
    if (sent && this.hasCalls && !this.mayRepeat) {
      this.unknown(why, ended ?? 'unknown');
      return;
    }
    if (sent) place?.notDelivered();
    else place?.clear();
    if (failure.reason === 'status' && this.reader !== undefined && !this.isStreaming && !this.hasCalls) {
      this.passPlain(this.reader, this.reader.body);
      this.finish(outcome);
      return;
    }
    const remedy = sent
      ? 'nothing can have happened twice; try again later'
      : 'nothing was sent; try again later';
    this.endWithout(said, `${why}; ${remedy}`, outcome);
  }

  private unknown(why: string, outcome: McpOutcome): void {
    this.endWithout('outcome_unknown', unknownText(why), outcome);
  }

  /** Ends with an answer of our own to each request that has none. */
  private endWithout(reason: McpReason, text: string, outcome: McpOutcome): void {
    const { reply } = this.parts;
    const answers = failuresOf(this.pending.requests, reason, text, this.request.revision);
    if (this.hasCalls) this.pending.callAnswer = answers.at(-1);
    this.report.refused(reason);
    if (this.isStreaming) {
      for (const answer of answers) reply.write(eventOf(answer));
      reply.end();
    } else {
      const isOfTools = this.request.calls.length === this.request.requests.length;
      sendJson(reply, isOfTools ? 200 : statusOf(reason), this.request.isBatch ? answers : answers[0]!, {
        'outrigger-reason': reason,
        ...this.attempts.headers,
      });
    }
    this.finish(outcome, reason);
  }

  // --- The end ---------------------------------------------------------------------------------------------

  /** The agent has left. */
  cancel(): void {
    if (this.state === 'over' || this.joined.isWanted) return;
    const { place } = this.parts;
    const { sent } = this.attempts;
    const comesBack = this.hasEventIds && !this.request.revision.isStateless;
    // The revisions with sessions take no lost connection for a cancel; without event ids nobody can fetch the answer.
    if (sent && !comesBack && !this.isCancelled)
      cancelAtServer(this.parts, this.pending.requests, 'the client has closed its connection');
    this.endAttempt('neutral', '');
    if (sent) place?.notDelivered();
    else place?.clear();
    this.finish(comesBack ? 'resumable' : 'cancelled', comesBack ? '' : 'cancelled');
  }

  /** The agent has said that it wants no answer; the server hears of it by the same message. */
  cancelledByAgent(): void {
    this.isCancelled = true;
    if (this.state === 'attempting' || this.state === 'over') return;
    this.giveUp(
      { reason: 'deadline', sent: false, why: 'the agent has cancelled the request' },
      'cancelled',
      'call_ended',
    );
  }

  endForDrain(): void {
    this.endEarly('draining', 'the sidecar is shutting down', 'failed');
  }

  private endOfOwner(isLate: boolean): void {
    const why = 'the task that this call was made for has ended';
    this.endEarly(isLate ? 'deadline' : 'call_ended', why, isLate ? 'timeout' : 'cancelled');
  }

  private endEarly(reason: McpReason, why: string, outcome: McpOutcome): void {
    if (this.state === 'over') return;
    const { sent } = this.attempts;
    if (sent) cancelAtServer(this.parts, this.pending.requests, why);
    this.endAttempt('neutral', '');
    this.giveUp({ reason: 'deadline', sent, why }, outcome, reason);
  }

  private endAttempt(verdict: 'success' | 'failure' | 'neutral', why: string, error = why): void {
    this.attempts.end(verdict, why, error);
    this.reader?.end();
  }

  private finish(outcome: McpOutcome, reason = ''): void {
    if (this.state === 'over') return;
    const { context, reply, onOver } = this.parts;
    this.become('over');
    context.wheel.cancel(this);
    this.leaveOwner();
    this.attempts.releaseRetry();
    const { callAnswer, errorCode } = this.pending;
    this.joined.answer(callAnswer);
    this.report.end({ outcome, reason, status: reply.status, errorCode, attempts: this.attempts.count });
    onOver();
  }

  private become(state: McpExchangeState): void {
    this.state = step(MCP_EXCHANGE_ARROWS, this.state, state);
  }
}
