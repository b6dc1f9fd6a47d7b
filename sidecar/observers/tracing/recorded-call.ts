/** The spans of a call and its attempts. */
import { Status, type StatusCode, statusName } from '../../grpc/status.ts';
import type { CallTrace, ObservedAttempt, ObservedCall } from '../../proxy/observed-call.ts';
import { OTHER_METHOD } from '../../telemetry/call-stats.ts';
import { spanIdText } from '../../telemetry/ids.ts';
import {
  type Attributes,
  type AttributeValue,
  NO_ATTRIBUTES,
  type Span,
  type SpanEvent,
  type SpanLink,
  type SpanShape,
} from '../../telemetry/tracing/span.ts';
import { originalMethod, spanMethod } from './shapes.ts';
import type { SpanRecorder } from './span-recorder.ts';

/** Further events are only counted. */
const MAX_EVENTS = 32;
/** Further attempts have no span of their own. Configurations allow ten, and a few more for transparent retries. */
const MAX_ATTEMPTS = 31;

/**
 * The trace of one recorded call: its own span, SERVER or CLIENT, and on the outbound side a child span for each
 * attempt. When the call ends, this object is its span.
 */
export class RecordedCall implements Span, CallTrace {
  readonly traceId: string;
  readonly spanHigh: number;
  readonly spanLow: number;
  readonly parentHigh: number;
  readonly parentLow: number;
  readonly parentIsRemote: boolean;
  readonly traceState: string;
  /** Includes `DEBUG` if the context had it. */
  readonly traceFlags: number;
  readonly startedAtMs: number;
  endedAtMs = 0;
  shape!: SpanShape;
  attributes: Attributes = NO_ATTRIBUTES;
  events: SpanEvent[] | undefined = undefined;
  droppedEvents = 0;
  links: SpanLink[] | undefined = undefined;
  failed = false;
  readonly statusMessage = '';
  /** How this call received the answer of another call; '' when it did not. */
  private deduplicated: 'joined' | 'replayed' | '' = '';
  private readonly recorder: SpanRecorder;
  /** The number of the attempt whose span is current; 0 before the first. */
  private attemptNumber = 0;
  private attemptHigh = 0;
  private attemptLow = 0;
  /** The spans of other attempts that a hedged call has in flight: number, high and low in turn. */
  private otherAttempts: number[] | undefined = undefined;
  private attemptEvents: SpanEvent[] | undefined = undefined;
  private transparentSeen = 0;
  /** A bit for each attempt that was a transparent retry. */
  private transparentBits = 0;

  constructor(
    recorder: SpanRecorder,
    traceId: string,
    parentHigh: number,
    parentLow: number,
    parentIsRemote: boolean,
    traceState: string,
    traceFlags: number,
    startedAtMs: number,
  ) {
    this.recorder = recorder;
    this.traceId = traceId;
    this.spanHigh = recorder.ids.next();
    this.spanLow = recorder.ids.nextOdd();
    this.parentHigh = parentHigh;
    this.parentLow = parentLow;
    this.parentIsRemote = parentIsRemote;
    this.traceState = traceState;
    this.traceFlags = traceFlags;
    this.startedAtMs = startedAtMs;
  }

  get spanId(): string {
    return spanIdText(this.spanHigh, this.spanLow);
  }

  /** Adds an event to the call. */
  event(name: string, atMs: number, attributes: Attributes = NO_ATTRIBUTES): void {
    this.events ??= [];
    if (this.events.length >= MAX_EVENTS) this.droppedEvents++;
    else this.events.push({ name, atMs, attributes });
  }

  /** Adds an event to the attempt that ends. */
  attemptEvent(name: string, atMs: number, attributes: Attributes = NO_ATTRIBUTES): void {
    this.attemptEvents ??= [];
    if (this.attemptEvents.length < MAX_EVENTS) this.attemptEvents.push({ name, atMs, attributes });
  }

  /** This call receives the answer of another call; links to that call if it is recorded. */
  follow(runner: CallTrace | null | undefined, how: 'joined' | 'replayed'): void {
    this.deduplicated = how;
    if (runner) this.links = [{ traceId: runner.traceId, spanId: runner.spanId }];
  }

  /**
   * Passes the parent of the upstream's spans to `take`: the span of the new attempt, or the span of the call where
   * attempts have none.
   */
  beginAttempt(call: ObservedCall, number: number, take: (high: number, low: number) => void): void {
    if (call.context.listener === 'inbound' || number > MAX_ATTEMPTS) {
      take(this.spanHigh, this.spanLow);
      return;
    }
    if (number !== this.attemptNumber) this.turnTo(number, call);
    take(this.attemptHigh, this.attemptLow);
  }

  /** Makes the span of this attempt current; begins it if it is new. */
  private turnTo(number: number, call: ObservedCall): void {
    if (call.transparentRetries > this.transparentSeen) {
      this.transparentSeen = call.transparentRetries;
      this.transparentBits |= 1 << (number - 1);
    }
    if (this.attemptNumber !== 0) {
      const others = (this.otherAttempts ??= []);
      others.push(this.attemptNumber, this.attemptHigh, this.attemptLow);
      for (let i = 0; i < others.length; i += 3) {
        if (others[i] !== number) continue;
        const [, high, low] = others.splice(i, 3) as [number, number, number];
        this.attemptNumber = number;
        this.attemptHigh = high;
        this.attemptLow = low;
        return;
      }
    }
    this.attemptNumber = number;
    this.attemptHigh = this.recorder.ids.next();
    this.attemptLow = this.recorder.ids.nextOdd();
  }

  /** Records the verdict on an attempt. */
  endAttempt(call: ObservedCall, attempt: ObservedAttempt): void {
    const endedAtMs = attempt.startedAtMs + attempt.elapsedMs;
    if (attempt.verdict.cooldown || attempt.pushbackMs !== undefined) {
      const pushback = attempt.pushbackMs;
      const details = pushback === undefined ? NO_ATTRIBUTES : ['outrigger.pushback_ms', pushback];
      this.attemptEvent('outrigger.throttled', endedAtMs, details);
    }
    if (call.context.listener === 'inbound' || attempt.number > MAX_ATTEMPTS)
      this.noteAttempt(attempt, endedAtMs);
    else this.writeAttempt(call, attempt, endedAtMs);
    this.attemptEvents = undefined;
  }

  /** The inbound side has one app, so only a failed attempt adds an event. */
  private noteAttempt({ verdict, status, number }: ObservedAttempt, endedAtMs: number): void {
    for (const { name, atMs, attributes } of this.attemptEvents ?? []) this.event(name, atMs, attributes);
    if (verdict.outcome !== 'failure') return;
    this.event('outrigger.attempt_failed', endedAtMs, [
      'outrigger.attempt.number',
      number,
      'outrigger.verdict.reason',
      verdict.reason,
      'rpc.response.status_code',
      statusName(status),
    ]);
  }

  private writeAttempt(call: ObservedCall, attempt: ObservedAttempt, endedAtMs: number): void {
    const { number, status, kind, peerReason } = attempt;
    // An attempt that never got a stream has not begun a span yet.
    if (number !== this.attemptNumber) this.turnTo(number, call);
    const span = this.recorder.attemptSpan;
    span.spanHigh = this.attemptHigh;
    span.spanLow = this.attemptLow;
    let attributes: Attributes = NO_ATTRIBUTES;
    const method = spanMethod(call, status, attempt);
    if (kind !== 'status' || peerReason !== '' || method === OTHER_METHOD) {
      const more: AttributeValue[] = method === OTHER_METHOD ? originalMethod(call) : [];
      // The cause of the end, where it was no answer.
      if (kind !== 'status') more.push('outrigger.attempt.end', kind);
      if (peerReason !== '') more.push('outrigger.peer_reason', peerReason);
      attributes = more;
    }
    span.shape = this.recorder.shapes.ofAttempt(
      call,
      attempt,
      method,
      Math.max(0, number - 1 - call.transparentRetries),
      (this.transparentBits & (1 << (number - 1))) !== 0,
    );
    span.traceId = this.traceId;
    span.parentHigh = this.spanHigh;
    span.parentLow = this.spanLow;
    span.traceState = this.traceState;
    span.traceFlags = this.traceFlags;
    span.startedAtMs = attempt.startedAtMs;
    span.endedAtMs = endedAtMs;
    span.attributes = attributes;
    span.events = this.attemptEvents;
    // The losing attempt of a hedge has not failed.
    span.failed = status !== Status.OK && kind !== 'superseded';
    this.recorder.write(span);
  }

  /** The call is over. */
  end(call: ObservedCall, endedAtMs: number): void {
    this.endedAtMs = endedAtMs;
    const { status, task, reason } = call;
    const inbound = call.context.listener === 'inbound';
    if (status !== -1 && call.info.grpc)
      this.failed = inbound ? SERVER_ERRORS[status] === true : status !== Status.OK;
    const { observer } = call.response;
    const scanner = call.attempt?.scanner;
    let taskStatus = observer?.taskStatus ?? -1;
    let tokensUsed = observer?.tokensUsed ?? 0;
    if (observer === undefined && scanner?.seen === true) {
      taskStatus = scanner.status;
      tokensUsed = scanner.tokensUsed;
    }
    const method = spanMethod(call, status, call.attempt);
    this.shape = this.recorder.shapes.ofCall(call, method, this.failed, taskStatus);
    const attributes: AttributeValue[] = method === OTHER_METHOD ? originalMethod(call) : [];
    if (task !== undefined) {
      if (task.taskId !== '') attributes.push('outrigger.task.id', task.taskId);
      if (task.correlationId !== '') attributes.push('gen_ai.conversation.id', task.correlationId);
    }
    if (taskStatus >= 0 && tokensUsed > 0) attributes.push('outrigger.task.tokens_used', tokensUsed);
    if (this.deduplicated !== '') attributes.push('outrigger.deduplicated', this.deduplicated);
    if (call.callerIdentity !== undefined) attributes.push('outrigger.caller', call.callerIdentity);
    if (reason !== undefined) {
      attributes.push('outrigger.reason', reason);
      if (reason === 'circuit_open') this.event('outrigger.circuit_rejected', endedAtMs);
    }
    this.attributes = attributes;
    this.recorder.write(this);
  }
}

/**
 * Whether a code counts as an error of a server (semantic conventions for gRPC, "Span status"); other codes are errors
 * of the caller.
 */
const SERVER_ERRORS: Readonly<Record<number, boolean>> = {
  [Status.OK]: false,
  [Status.CANCELLED]: false,
  [Status.UNKNOWN]: true,
  [Status.INVALID_ARGUMENT]: false,
  [Status.DEADLINE_EXCEEDED]: true,
  [Status.NOT_FOUND]: false,
  [Status.ALREADY_EXISTS]: false,
  [Status.PERMISSION_DENIED]: false,
  [Status.RESOURCE_EXHAUSTED]: false,
  [Status.FAILED_PRECONDITION]: false,
  [Status.ABORTED]: false,
  [Status.OUT_OF_RANGE]: false,
  [Status.UNIMPLEMENTED]: true,
  [Status.INTERNAL]: true,
  [Status.UNAVAILABLE]: true,
  [Status.DATA_LOSS]: true,
  [Status.UNAUTHENTICATED]: false,
} satisfies Record<StatusCode, boolean>;
