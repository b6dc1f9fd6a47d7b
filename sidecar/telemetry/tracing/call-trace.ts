import { Status, type StatusCode, statusName } from '../../grpc/status.ts';
import { TASK_STATUS_NAMES } from '../../task/task-message.ts';
import { NO_ATTRIBUTES } from './shapes.ts';
import type { Attributes, AttributeValue, Span, SpanEvent, SpanLink, SpanShape } from './span.ts';
import type { TracedAttempt, TracedCall } from './traced-call.ts';
import type { Tracer } from './tracer.ts';

/** Events beyond this are counted only. */
const MAX_EVENTS = 32;
/** Ids of attempts that are kept; what comes later has no span of its own. */
const MAX_ATTEMPTS = 64;

/**
 * The trace of one call that is recorded: its own span, SERVER or CLIENT, and below it, on the outbound side, a span
 * an attempt. It becomes the span that is written down when the call ends.
 */
export class CallTrace implements Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly parentIsRemote: boolean;
  readonly traceState: string;
  readonly startedAtMs: number;
  endedAtMs = 0;
  shape!: SpanShape;
  attributes: Attributes = NO_ATTRIBUTES;
  events: SpanEvent[] | undefined = undefined;
  droppedEvents = 0;
  links: SpanLink[] | undefined = undefined;
  failed = false;
  readonly statusMessage = '';
  /** How the answer of another call came to this one: `joined` or `replayed`. */
  deduplicated = '';
  private readonly tracer: Tracer;
  /** At the attempt's number less one. */
  private attemptSpanIds: string[] | undefined = undefined;
  private attemptEvents: SpanEvent[] | undefined = undefined;
  private transparentSeen = 0;
  /** Of the attempt that runs: it followed one which was provably never processed. */
  private transparent = false;

  constructor(
    tracer: Tracer,
    traceId: string,
    spanId: string,
    parentSpanId: string,
    parentIsRemote: boolean,
    traceState: string,
    startedAtMs: number,
  ) {
    this.tracer = tracer;
    this.traceId = traceId;
    this.spanId = spanId;
    this.parentSpanId = parentSpanId;
    this.parentIsRemote = parentIsRemote;
    this.traceState = traceState;
    this.startedAtMs = startedAtMs;
  }

  /** Notes what happened to the call. */
  event(name: string, atMs: number, attributes: Attributes = NO_ATTRIBUTES): void {
    this.events ??= [];
    if (this.events.length >= MAX_EVENTS) this.droppedEvents++;
    else this.events.push({ name, atMs, attributes });
  }

  /** Notes what happened to the attempt that runs, or has just ended. */
  attemptEvent(name: string, atMs: number, attributes: Attributes = NO_ATTRIBUTES): void {
    this.attemptEvents ??= [];
    if (this.attemptEvents.length < MAX_EVENTS) this.attemptEvents.push({ name, atMs, attributes });
  }

  /** Gets the answer of another call; points to it when it is recorded. */
  follow(runner: CallTrace | null | undefined, how: string): void {
    this.deduplicated = how;
    if (runner) this.links = [{ traceId: runner.traceId, spanId: runner.spanId }];
  }

  /** The span that the upstream's spans hang below: of the attempt, or of the call where attempts have none. */
  beginAttempt(call: TracedCall): string {
    if (call.context.listener === 'inbound') return this.spanId;
    const number = call.attempt?.number ?? 1;
    return number > MAX_ATTEMPTS ? this.spanId : this.attemptSpanId(number);
  }

  private attemptSpanId(number: number): string {
    this.attemptSpanIds ??= [];
    return (this.attemptSpanIds[number - 1] ??= this.tracer.newSpanId());
  }

  /** An attempt has been judged. */
  endAttempt(call: TracedCall, attempt: TracedAttempt): void {
    this.transparent = call.transparentRetries > this.transparentSeen;
    this.transparentSeen = call.transparentRetries;
    const endedAtMs = attempt.startedAtMs + attempt.elapsedMs;
    if (attempt.verdict.cooldown || attempt.pushbackMs !== undefined) {
      const pushback = attempt.pushbackMs;
      const details = pushback === undefined ? NO_ATTRIBUTES : ['outrigger.pushback_ms', pushback];
      this.attemptEvent('outrigger.throttled', endedAtMs, details);
    }
    if (call.context.listener === 'inbound' || attempt.number > MAX_ATTEMPTS) this.noteAttempt(attempt);
    else this.writeAttempt(call, attempt, endedAtMs);
    this.attemptEvents = undefined;
  }

  /** On the inbound side there is one app: what an attempt at it came to is told where it failed. */
  private noteAttempt(attempt: TracedAttempt): void {
    const { verdict, status, number } = attempt;
    const endedAtMs = attempt.startedAtMs + attempt.elapsedMs;
    for (const { name, atMs, attributes } of this.attemptEvents ?? []) this.event(name, atMs, attributes);
    if (verdict.outcome === 'failure') {
      this.event('outrigger.attempt_failed', endedAtMs, [
        'outrigger.attempt.number',
        number,
        'outrigger.verdict.reason',
        verdict.reason,
        'rpc.response.status_code',
        statusName(status),
      ]);
    }
  }

  private writeAttempt(call: TracedCall, attempt: TracedAttempt, endedAtMs: number): void {
    const { number, status, verdict } = attempt;
    const attributes: AttributeValue[] = [
      'outrigger.attempt.number',
      number,
      'outrigger.verdict',
      verdict.outcome,
      'outrigger.verdict.reason',
      verdict.reason,
    ];
    // The names of gRPC proposal A72.
    attributes.push('previous-rpc-attempts', number - 1 - call.transparentRetries);
    attributes.push('transparent-retry', this.transparent);
    // An attempt that was given up has no answer: what ended it is told in place of a code.
    if (call.info.grpc) attributes.push('rpc.response.status_code', statusName(status));
    if (status !== Status.OK) attributes.push('error.type', statusName(status));
    if (attempt.kind !== 'status') attributes.push('outrigger.attempt.end', attempt.kind);
    if (attempt.peerReason !== '') attributes.push('outrigger.peer_reason', attempt.peerReason);
    this.tracer.write({
      shape: this.tracer.shapes.ofAttempt(call, attempt),
      traceId: this.traceId,
      spanId: this.attemptSpanId(number),
      parentSpanId: this.spanId,
      parentIsRemote: false,
      traceState: this.traceState,
      startedAtMs: attempt.startedAtMs,
      endedAtMs,
      attributes,
      events: this.attemptEvents,
      droppedEvents: 0,
      links: undefined,
      failed: status !== Status.OK,
      statusMessage: '',
    });
  }

  /** The call is over. */
  end(call: TracedCall, endedAtMs: number): void {
    this.endedAtMs = endedAtMs;
    this.shape = this.tracer.shapes.ofCall(call);
    const { status, task, reason, attempts } = call;
    const attributes: AttributeValue[] = [];
    const inbound = call.context.listener === 'inbound';
    if (status !== -1 && call.info.grpc) {
      attributes.push('rpc.response.status_code', statusName(status));
      this.failed = inbound ? isServerError(status) : status !== Status.OK;
      if (this.failed) attributes.push('error.type', statusName(status));
    }
    if (reason !== undefined) {
      attributes.push('outrigger.reason', reason);
      if (reason === 'circuit_open') this.event('outrigger.circuit_rejected', endedAtMs);
    }
    if (!inbound) attributes.push('outrigger.attempts', attempts);
    if (task !== undefined) {
      if (task.taskId !== '') attributes.push('outrigger.task.id', task.taskId);
      if (task.correlationId !== '') attributes.push('gen_ai.conversation.id', task.correlationId);
    }
    this.addOutcome(call, attributes);
    if (this.deduplicated !== '') attributes.push('outrigger.deduplicated', this.deduplicated);
    this.attributes = attributes;
    this.tracer.write(this);
  }

  private addOutcome(call: TracedCall, attributes: AttributeValue[]): void {
    const { observer } = call.response;
    const scanner = call.attempt?.scanner;
    let taskStatus = observer?.taskStatus ?? -1;
    let tokensUsed = observer?.tokensUsed ?? 0;
    if (observer === undefined && scanner?.seen === true) {
      taskStatus = scanner.status;
      tokensUsed = scanner.tokensUsed;
    }
    if (taskStatus < 0) return;
    attributes.push('outrigger.task.status', TASK_STATUS_NAMES[taskStatus] ?? String(taskStatus));
    if (tokensUsed > 0) attributes.push('outrigger.task.tokens_used', tokensUsed);
  }
}

/** What counts as an error of a server (semantic conventions for gRPC, "Span status"); other codes are the caller's. */
function isServerError(status: StatusCode): boolean {
  switch (status) {
    case Status.UNKNOWN:
    case Status.DEADLINE_EXCEEDED:
    case Status.UNIMPLEMENTED:
    case Status.INTERNAL:
    case Status.UNAVAILABLE:
    case Status.DATA_LOSS:
      return true;
    default:
      return false;
  }
}
